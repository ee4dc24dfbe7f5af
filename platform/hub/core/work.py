"""Whether the work of a part moves: a thread that only says "I live" goes on although all others wait for each other.

A part moves while no task takes longer than it may, and while something ended in its pool a short while ago, unless
every thread has a task. Where there is no work, a turn (an empty task) goes from this process through the broker, the
consumer and the pool: if it does not come back, none of the real ones would.
"""

from __future__ import annotations

import time
from typing import Any

from hub.core.queue import enqueue

TURN = "parts.turn"
TURN_SECONDS = 10.0
BACK_SECONDS = 45.0
"""In this time a turn is back where a thread was free; it covers a broker that was away for a moment."""
TASK_SECONDS = 120.0
"""How long a task may take that does not say so itself (``time_limit``, which a pool of threads cannot hold)."""


class Work:
    def __init__(self, part: str, threads: int) -> None:
        self.part, self.threads = part, threads
        self._until: dict[str, float] = {}
        self._ended = self._asked = time.monotonic()

    def begun(self, *, task_id: str, task: Any, **_: object) -> None:
        self._until[task_id] = time.monotonic() + (task.time_limit or TASK_SECONDS)

    def ended(self, *, task_id: str, **_: object) -> None:
        self._until.pop(task_id, None)
        self._ended = time.monotonic()

    def moves(self) -> bool:
        """Also sends a turn on its way when one is due."""
        now, until = time.monotonic(), list(self._until.values())
        if any(end < now for end in until):
            return False
        if len(until) >= self.threads:
            return True
        if now - max(self._asked, self._ended) >= TURN_SECONDS:
            self._asked = now
            enqueue(TURN, queue=self.part)
        return now - self._ended < BACK_SECONDS
