"""Jobs as the API shows them. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import structlog
from django.db.models import Q
from pydantic import ValidationError

from hub.core.language import said, say
from jobs import waiting
from jobs.api import schemas
from jobs.models import Job, JobEvent, JobQuerySet
from jobs.planning import BaseModel
from pst.messages import Message, recall
from pst_client.contract import JobState, ProgressData

log = structlog.get_logger(__name__)


def related(jobs: JobQuerySet) -> JobQuerySet:
    """With everything that :func:`present` reads, in one query, and nothing large that it does not read."""
    reports = [f"{of}__{name}" for of in ("base_model", "version") for name in ("manifest", "report", "config")]
    return (
        jobs.select_related(
            "workspace", "dataset", "base_model__model__workspace", "version__model__workspace", "created_by"
        )
        .defer("report", "finish", "error_detail", "checkpoint", "dataset__report", "dataset__errors", *reports)
        .annotate(has_report=Q(report__isnull=False))
    )


def shown_plan(plan: dict[str, Any]) -> schemas.JobPlan:
    """A stored plan with its notes in the language of this request."""
    notes = plan.get("notes", [])
    how = plan.get("notes_said") or [None] * len(notes)  # None in a plan that was stored before
    shown = [say(recall(note, known)) for note, known in zip(notes, how, strict=True)]
    return schemas.JobPlan.model_validate(plan | {"notes": shown})


def shown_events(events: Iterable[JobEvent]) -> list[schemas.JobEvent]:
    """Stored entries in the language of this request. Another version may have stored more in one, which is left out,
    or something else, and then the entry is."""
    shown = []
    for event in events:
        [data] = said([event.data])
        names = ("id", "attempt", "seq", "type", "at")
        values = {name: getattr(event, name) for name in names} | {"data": data}
        try:
            shown.append(schemas.JobEvent.model_validate(values, extra="ignore"))
        except ValidationError as error:
            log.warning("event_unreadable", id=event.id, error=str(error))
    return shown


def _progress(job: Job) -> ProgressData:
    try:
        return ProgressData.read(job.progress)
    except ValidationError as error:  # stored by another version
        log.warning("progress_unreadable", job=str(job.id), error=str(error))
        return ProgressData()


def present(jobs: Sequence[Job]) -> list[schemas.Job]:
    """Each job with its place in the queue and the workers that listen there, as they are at this moment."""
    queued = {job.queue for job in jobs if job.state == JobState.QUEUED}
    places = waiting.places(queued) if queued else {}
    workers = waiting.online_workers()
    shown = []
    for job in jobs:
        online = len(waiting.listening(workers, queue=job.queue, workspace_id=job.workspace_id))
        waiting_for: Literal["worker", "no_worker_online"] | None = None
        message = ""
        if job.state == JobState.QUEUED:
            waiting_for = "worker" if online else "no_worker_online"
            if not online:
                message = Message(
                    "No worker is online for the queue {queue}: start one, or choose another queue.", queue=job.queue
                )
        elif job.pause_requested:
            message = Message("The job pauses as soon as its worker has saved a checkpoint.")
        elif job.state == JobState.CANCELLING:
            message = Message("The job ends as soon as its worker has stopped.")
        shown.append(
            schemas.Job(
                id=job.id,
                workspace=job.workspace.slug,
                name=job.name,
                state=JobState(job.state),
                queue=job.queue,
                queue_position=places.get(job.id),
                workers_online=online,
                waiting_for=waiting_for,
                message=say(message),
                pause_requested=job.pause_requested,
                dataset=schemas.NamedDataset(id=job.dataset.id, name=job.dataset.name),
                base_model=BaseModel(version=job.base_model, public=job.public_model).label,
                public=job.base_model is None,
                model_name=job.model_name,
                settings=job.settings,
                target=job.target,
                plan=shown_plan(job.plan),
                attempt=job.attempt,
                failures=job.failures,
                max_attempts=job.max_attempts,
                progress=_progress(job),
                error=say(recall(job.error, job.error_said)),
                version=None
                if job.version is None
                else schemas.PublishedVersion(
                    repo=job.version.model.repo_id, number=job.version.number, commit=job.version.commit
                ),
                created_by=None if job.created_by is None else job.created_by.username,
                created_at=job.created_at,
                started_at=job.started_at,
                finished_at=job.finished_at,
                report_available=job.has_report,  # type: ignore[attr-defined]
            )
        )
    return shown
