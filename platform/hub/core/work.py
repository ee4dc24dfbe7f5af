"""Whether the work of a part moves: a thread that only says "I live" goes on although all others wait for each other.

A part moves while no task takes longer than it may, or stands still (its thread does not use the processor), and while
something ended in its pool a short while ago, unless every thread has a task. Where there is no work, a turn (an
empty task) goes from this process through the broker, the consumer and the pool: if it does not come back, none of the
real ones would.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from hub.core.queue import enqueue

TURN = "parts.turn"
TURN_SECONDS = 10.0
BACK_SECONDS = 45.0
"""In this time a turn is back where a thread was free; it covers a broker that was away for a moment."""
TASK_SECONDS = 120.0
"""How long a task may take that does not say so itself (``time_limit``, which a pool of threads cannot hold)."""


STILL_SECONDS = 120.0
"""How long a task may wait for others (locks, the storage) without using the processor; it may take longer in all."""
MIN_CPU_SECONDS = 0.05
"""What a thread that lives uses of the processor; one that only wakes to look uses less."""


def used(thread: int) -> float:
    """Seconds of the processor that a thread which lives has used."""
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


@dataclass
class Running:
    """A task: until when it may run, in which thread, what that has used, and when it was seen to use more."""

    until: float
    thread: int
    used: float
    moved: float

    def moves(self, now: float) -> bool:
        found = used(self.thread)
        if found - self.used >= MIN_CPU_SECONDS:
            self.used, self.moved = found, now
        return now <= self.until and now - self.moved <= STILL_SECONDS


class Work:
    def __init__(self, part: str, threads: int) -> None:
        self.part, self.threads = part, threads
        self._running: dict[str, Running] = {}
        self._ended = self._asked = time.monotonic()

    def begun(self, *, task_id: str, task: Any, **_: object) -> None:
        """Called in the task's own thread."""
        now, thread = time.monotonic(), threading.get_ident()
        self._running[task_id] = Running(now + (task.time_limit or TASK_SECONDS), thread, used(thread), now)

    def ended(self, *, task_id: str, **_: object) -> None:
        self._running.pop(task_id, None)
        self._ended = time.monotonic()

    def moves(self) -> bool:
        """Also sends a turn on its way when one is due."""
        now, running = time.monotonic(), list(self._running.values())
        if not all(task.moves(now) for task in running):
            return False
        if len(running) >= self.threads:
            return True
        if now - max(self._asked, self._ended) >= TURN_SECONDS:
            self._asked = now
            enqueue(TURN, queue=self.part)
        return now - self._ended < BACK_SECONDS
