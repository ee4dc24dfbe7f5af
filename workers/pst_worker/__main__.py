"""``python -m pst_worker``: the worker as a process. Settings come from the environment (see workers/README.md).

Exit codes: 0 stopped by SIGTERM or Ctrl-C, after its job wrote a checkpoint and was given back; 1 the platform refused
this worker, or another one of its name runs; 2 a setting is missing.
"""

from __future__ import annotations

import logging
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any

from celery import signals

from pst_client.client import Platform
from pst_client.environment import SettingsMissing
from pst_client.errors import PlatformError
from pst_worker.agent import Agent, AlreadyRunning
from pst_worker.celery import add_task, make_app, ring, worker_arguments
from pst_worker.settings import from_environment

log = logging.getLogger("pst_worker")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = from_environment()
    except SettingsMissing as error:
        log.error("%s", error)
        return 2
    platform = Platform(settings.url, settings.node_token)
    agent = Agent(settings, platform)

    def interrupted(signum: int, frame: FrameType | None) -> None:
        agent.stop()

    # Until Celery installs handlers of its own, which then call worker_shutting_down.
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    app = make_app(settings.redis_url, settings.queues[0])
    add_task(app, agent.run_job)

    def started(**kwargs: Any) -> None:
        agent.start(partial(ring, app))

    def stop(**kwargs: Any) -> None:
        agent.stop()

    # A worker that has no broker yet is not online: it could be given no job.
    signals.worker_ready.connect(started)
    signals.worker_shutting_down.connect(stop)
    try:
        agent.prepare()
        agent.register()
    except (AlreadyRunning, PlatformError) as error:
        log.error("%s", error)
        return 1
    if agent.stopping:
        return 0
    app.worker_main(worker_arguments(settings.node_name, settings.queues))
    return 0


if __name__ == "__main__":
    sys.exit(main())
