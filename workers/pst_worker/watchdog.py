"""Notices a child that stands still: stopped by a signal, or waiting for a lock that nobody will open.

A child lives while it says something or uses its processor. One that does neither for a while will not do so again.
"""

from __future__ import annotations

import time

from pst_client import hardware

LOOK_SECONDS = 1.0
MIN_CPU_SECONDS = 0.5
"""What a child that lives uses of the processor while it says nothing; threads that only wake to look use less."""


class Watchdog:
    """``session`` is the child's, which all that it starts are in. Call :meth:`heard` from any thread."""

    def __init__(self, session: int, seconds: float) -> None:
        self._session, self._seconds = session, seconds
        self._used = 0.0
        self._alive = self._looked = time.monotonic()

    def heard(self) -> None:
        self._alive = time.monotonic()

    def stuck(self) -> bool:
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            used = hardware.session_seconds(self._session)
            if used - self._used >= MIN_CPU_SECONDS:
                self._used, self._alive = used, now
        return now - self._alive > self._seconds
