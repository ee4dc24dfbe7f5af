"""The one way to start work elsewhere: ring a task by name, once the transaction has committed.

A message carries ids only. The row is the truth; whoever is rung must be able to be rung twice.
"""

from __future__ import annotations

from functools import cache
from uuid import UUID

import structlog
from celery import Celery, current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from hub.core.parts import PARTS
from pst_client.contract import DOORBELL_PREFIX

log = structlog.get_logger(__name__)


@cache
def _workers() -> Celery:
    """The application that rings workers: its keys in Redis are apart from the platform's own."""
    app = Celery("doorbell", broker=settings.CELERY_BROKER_URL, set_as_current=False, fixups=[])
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "global_keyprefix": DOORBELL_PREFIX}
    app.conf.update({"task_ignore_result": True, "task_serializer": "json", "broker_transport_options": options})
    return app


def enqueue(name: str, *, queue: str, **ids: str | int | UUID) -> None:
    """Ring task ``name`` with ``ids`` on commit. ``queue`` is one of the platform's, or a queue of workers.

    A broker out of reach is logged; the reaper rings again.
    """
    arguments = {key: str(value) if isinstance(value, UUID) else value for key, value in ids.items()}

    def ring() -> None:
        try:
            app = current_app if queue in PARTS else _workers()
            app.send_task(name, kwargs=arguments, queue=queue, retry=False)
        except OperationalError as error:
            log.error("broker_unreachable", task=name, error=str(error), **arguments)

    transaction.on_commit(ring)
