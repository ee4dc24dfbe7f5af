"""Files in a folder: each has its name only once it is whole and kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage

from hub.core.streams import CHUNK, Reading

INCOMING = "incoming"
"""Where files are written before they get their names."""

PROBE_BYTES = 2**16


class FolderStorage(FileSystemStorage):
    """Files are written and synced under a temporary name, then renamed: whoever finds a file finds all of it, also
    after the process, the machine or the disk's room ended in the middle."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # a file that is there is replaced

    def _save(self, name: str, content: File[Any]) -> str:
        path = Path(self.path(name))
        for folder in (path.parent, self._incoming):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            try:
                shutil.copyfileobj(content, file, CHUNK)
                file.flush()
                os.fchmod(file.fileno(), self.file_permissions_mode or 0o640)
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
        _sync_folder(path.parent)
        return name

    @property
    def _incoming(self) -> Path:
        return Path(self.location) / INCOMING

    def renew(self, name: str) -> bool:
        """Make the file's time now. False where there is none."""
        try:
            os.utime(self.path(name))
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, first: int, length: int | None) -> Reading:
        stream = Path(self.path(name)).open("rb")  # noqa: SIM115 - Reading closes it
        stream.seek(first)
        return Reading(stream, length)

    def listed(self, folder: str) -> Iterator[tuple[str, datetime, int]]:
        """Last part of the name, time, bytes of every file below ``folder``."""
        for path in Path(self.path(folder)).glob("*/*/*"):
            try:
                found = path.stat()
            except FileNotFoundError:  # deleted meanwhile
                continue
            yield path.name, datetime.fromtimestamp(found.st_mtime, UTC), found.st_size

    def forget_unfinished(self, *, older: timedelta) -> None:
        """Delete what a process that was killed had begun to write."""
        oldest = (datetime.now(UTC) - older).timestamp()
        for path in self._incoming.glob("*"):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def reachable(self) -> None:
        """Raises OSError where no file can be written: a full disk still lets one be made."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._incoming) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Keep the new name through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
