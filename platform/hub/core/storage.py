"""Content-addressed files in Django's default storage (a folder or a bucket): a file's name is its sha256."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

from django.core.files import File
from django.core.files.storage import default_storage

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
        name = blob_name(sha256)
        if not default_storage.exists(name):
            spool.seek(0)
            default_storage.save(name, File(spool))
    return sha256, size


def open_blob(sha256: str) -> IO[bytes]:
    """The blob as a seekable binary file; the caller closes it. Raises FileNotFoundError."""
    return default_storage.open(blob_name(sha256), "rb")
