"""The platform's periodic tasks for jobs, and for the files that jobs and others leave."""

from __future__ import annotations

from datetime import timedelta

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from hub.core import parts
from jobs.services import reaping, unused

log = structlog.get_logger(__name__)


@shared_task(name="jobs.reap")
def reap() -> None:
    """May run twice at once: each step checks the row anew before it changes it."""
    parts.beat(parts.PLATFORM)
    expired, rung = reaping.expire_leases(), reaping.ring_again()
    if expired or rung:
        log.info("jobs_reaped", expired=expired, rung=rung)


@shared_task(name="files.sweep")
def sweep_files() -> None:
    found = unused.delete_unused(before=timezone.now() - timedelta(days=settings.UNUSED_FILE_DAYS))
    if found.files:
        log.info("unused_files_deleted", files=found.files, bytes=found.bytes)
