"""The platform's own parts say in the cache that they are at work; readiness and the reaper look.

A part that has been silent and is heard again begins anew: ``since`` is when. The reaper ends no lease for time in
which the web tier was away, however it was away: stopped, cut off from the database, or from Redis.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.core.cache import cache
from django.db import close_old_connections, connection

log = structlog.get_logger(__name__)

WEB, PLATFORM, DATASETS, WEBHOOKS = "web", "platform", "datasets", "webhooks"
PARTS = (WEB, PLATFORM, DATASETS, WEBHOOKS)
"""The web tier, the reaper with the beat, the validation of data sets, outbound calls."""
BEAT_SECONDS = 2.0
GAP_SECONDS = 6.0
"""After a silence of so long a part begins anew."""
SILENT_SECONDS = 15.0
"""A part that has not been heard for so long is away."""


@dataclass(frozen=True)
class Heard:
    """Seconds since the epoch: when the part was heard last, and since when without a gap."""

    at: float
    since: float


def beat(part: str, *, anew: bool = False) -> None:
    """Say that the part is at work, ``anew`` where its process has just begun. Raises what the cache raises."""
    now, before = time.time(), None if anew else heard(part)
    since = before.since if before is not None and now - before.at < GAP_SECONDS else now
    cache.set(f"part:{part}", [now, since], timeout=None)


def heard(part: str) -> Heard | None:
    value = cache.get(f"part:{part}")
    return Heard(*value) if value else None


def silent() -> dict[str, str]:
    """The parts that are away, and for how long."""
    found = {}
    for part in PARTS:
        last = heard(part)
        if last is None:
            found[part] = "was never heard"
        elif (gap := time.time() - last.at) >= SILENT_SECONDS:
            found[part] = f"has been silent for {gap:.0f} s"
    return found


def beating(part: str, *, alone: bool, moves: Callable[[], bool] = lambda: True) -> threading.Thread:
    """A thread that says every :data:`BEAT_SECONDS` that this process is at work and has its database.

    ``alone``: it is all there is of the part, so what it did not begin is not under way. While its work does not
    ``moves``, nothing is said, and the part is as good as away.
    """

    anew = alone  # of several processes none may speak for the others

    def say() -> None:
        nonlocal anew
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not moves():
            log.error("work_stands_still", part=part)
            return
        beat(part, anew=anew)
        anew = False

    return supervised(f"beat-{part}", say, seconds=BEAT_SECONDS)


def supervised(name: str, step: Callable[[], None], *, seconds: float) -> threading.Thread:
    """A daemon thread that takes ``step`` every ``seconds``, whatever it raises."""

    def run() -> None:
        while True:
            try:
                close_old_connections()
                step()
            except Exception as error:  # the database or Redis away: the next step tries again
                log.warning("step_failed", thread=name, kind=type(error).__name__, error=str(error)[:200])
            time.sleep(seconds)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
