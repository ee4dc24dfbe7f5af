"""Loops that live as long as their process: what one turn raises is logged, and the loop goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


class Pauses:
    """How long to wait after a failure: twice as long after each one in a row."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._failures = 0

    def next(self) -> float:
        # The exponent is bounded: a loop may fail for months.
        pause = min(self._first * 2.0 ** min(self._failures, 32), self._longest)
        self._failures += 1
        return pause

    def reset(self) -> None:
        self._failures = 0


def supervise(
    turn: Callable[[], object], *, until: threading.Event, first: float | None = None, longest: float | None = None
) -> None:
    """Call ``turn`` again and again until the event is set. A turn that raises is logged, and the next one waits."""
    pauses = Pauses(
        FIRST_PAUSE_SECONDS if first is None else first, LONGEST_PAUSE_SECONDS if longest is None else longest
    )
    while not until.is_set():
        try:
            turn()
        except Exception:  # nothing that one turn meets may end the loop
            pause = pauses.next()
            log.exception("%s failed; it goes on in %.1f s", threading.current_thread().name, pause)
            until.wait(pause)
        else:
            pauses.reset()
