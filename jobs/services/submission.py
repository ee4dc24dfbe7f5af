"""Submitting a job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.conf import settings as django_settings
from django.db import IntegrityError, transaction

from hub.accounts.actor import Actor
from hub.accounts.models import Workspace
from hub.accounts.services.audit import record
from hub.core.errors import Conflict, NotFound, UserError
from hub.datasets.models import Dataset, DatasetState
from hub.registry.models import Model, ModelKind
from jobs import planning
from jobs.models import Job
from jobs.naming import default_model_name
from jobs.planning import BaseModel
from jobs.services import moves
from pst.config import TrainSettings
from pst.messages import Message, word
from pst_client.contract import JobState, StateData, Target


@transaction.atomic
def submit(
    *,
    actor: Actor,
    workspace: Workspace,
    dataset_id: UUID,
    base: BaseModel,
    target: Target,
    settings: TrainSettings,
    name: str | None = None,
    model_name: str | None = None,
    queue: str = "default",
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """Queue a job and ring the workers. Returns the job and whether it is new: the same ``idempotency_key`` gives the
    job that it gave before.

    Raises NotFound for a data set of another workspace, UserError where it is not ready or the target can't be planned,
    and Conflict where the model's name is taken by a base model, or the key was used for another submission.
    """
    asked: dict[str, Any] = {"dataset": str(dataset_id), "base": base.label, "target": target.to_json()}
    # Without defaults, which another release may add or change.
    usual = asdict(TrainSettings())
    asked |= {
        "settings": {key: value for key, value in asdict(settings).items() if value != usual[key]},
        "name": name,
        "model_name": model_name,
        "queue": queue,
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    if earlier := _earlier(workspace=workspace, key=idempotency_key, digest=digest):
        return earlier, False
    # Locked, so that it is not read anew or deleted between this check and the job's row.
    dataset = Dataset.objects.visible_to(actor).select_for_update().filter(pk=dataset_id, workspace=workspace).first()
    if dataset is None:
        raise NotFound(
            Message(
                "There is no data set {dataset_id} in the workspace {workspace}.",
                dataset_id=dataset_id,
                workspace=workspace.slug,
            ),
            details=[{"field": "dataset", "message": Message("no such data set")}],
        )
    if dataset.state != DatasetState.READY:
        raise UserError(
            Message(
                "The data set {dataset} is {state}; a job needs one that is ready.",
                dataset=dataset.name,
                state=word(dataset.state),
            ),
            code="dataset_not_ready",
            details=[{"field": "dataset", "message": Message("is {state}", state=word(dataset.state))}],
        )
    plan = planning.plan_of(
        actor=actor,
        workspace=workspace,
        base=base,
        target=target,
        settings=settings,
        task=dataset.task,
        num_labels=dataset.outputs,
    )
    planning.check_targets(base=base, settings=settings, dataset=dataset)
    name = name or dataset.name
    if model_name is None:
        Workspace.objects.select_for_update().get(pk=workspace.pk)  # two submissions at once choose one after the other
        model_name = default_model_name(workspace=workspace, dataset=dataset, name=name)
    if Model.objects.filter(workspace=workspace, name=model_name).exclude(kind=ModelKind.SPARSE).exists():
        raise Conflict(
            Message(
                "{workspace}/{model_name} is a base model; choose another model_name.",
                workspace=workspace.slug,
                model_name=model_name,
            ),
            details=[{"field": "model_name", "message": Message("taken by a base model")}],
        )
    job = Job(
        workspace=workspace,
        name=name,
        queue=queue,
        dataset=dataset,
        base_model=base.version,
        public_model=base.public,
        model_name=model_name,
        settings=asdict(settings),
        target=target.to_json(),
        plan=plan or planning.uniform_plan(target, settings),
        idempotency_key=idempotency_key,
        submission_sha256=digest,
        max_attempts=django_settings.JOB_MAX_ATTEMPTS,
        created_by=actor.user,
    )
    try:
        with transaction.atomic():
            job.save(force_insert=True)
    except IntegrityError:
        if earlier := _earlier(workspace=workspace, key=idempotency_key, digest=digest):
            return earlier, False
        raise
    moves.add_state(job=job, data=StateData(state=JobState.QUEUED, action="submit", by=actor.label))
    moves.ring(job=job)
    record(
        actor=actor,
        action="job.submitted",
        on=job,
        dataset=str(dataset.id),
        base_model=base.label,
        model=model_name,
    )
    return job, True


def _earlier(*, workspace: Workspace, key: str | None, digest: str) -> Job | None:
    job = None if key is None else Job.objects.filter(workspace=workspace, idempotency_key=key).first()
    if job is not None and job.submission_sha256 not in {digest, ""}:  # empty: submitted before the column was there
        raise Conflict(
            Message(
                "The idempotency key {key} was used for another submission, the job {job}; use a new key.",
                key=repr(key),
                job=job.id,
            ),
            code="idempotency_key_used",
            details=[{"field": "idempotency_key", "message": Message("used for another submission")}],
        )
    return job
