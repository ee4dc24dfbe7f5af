"""Binary files in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

CHUNK = 1024 * 1024


def chunks(stream: IO[bytes], length: int | None = None) -> Iterator[bytes]:
    """The rest of the file, or ``length`` bytes of it."""
    while (length is None or length > 0) and (part := stream.read(CHUNK if length is None else min(CHUNK, length))):
        if length is not None:
            length -= len(part)
        yield part


class Reading:
    """The chunks of a file that is open, from where it stands. ``close()`` closes the file, as Django's answers do."""

    def __init__(self, stream: IO[bytes], length: int | None = None) -> None:
        self.stream, self.parts = stream, chunks(stream, length)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.parts)

    def close(self) -> None:
        self.stream.close()
