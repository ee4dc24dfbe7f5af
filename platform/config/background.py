"""``python -m config.background``: the parts of the platform that work by themselves, each in a process of its own.

It starts again a part that ends, and one whose work stands still (hub.core.work). The part ``platform`` holds the
beat, so this command runs once in an installation. The beat is a process below the part's: neither goes on without the
other, and both end when the reaper has not run for a while.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from celery.signals import beat_embedded_init, task_postrun, task_prerun, worker_ready
from redis.exceptions import RedisError

from config.celery import app
from hub.core import parts
from hub.core.queue import enqueue
from hub.core.work import TURN, Work

REAPER = "jobs.reap"
CONCURRENCY = {parts.PLATFORM: 2, parts.DATASETS: 2, parts.WEBHOOKS: 16}
STUCK_SECONDS = 120.0
"""A reaper that has not run for so long is stuck, or its beat is gone."""
FIRST_PAUSE_SECONDS = 0.5
LONG_PAUSE_SECONDS = 30.0
LOOK_SECONDS = 5.0
LOADED_BY = os.getpid()  # in a worker with a beat: the worker, of which the beat is a fork


@app.task(name=TURN)
def turn() -> None:
    """That it is run is all it is for."""


@beat_embedded_init.connect
def end_with_the_worker(**_: object) -> None:
    """The beat must not go on alone when the worker is killed, be it before this line."""
    _end_without(LOADED_BY)


def _end_without(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


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


def run(part: str) -> None:
    arguments = ["worker", "--pool=threads", f"--concurrency={CONCURRENCY[part]}", f"--queues={part}"]
    arguments += [f"--hostname={part}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    arguments += ["--loglevel=INFO"]
    with tempfile.TemporaryDirectory(prefix="sparsewright-beat-") as folder:
        if part == parts.PLATFORM:
            arguments += ["--beat", f"--schedule={Path(folder) / 'schedule'}"]
            beat_embedded_init.connect(reap_at_once)
            worker_ready.connect(watch_the_reaper)
        else:
            work = Work(part, CONCURRENCY[part])
            task_prerun.connect(work.begun, weak=False)
            task_postrun.connect(work.ended, weak=False)
            worker_ready.connect(lambda **_: parts.beating(part, alone=True, moves=work.moves), weak=False)
        app.worker_main(arguments)


class Supervisor:
    """Runs every part as a child of its own and starts again one that ends."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> None:
        threads = [threading.Thread(target=self._keep, args=(part,)) for part in CONCURRENCY]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self, *_: object) -> None:
        self.stopping.set()
        for child in self.children.values():
            child.terminate()

    def _keep(self, part: str) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self.stopping.is_set():
            began = time.monotonic()
            code = self._run(part)
            if self.stopping.is_set():
                return
            long = time.monotonic() - began > LONG_PAUSE_SECONDS
            pause = FIRST_PAUSE_SECONDS if long else min(2 * pause, LONG_PAUSE_SECONDS)
            parts.log.error("part_ended", part=part, code=code, again_in_seconds=pause)
            self.stopping.wait(pause)

    def _run(self, part: str) -> int | None:
        """Run the part to its end, and end it where it has been silent for long: it may be stopped."""
        try:
            command = [sys.executable, "-m", __spec__.name, part, "--parent", str(os.getpid())]
            child = self.children[part] = subprocess.Popen(command)
        except OSError as error:
            parts.log.error("part_not_started", part=part, error=str(error))
            return None
        if self.stopping.is_set():  # stop() may have come before the child was known to it
            child.terminate()
        quiet = 0.0
        while True:
            try:
                return child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                quiet = quiet + LOOK_SECONDS if _silent(part) else 0.0
            if quiet >= STUCK_SECONDS and not self.stopping.is_set():
                parts.log.error("part_stuck", part=part, seconds=quiet)
                child.kill()


def _silent(part: str) -> bool:
    """False too while Redis is out of reach, where no part can be heard."""
    try:
        return part in parts.silent()
    except RedisError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.background", description=__doc__)
    parser.add_argument("part", nargs="?", choices=CONCURRENCY, help="this one alone; all of them by default")
    parser.add_argument("--parent", type=int, help="the supervisor, without which the part does not go on")
    options = parser.parse_args()
    if options.part is None:
        Supervisor().run()
        return
    if options.parent is not None:
        _end_without(options.parent)
    run(options.part)


if __name__ == "__main__":
    main()
