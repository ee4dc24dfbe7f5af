"""What people do to a job that exists: cancel, pause, resume, try again."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import Role
from hub.accounts.services.audit import record
from jobs.models import Job
from jobs.services import moves
from jobs.transitions import Action
from pst_client.contract import JobState


@transaction.atomic
def cancel(*, actor: Actor, job_id: UUID) -> Job:
    """A waiting job ends at once; a running one when its worker has stopped. Raises Conflict when it has ended."""
    job = _locked(actor=actor, job_id=job_id)
    if job.state != JobState.CANCELLING:
        _take(actor=actor, job=job, action=Action.CANCEL, done="cancelled")
    return job


@transaction.atomic
def pause(*, actor: Actor, job_id: UUID) -> Job:
    """A queued job is paused at once; a running one when its worker has saved a checkpoint. Else Conflict."""
    job = _locked(actor=actor, job_id=job_id)
    if job.state != JobState.PAUSED and not job.pause_requested:
        job.pause_requested = job.state == JobState.RUNNING
        _take(actor=actor, job=job, action=Action.PAUSE, done="paused")
    return job


@transaction.atomic
def resume(*, actor: Actor, job_id: UUID) -> Job:
    """A paused job is queued again, at the end; a pause that has not happened yet is taken back."""
    job = _locked(actor=actor, job_id=job_id)
    if job.state != JobState.RUNNING or job.pause_requested:
        job.pause_requested = False
        if job.state != JobState.RUNNING:
            job.queued_at = timezone.now()
        _take(actor=actor, job=job, action=Action.RESUME, done="resumed")
    return job


@transaction.atomic
def retry(*, actor: Actor, job_id: UUID) -> Job:
    """Queue a failed job again, with as many attempts as a new one, from its last checkpoint. Else Conflict."""
    job = _locked(actor=actor, job_id=job_id)
    job.max_attempts = job.failures + settings.JOB_MAX_ATTEMPTS
    job.error, job.error_said, job.error_detail = "", None, ""
    job.finished_at = None
    job.queued_at = timezone.now()
    _take(actor=actor, job=job, action=Action.RETRY, done="retried")
    return job


def _locked(*, actor: Actor, job_id: UUID) -> Job:
    job = moves.lock(job_id=job_id, actor=actor)
    actor.require(job.workspace, Role.EDITOR)
    return job


def _take(*, actor: Actor, job: Job, action: Action, done: str) -> None:
    before = job.state
    moves.move(job=job, action=action, by=actor.label)
    record(actor=actor, action=f"job.{done}", on=job, **{"from": before}, state=job.state)
