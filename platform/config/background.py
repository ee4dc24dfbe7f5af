"""``python -m config.background platform|datasets|webhooks``: a part of the platform that works by itself.

``platform`` holds the beat, and there must be one of it. Its beat is a process of its own below the worker's: neither
goes on without the other, and both end when the reaper has not run for a while, so that whoever supervises this
process (compose, Helm, `make up`) starts it again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

from celery.signals import beat_embedded_init, beat_init, task_postrun, worker_ready

from config.celery import app
from hub.core import parts
from hub.core.queue import enqueue

REAPER = "jobs.reap"
CONCURRENCY = {parts.PLATFORM: 2, parts.DATASETS: 2, parts.WEBHOOKS: 8}
STUCK_SECONDS = 120.0
"""A reaper that has not run for so long is stuck, or its beat is gone."""
LOADED_BY = os.getpid()  # in a worker with a beat: the worker, of which the beat is a fork


@beat_embedded_init.connect
def end_with_the_worker(**_: object) -> None:
    """The beat must not go on alone when the worker is killed, be it before this line."""

    def watch() -> None:
        while os.getppid() == LOADED_BY:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="watch-worker", daemon=True).start()


def reap_at_once(**_: object) -> None:
    """The beat's first turn comes only after the reaper's interval."""
    enqueue(REAPER, queue=parts.PLATFORM)


def watch_the_reaper(**_: object) -> None:
    last = time.monotonic()

    def ran(task: object = None, **_: object) -> None:
        nonlocal last
        if getattr(task, "name", "") == REAPER:
            last = time.monotonic()

    def watch() -> None:
        while time.monotonic() - last < STUCK_SECONDS:
            time.sleep(1)
        parts.log.error("reaper_stuck", seconds=STUCK_SECONDS)
        os._exit(1)

    task_postrun.connect(ran, weak=False)
    threading.Thread(target=watch, name="watch-reaper", daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.background", description=__doc__)
    parser.add_argument("part", choices=CONCURRENCY)
    part = parser.parse_args().part
    arguments = ["worker", "--pool=threads", f"--concurrency={CONCURRENCY[part]}", f"--queues={part}"]
    arguments += [f"--hostname={part}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    arguments += ["--loglevel=INFO"]
    with tempfile.TemporaryDirectory(prefix="sparsewright-beat-") as folder:
        if part == parts.PLATFORM:
            arguments += ["--beat", f"--schedule={Path(folder) / 'schedule'}"]
            beat_init.connect(reap_at_once)
            beat_embedded_init.connect(reap_at_once)
            worker_ready.connect(watch_the_reaper)
        else:
            worker_ready.connect(lambda **_: parts.beating(part), weak=False)
        app.worker_main(arguments)


if __name__ == "__main__":
    main()
