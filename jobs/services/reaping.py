"""What the platform does by itself: take jobs from workers that went silent, and ring again for jobs that wait."""

from __future__ import annotations

from datetime import timedelta
from itertools import takewhile
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from hub.core import parts
from hub.core.sweeps import each
from jobs import waiting
from jobs.models import LEASED, Job
from jobs.services import attempts, moves
from pst_client.contract import JobState

BY = "platform"


@transaction.atomic
def expire_lease(*, job_id: UUID) -> bool:
    """Take the job from its worker if the lease has run out. False when it has not, or somebody else is at it."""
    job = (
        Job.objects.select_for_update(skip_locked=True)
        .filter(pk=job_id, state__in=LEASED, lease_expires_at__lt=timezone.now())
        .first()
    )
    if job is None:
        return False
    error = f"The worker {job.node.name} stopped answering." if job.node else "The worker stopped answering."
    attempts.fail(job=job, error=error, detail="", retriable=True, by=BY)
    return True


def expire_leases() -> int:
    """Take every job whose lease has run out; each in a transaction of its own. Returns how many.

    Time in which the web tier was away counts for no lease: a worker could not have renewed it. So nothing runs out
    while it is away, nor until it has been back for as long as a lease lasts.
    """
    web = parts.heard(parts.WEB)
    whole_lease = timezone.now().timestamp() - settings.LEASE_SECONDS
    if web is None or web.since > whole_lease or web.at < timezone.now().timestamp() - parts.SILENT_SECONDS:
        return 0
    expired = Job.objects.filter(state__in=LEASED, lease_expires_at__lt=timezone.now())
    return each("expire_lease", expired.values_list("id", flat=True), lambda job_id: expire_lease(job_id=job_id))


def ring_again() -> int:
    """Ring anew for queued jobs that were last rung long ago: a doorbell may be lost. Returns how many.

    Only as many as there are idle workers to hear it: else bells would pile up in the queue while nobody listens
    (a worker that starts, or ends a job, asks for the next one by itself).
    """
    limit = timezone.now() - timedelta(seconds=settings.JOB_RING_AGAIN_SECONDS)
    idle = waiting.idle(waiting.online_workers())

    def ring(job: Job) -> bool:
        ears = waiting.listening(idle, queue=job.queue, workspace_id=job.workspace_id)
        if not ears or not _ring_again(job=job):
            return False
        idle.remove(ears[0])
        return True

    waits = Job.objects.waiting().filter(rung_at__lt=limit)
    return each("ring_again", takewhile(lambda job: idle, waits), ring)


@transaction.atomic
def _ring_again(*, job: Job) -> bool:
    """False when the job was claimed, or rung by another reaper, in the meantime."""
    waits = Job.objects.filter(pk=job.pk, state=JobState.QUEUED.value, rung_at=job.rung_at)
    if not waits.update(rung_at=timezone.now()):
        return False
    moves.ring(job=job)
    return True
