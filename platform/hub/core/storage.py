"""Content-addressed files in Django's default storage (a folder or a bucket): a file's name is its sha256.

A file has its name only once it is whole. One that is found under its name is still read before it is believed, since
a disk can lose what it took.

A file's time says when its content was last stored, also where it was there already. So a file that was stored long
ago and that no row refers to is refuse: whoever stores content now has a young file, and the time to refer to it.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import IO, Protocol, cast

import structlog
from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection, transaction

from hub.core.errors import TooLarge, UserError
from hub.core.streams import Reading
from pst.messages import Message

log = structlog.get_logger(__name__)


class Backend(Protocol):
    """What a storage can do beyond Django's own: hub.core.folder, hub.core.bucket."""

    def renew(self, name: str) -> bool: ...

    def read(self, name: str, first: int, length: int | None) -> Reading: ...

    def listed(self, folder: str) -> Iterator[tuple[str, datetime, int]]: ...

    def forget_unfinished(self, *, older: timedelta) -> None: ...

    def reachable(self) -> None: ...


def _backend() -> Backend:
    return cast(Backend, default_storage)


def blob_name(sha256: str) -> str:
    """Where a blob lies in the storage; ``sha256`` is 64 lower-case hex digits."""
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("a blob is named by its sha256 in lower-case hex")
    return f"blobs/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def put(parts: Iterable[bytes], *, max_bytes: int, expected_sha256: str | None = None) -> tuple[str, int]:
    """Store ``parts`` and return (sha256, size in bytes).

    Raises :class:`TooLarge` past ``max_bytes`` and :class:`UserError` when the content is not ``expected_sha256``;
    nothing is stored then.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as spool:
        for part in parts:
            size += len(part)
            if size > max_bytes:
                raise TooLarge(
                    Message(
                        "The file is larger than the {most:,} bytes that this installation takes.",
                        most=max_bytes,
                    )
                )
            digest.update(part)
            spool.write(part)
        sha256 = digest.hexdigest()
        if expected_sha256 is not None and sha256 != expected_sha256:
            raise UserError(
                Message(
                    "The {size:,} bytes received have sha256 {sha256}, not {expected_sha256}; send the file again.",
                    size=size,
                    sha256=sha256,
                    expected_sha256=expected_sha256,
                ),
                code="checksum_mismatch",
            )
        spool.seek(0)
        _keep(sha256, size, spool)
    return sha256, size


def _keep(sha256: str, size: int, content: IO[bytes]) -> None:
    """Have the blob in the storage, whole, its time now."""
    name = blob_name(sha256)
    if default_storage.exists(name):
        if intact(sha256, size):
            with alone(sha256):
                if _backend().renew(name):
                    return
        else:
            log.error("blob_damaged", sha256=sha256, size=size)
            with alone(sha256):
                default_storage.delete(name)
    default_storage.save(name, File(content))


def intact(sha256: str, size: int) -> bool:
    """Whether the storage holds the blob with the content that its name says; reads all of it."""
    digest, found = hashlib.sha256(), 0
    try:
        reading = read(sha256)
    except FileNotFoundError:
        return False
    try:
        for part in reading:
            digest.update(part)
            found += len(part)
    finally:
        reading.close()
    return found == size and digest.hexdigest() == sha256


@contextmanager
def alone(sha256: str) -> Iterator[None]:
    """A transaction in which nobody else renews or deletes this blob."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int(sha256[:16], 16) - 2**63])
        # SQLite has one writer: the transaction itself keeps the others out.
        yield


def stored() -> Iterator[tuple[str, datetime, int]]:
    """Every blob of the storage: sha256, when it was last stored, size in bytes."""
    for name, when, size in _backend().listed("blobs"):
        if re.fullmatch("[0-9a-f]{64}", name):
            yield name, when, size


def forget_unfinished(*, older: timedelta) -> None:
    """Delete what was begun to be written ``older`` ago and has no name yet: its process was killed."""
    _backend().forget_unfinished(older=older)


def reachable() -> None:
    """Raise whatever the storage raises that can't be used."""
    _backend().reachable()


def stored_at(sha256: str) -> datetime | None:
    """When the blob was last stored; None where there is none."""
    name = blob_name(sha256)
    return default_storage.get_modified_time(name) if default_storage.exists(name) else None


def delete(sha256: str) -> None:
    """Call it within :func:`alone`, having looked there whether anybody needs the blob."""
    default_storage.delete(blob_name(sha256))


def open_blob(sha256: str) -> IO[bytes]:
    """The blob as a seekable binary file; the caller closes it. Raises FileNotFoundError."""
    return default_storage.open(blob_name(sha256), "rb")


def read(sha256: str, first: int = 0, length: int | None = None) -> Reading:
    """``length`` bytes of the blob from ``first`` on, in chunks; all the rest by default. Nothing else is fetched or
    held in memory, from a bucket too. Raises FileNotFoundError at the call, not at the first chunk."""
    return _backend().read(blob_name(sha256), first, length)
