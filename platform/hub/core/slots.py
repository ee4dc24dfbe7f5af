"""Few at a time: what waits for somebody else's machine takes one of so many slots, in the whole installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import cache


def take(name: str, most: int, *, seconds: float) -> str | None:
    """The key of a free one of ``most`` slots, to be deleted; None where all are taken. It is free again after
    ``seconds`` where its process died."""
    keys = (f"{name}:{number}" for number in range(most))
    return next((key for key in keys if cache.add(key, 1, timeout=seconds)), None)


@contextmanager
def slot(name: str, most: int, *, seconds: float) -> Iterator[bool]:
    """Whether there was a free one, held until the end of the block."""
    key = take(name, most, seconds=seconds)
    try:
        yield key is not None
    finally:
        if key is not None:
            cache.delete(key)
