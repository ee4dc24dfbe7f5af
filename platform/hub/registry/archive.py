"""A whole version as one stream, tar or zip, uncompressed; members are the manifest's paths in order of their names.

Both lengths are known before the first byte. A tar of a version is the same bytes every time.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from zipstream import ZipStream

from hub.registry.downloads import read_content
from hub.registry.models import ModelVersion, VersionFile

MODE = 0o644


class Archive(Protocol):
    def __iter__(self) -> Iterator[bytes]: ...

    def __len__(self) -> int:
        """Bytes of the whole archive."""
        ...


@dataclass(frozen=True)
class Content:
    """The bytes of one file, opened when they are asked for."""

    file: VersionFile

    def __iter__(self) -> Iterator[bytes]:
        with closing(read_content(self.file.blob_id, self.file.path)) as content:
            yield from content


class Tar:
    def __init__(self, version: ModelVersion, files: list[VersionFile]) -> None:
        self.files = files
        self.headers = [self._header(version, file) for file in files]
        content = sum(
            len(header) + file.blob.size + self._padding(file.blob.size)
            for header, file in zip(self.headers, files, strict=True)
        )
        end = 2 * tarfile.BLOCKSIZE
        self.size = -(-(content + end) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        self.end = self.size - content

    @staticmethod
    def _header(version: ModelVersion, file: VersionFile) -> bytes:
        info = tarfile.TarInfo(file.path)
        info.size, info.mode, info.mtime = file.blob.size, MODE, int(version.created_at.timestamp())
        return info.tobuf(tarfile.GNU_FORMAT)

    @staticmethod
    def _padding(size: int) -> int:
        return -size % tarfile.BLOCKSIZE

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        for header, file in zip(self.headers, self.files, strict=True):
            yield header
            yield from Content(file)
            yield b"\0" * self._padding(file.blob.size)
        yield b"\0" * self.end


def _tar(version: ModelVersion, files: list[VersionFile]) -> Archive:
    return Tar(version, files)


def _zip(version: ModelVersion, files: list[VersionFile]) -> Archive:
    stream = ZipStream(sized=True)
    for file in files:
        stream.add(Content(file), file.path, size=file.blob.size)
    archive: Archive = stream
    return archive


FORMATS = {"tar": (_tar, "application/x-tar"), "zip": (_zip, "application/zip")}


def archive(version: ModelVersion, *, format: str) -> Archive:
    """The archive of ``version`` in one of :data:`FORMATS`. Blobs are opened one after another while it is read."""
    build, _ = FORMATS[format]
    return build(version, list(version.files.select_related("blob").order_by("path")))
