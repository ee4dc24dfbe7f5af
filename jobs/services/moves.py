"""Moving a job from state to state, in one place: check the table, change the row, add the event, tell who must know.

The functions here expect the job's row to be locked by :func:`lock` in the caller's transaction.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import Max
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import ApiToken, TokenKind
from hub.accounts.services.webhooks import notify
from hub.core.errors import NotFound
from hub.core.queue import enqueue
from jobs import transitions
from jobs.models import FINAL, LEASED, Job, JobEvent
from jobs.transitions import Action
from pst.messages import Message, said
from pst_client.contract import RUN_JOB_TASK, EventType, JobState, StateData

PLATFORM = 0
"""The attempt under which the platform's own events are numbered."""


def lock(*, job_id: UUID, actor: Actor) -> Job:
    """The job, its row locked until the transaction ends. Raises NotFound where the actor can't see it.

    SQLite has no row locks; there the transaction holds the whole database since its BEGIN IMMEDIATE.
    """
    job = Job.objects.visible_to(actor).select_for_update().filter(pk=job_id).first()
    if job is None:
        raise NotFound(Message("There is no such job, or you have no access to it."))
    return job


def add_state(*, job: Job, data: StateData) -> None:
    """Add an entry of the platform's own to the job's record."""
    last = job.events.filter(attempt=PLATFORM).aggregate(last=Max("seq"))["last"] or 0
    JobEvent.objects.create(
        job=job,
        attempt=PLATFORM,
        seq=last + 1,
        type=EventType.STATE.value,
        at=timezone.now(),
        data=data.model_dump(mode="json"),
    )


def ring(*, job: Job) -> None:
    """Tell the workers of the job's queue, once the transaction has committed."""
    enqueue(RUN_JOB_TASK, queue=job.queue, job_id=job.id)


def move(*, job: Job, action: Action, by: str, message: str = "") -> None:
    """Take the step ``action``, save the job, and add a ``state`` event that says who, why and from where.

    Raises Conflict where the table allows no such step. Leaving a worker ends the lease and the job's token.
    """
    before = JobState(job.state)
    job.state = transitions.after(before, action).value
    now = timezone.now()
    if before in LEASED and job.state not in LEASED:
        job.lease_digest, job.lease_expires_at = "", None
        job.pause_requested = False
        ApiToken.objects.filter(kind=TokenKind.JOB, subject=job.id, revoked_at=None).update(revoked_at=now)
    if job.state in FINAL:
        job.finished_at = now
    if job.state == JobState.QUEUED:
        job.rung_at = now
        ring(job=job)
    job.save()
    add_state(
        job=job,
        data=StateData(
            state=JobState(job.state),
            former=before,
            action=action.value,
            attempt=job.attempt,
            by=by,
            message=message,
            said=said(message),
        ),
    )
    if job.state in FINAL:
        notify(
            workspace=job.workspace,
            event=f"job.{job.state}",
            payload={
                "id": str(job.id),
                "name": job.name,
                "state": job.state,
                "error": job.error,
                "version": None if job.version is None else str(job.version),
            },
        )
