"""The platform's periodic task for jobs."""

from __future__ import annotations

import structlog
from celery import shared_task

from jobs.services import reaping

log = structlog.get_logger(__name__)


@shared_task(name="jobs.reap")
def reap() -> None:
    """May run twice at once: each step checks the row anew before it changes it."""
    expired, rung = reaping.expire_leases(), reaping.ring_again()
    if expired or rung:
        log.info("jobs_reaped", expired=expired, rung=rung)
