"""The worker's Celery application: no Django, and one task.

A message is a doorbell: it carries a job's id, is acknowledged on receipt, and may come twice or never. The claim over
HTTP decides who runs the job; the platform's reaper rings again for what waits too long.

Pool: one thread (``threads``, concurrency 1). Measured on Celery 5.7 with a real Valkey: the consumer stays alive
while a job runs (a SIGTERM is handled at once), where ``solo`` blocks it for hours and
``prefork`` forks a process that only waits for the job's own child. ``worker_disable_prefetch`` makes a busy worker
fetch no message at all: a second job goes to the idle worker, where with prefetch it would wait behind the first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError

from pst_client.contract import DOORBELL_PREFIX, RUN_JOB_TASK
from pst_worker import doorbell

log = logging.getLogger(__name__)


def make_app(redis_url: str, queue: str) -> Celery:
    """An application that can ring; :func:`add_task` makes it one that can be rung. ``queue`` is where it rings."""
    # Without fixups: Celery's own would load Django wherever DJANGO_SETTINGS_MODULE happens to be set.
    doorbell.use()
    app = Celery("pst_worker", broker=redis_url, set_as_current=False, fixups=[])
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_default_queue=queue,
        task_serializer="json",
        accept_content=["json"],
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,  # else each worker could stop the others
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": 5,
            "retry_on_timeout": True,
            "global_keyprefix": DOORBELL_PREFIX,
        },
    )
    return app


def add_task(app: Celery, run_job: Callable[[UUID], None]) -> None:
    """Register the one task."""

    @app.task(name=RUN_JOB_TASK)
    def run(job_id: str) -> None:
        run_job(UUID(job_id))


def ring(app: Celery, job_id: UUID) -> None:
    """Put a job's message into the application's queue. A broker out of reach is logged: somebody rings again."""
    try:
        app.send_task(RUN_JOB_TASK, kwargs={"job_id": str(job_id)}, retry=False)
    except OperationalError as error:
        log.warning("the broker can't be reached: %s", error)


def worker_arguments(node_name: str, queues: tuple[str, ...]) -> list[str]:
    return [
        "worker",
        "--pool=threads",
        "--concurrency=1",
        f"--queues={','.join(queues)}",
        f"--hostname={node_name}@%h",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "--loglevel=INFO",
    ]
