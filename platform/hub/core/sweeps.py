"""Work that comes round: on many rows, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)
T = TypeVar("T")


def each(work: str, items: Iterable[T], act: Callable[[T], object]) -> int:
    """Act on each item. What fails with one is logged, and keeps no other from its turn: the next sweep tries it
    again. Returns with how many something was done (``act`` did not say False)."""
    done = 0
    for item in items:
        try:
            done += act(item) is not False
        except Exception:  # nobody foresaw it, and the others must not wait for it
            log.exception("sweep_failed", work=work, item=str(item)[:200])
    return done
