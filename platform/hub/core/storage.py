"""Content-addressed files in Django's default storage (a folder or a bucket): a file's name is its sha256.

A file's time says when its content was last stored, also where it was there already. So a file that was stored long
ago and that no row refers to is refuse: whoever stores content now has a young file, and the time to refer to it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection, transaction

from hub.core.errors import TooLarge, UserError

CHUNK = 1024 * 1024


def blob_name(sha256: str) -> str:
    """Where a blob lies in the storage; ``sha256`` is 64 lower-case hex digits."""
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("a blob is named by its sha256 in lower-case hex")
    return f"blobs/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def put(parts: Iterable[bytes], *, max_bytes: int, expected_sha256: str | None = None) -> tuple[str, int]:
    """Store ``parts`` and return (sha256, size in bytes).

    Raises :class:`TooLarge` past ``max_bytes`` and :class:`UserError` when the content is not ``expected_sha256``;
    nothing is stored then.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.TemporaryFile() as spool:
        for part in parts:
            size += len(part)
            if size > max_bytes:
                raise TooLarge(f"The file is larger than the {max_bytes:,} bytes that this installation takes.")
            digest.update(part)
            spool.write(part)
        sha256 = digest.hexdigest()
        if expected_sha256 is not None and sha256 != expected_sha256:
            raise UserError(
                f"The {size:,} bytes received have sha256 {sha256}, not {expected_sha256}; send the file again.",
                code="checksum_mismatch",
            )
        spool.seek(0)
        if not _renewed(sha256, spool):
            default_storage.save(blob_name(sha256), File(spool))
    return sha256, size


def _renewed(sha256: str, content: IO[bytes]) -> bool:
    """Whether the storage has the blob; its time is now, then."""
    name = blob_name(sha256)
    if not default_storage.exists(name):
        return False
    with alone(sha256):
        if not default_storage.exists(name):
            return False
        try:
            os.utime(default_storage.path(name))
        except NotImplementedError:  # a bucket: only storing it again gives it a new time
            default_storage.save(name, File(content))
    return True


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
    bucket = getattr(default_storage, "bucket", None)
    if bucket is not None:
        for item in bucket.objects.filter(Prefix="blobs/"):
            yield item.key.rpartition("/")[2], item.last_modified, item.size
        return
    for path in Path(default_storage.path("blobs")).glob("*/*/*"):
        if re.fullmatch("[0-9a-f]{64}", path.name):
            with suppress(FileNotFoundError):  # deleted meanwhile
                found = path.stat()
                yield path.name, datetime.fromtimestamp(found.st_mtime, UTC), found.st_size


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
