"""The one way to start work elsewhere: ring a task by name, once the transaction has committed.

A message carries ids only. The row is the truth; whoever is rung must be able to be rung twice.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = structlog.get_logger(__name__)


def enqueue(name: str, *, queue: str = "platform", **ids: str | int | UUID) -> None:
    """Ring task ``name`` with ``ids`` on commit. A broker out of reach is logged; the reaper rings again."""
    arguments = {key: str(value) if isinstance(value, UUID) else value for key, value in ids.items()}

    def ring() -> None:
        try:
            current_app.send_task(name, kwargs=arguments, queue=queue, retry=False)
        except OperationalError as error:
            log.error("broker_unreachable", task=name, error=str(error), **arguments)

    transaction.on_commit(ring)
