"""The lease: how a worker takes a job, keeps it, and loses it."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from hub.accounts.actor import Actor
from hub.accounts.models import ApiToken, TokenKind
from hub.accounts.services.tokens import issue_token
from hub.core.errors import Conflict, NotFound
from hub.datasets.models import Dataset, Split
from hub.serving.models import Node, NodeKind
from jobs.models import LEASED, Job
from jobs.planning import BaseModel, workers_plan, workers_target
from jobs.services import moves
from jobs.transitions import Action
from pst.config import TrainSettings
from pst.messages import Message, word
from pst_client.contract import (
    Claim,
    DatasetRef,
    Directive,
    FileRef,
    Heartbeat,
    JobSpec,
    JobState,
    Lease,
    SplitRef,
)

FIRST_SEQ = 1
"""Each attempt's events are counted anew (see JobEvent)."""
TOKEN_GRACE = timedelta(days=7)
"""The job's token ends with its attempt. It outlives the lease, which a worker can't renew while the platform is away,
by so much at most."""


class StaleLease(Conflict):
    code = "stale_lease"

    def __init__(self) -> None:
        super().__init__(
            Message("This lease is over: the job went to another worker or has ended. Stop, and drop the result.")
        )


class Taken(Conflict):
    code = "taken"


@transaction.atomic
def claim(*, actor: Actor, job_id: UUID, node_id: UUID) -> Claim:
    """Give a queued job to the worker, with a lease and a token that reads this job's data and base model alone.

    Raises NotFound for a job or a worker that isn't the token's, and Conflict ``taken`` when the job isn't queued.
    """
    node = worker(actor=actor, node_id=node_id)
    job = moves.lock(job_id=job_id, actor=actor)
    if job.state != JobState.QUEUED:
        raise Taken(Message("The job is {state}; there is nothing to claim.", state=word(job.state)))
    now = timezone.now()
    token = secrets.token_urlsafe(32)
    expires_at = now + timedelta(seconds=settings.LEASE_SECONDS)
    job.attempt += 1
    job.node = node
    job.lease_digest = ApiToken.hash(token)
    job.lease_expires_at = expires_at
    job.started_at = job.started_at or now
    if job.checkpoint is None:
        job.progress = {}
    moves.move(job=job, action=Action.CLAIM, by=f"worker {node.name}")
    _, job_token = issue_token(
        kind=TokenKind.JOB,
        name=str(job.id),
        workspace=job.workspace,
        subject=job.id,
        expires_at=expires_at + TOKEN_GRACE,
    )
    return Claim(
        spec=_spec(job=job),
        lease=Lease(token=token, expires_at=expires_at, seconds=settings.LEASE_SECONDS),
        job_token=job_token,
        next_seq=FIRST_SEQ,
    )


def worker(*, actor: Actor, node_id: UUID) -> Node:
    """The worker of that id that registered with the actor's token. Raises NotFound."""
    node = Node.objects.filter(id=node_id, kind=NodeKind.WORKER, token=actor.token).first()
    if node is None:
        raise NotFound(Message("No worker of this id is registered with this token; register again."))
    return node


def held(*, actor: Actor, job_id: UUID, token: str) -> Job:
    """The job, its row locked, if ``token`` is its lease. Raises NotFound, or :class:`StaleLease`.

    A lease that ran out but was not yet taken away still counts: nobody else can have the job.
    """
    job = moves.lock(job_id=job_id, actor=actor)
    if job.state not in LEASED or not constant_time_compare(ApiToken.hash(token), job.lease_digest):
        raise StaleLease
    return job


@transaction.atomic
def renew(*, actor: Actor, job_id: UUID, token: str) -> Heartbeat:
    """Renew the lease and the job's token, and say what the platform wants of the attempt."""
    job = held(actor=actor, job_id=job_id, token=token)
    expires_at = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    job.lease_expires_at = expires_at
    job.save(update_fields=["lease_expires_at"])
    _extend_token(job=job, until=expires_at + TOKEN_GRACE)
    return Heartbeat(directive=directive(job=job), expires_at=expires_at)


def directive(*, job: Job) -> Directive:
    """What the platform wants of the running attempt."""
    if job.state == JobState.CANCELLING:
        return Directive.CANCEL
    return Directive.PAUSE if job.pause_requested else Directive.CONTINUE


@transaction.atomic
def release(*, actor: Actor, job_id: UUID, token: str, reason: str) -> Job:
    """The worker gives an unfinished job back. It waits for another worker, keeping its place in the queue, or is
    paused or cancelled where that was asked for."""
    job = held(actor=actor, job_id=job_id, token=token)
    by = f"worker {job.node.name}" if job.node else "worker"
    message = Message("The worker is stopping.") if reason == "shutdown" else ""
    moves.move(job=job, action=early_end(job=job), by=by, message=message)
    return job


def early_end(*, job: Job) -> Action:
    """How an attempt ends that has not come to its end: in a pause where one was asked for, else in the queue."""
    return Action.SUSPEND if job.pause_requested else Action.REQUEUE


def _extend_token(*, job: Job, until: datetime) -> None:
    ApiToken.objects.filter(kind=TokenKind.JOB, subject=job.id, revoked_at=None).update(expires_at=until)


def _spec(*, job: Job) -> JobSpec:
    return JobSpec(
        job_id=job.id,
        name=job.name,
        attempt=job.attempt,
        task=job.dataset.task,
        base_model=BaseModel(version=job.base_model, public=job.public_model).reference(),
        dataset=_dataset(dataset=job.dataset),
        settings=TrainSettings(**job.settings),
        target=workers_target(job),
        plan={group["name"]: group["sparsity"] for group in job.plan["groups"]},
        planned=workers_plan(job),
        checkpoint=None if job.checkpoint is None else FileRef.read(job.checkpoint["file"]),
        checkpoint_needs=[FileRef.read(file) for file in (job.checkpoint or {}).get("needs", [])],
    )


def _dataset(*, dataset: Dataset) -> DatasetRef:
    splits = {
        split.split: SplitRef(
            path=f"{split.split}.jsonl",
            sha256=split.sha256,
            size=split.size,
            rows=split.rows,
            lines=FileRef(path=f"{split.split}.lines.json", sha256=split.lines_sha256, size=split.lines_size)
            if split.lines_sha256
            else None,
        )
        for split in dataset.splits.all()
    }
    return DatasetRef(
        id=dataset.id,
        sha256=dataset.sha256,
        labels=dataset.labels,
        text_pair=dataset.text_pair,
        train=splits[Split.TRAIN],
        validation=splits.get(Split.VALIDATION),
        test=splits.get(Split.TEST),
    )
