"""What a worker reports of its attempt: events, files, checkpoints, and the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.crypto import constant_time_compare

from hub.accounts.actor import Actor
from hub.accounts.models import ApiToken
from hub.core import storage
from hub.core.errors import UserError
from hub.registry.files import check_paths
from hub.registry.models import Blob, ModelKind, ModelVersion
from hub.registry.services.exports import check_export
from hub.registry.services.models import ensure_model
from hub.registry.services.versions import VerifiedFiles, publish, store_blob, verify
from jobs import transitions
from jobs.models import Job, JobArtifact, JobEvent
from jobs.planning import BaseModel
from jobs.services import lease, moves, unused
from jobs.transitions import Action
from pst.config import Phase
from pst.messages import Message, recall, said
from pst_client import layout
from pst_client.contract import CheckpointReport, Directive, Event, EventType, FileRef, Finish, JobState

MAX_DETAIL = 20_000
MAX_ERROR = 2_000
MAX_SEQ = 2**31 - 1  # the column's


class StoreAgain(UserError):
    """Passes: a worker sends the file again."""

    status = 503
    code = "store_again"


@transaction.atomic
def add_events(*, actor: Actor, job_id: UUID, token: str, events: list[Event]) -> tuple[int, Directive]:
    """Add the attempt's events to the job's record; those that it holds already are passed over, so that a batch may
    be sent twice. Returns how many were new, and the directive. State events are the platform's: UserError."""
    job = lease.held(actor=actor, job_id=job_id, token=token)
    for event in events:
        if event.type == EventType.STATE:
            raise UserError(Message("Event {seq} is a state event; only the platform writes those.", seq=event.seq))
        if event.seq > MAX_SEQ or not 2000 <= event.at.year < 9999 or event.at.tzinfo is None:
            raise UserError(
                Message("Event {seq} needs a smaller seq, or a time of this century with its time zone.", seq=event.seq)
            )
    by_seq = {event.seq: event for event in reversed(events)}
    known = job.events.filter(attempt=job.attempt, seq__in=by_seq).values_list("seq", flat=True)
    for seq in known:
        del by_seq[seq]
    new = sorted(by_seq.values(), key=lambda event: event.seq)
    JobEvent.objects.bulk_create(
        [
            JobEvent(
                job=job, attempt=job.attempt, seq=event.seq, type=event.type.value, at=event.at, data=_stored(event)
            )
            for event in new
        ]
    )
    progress = [event for event in new if event.type == EventType.PROGRESS]
    if progress:
        job.progress = _stored(progress[-1])
        job.save(update_fields=["progress"])
    return len(new), lease.directive(job=job)


def _stored(event: Event) -> dict[str, Any]:
    return event.data.model_dump(mode="json", exclude_unset=True)


def store_artifact(*, actor: Actor, job_id: UUID, token: str, sha256: str, parts: Iterable[bytes]) -> Blob:
    """Store a file of the attempt as it comes in. Raises TooLarge, UserError when the content is not ``sha256``, and
    StaleLease, before and after: the row is not locked while the bytes arrive."""
    _check(actor=actor, job_id=job_id, token=token)
    blob = store_blob(parts=parts, max_bytes=settings.BASE_MODEL_MAX_BYTES, expected_sha256=sha256)
    # Another job may just have let go of the same bytes: alone, they are seen to be there, and are this job's then.
    with transaction.atomic(), storage.alone(blob.sha256):
        job = lease.held(actor=actor, job_id=job_id, token=token)
        blob, _ = Blob.objects.get_or_create(sha256=blob.sha256, defaults={"size": blob.size})
        if storage.stored_at(blob.sha256) is None:
            raise StoreAgain(Message("The file was deleted while it was stored; send it again."))
        JobArtifact.objects.get_or_create(job=job, blob=blob)
    return blob


@transaction.atomic
def _check(*, actor: Actor, job_id: UUID, token: str) -> None:
    lease.held(actor=actor, job_id=job_id, token=token)


@transaction.atomic
def save_checkpoint(*, actor: Actor, job_id: UUID, token: str, report: CheckpointReport) -> None:
    """Remember where the next attempt resumes: at the checkpoint that came furthest, whenever it was written. Files of
    the other are no longer the job's, and are deleted at once where nothing else needs them."""
    job = lease.held(actor=actor, job_id=job_id, token=token)
    check_paths([file.path for file in report.needs])
    _check_uploaded(job=job, files=[report.file, *report.needs])
    former = None if job.checkpoint is None else CheckpointReport.read(job.checkpoint)
    if former is not None and _place(former) > _place(report):  # of a phase that was run again
        _let_go(job=job, files=_files(report) - _files(former))
        return
    if former is not None:
        _let_go(job=job, files=_files(former) - _files(report))
    job.checkpoint = report.model_dump(mode="json")
    job.save(update_fields=["checkpoint"])


def _place(report: CheckpointReport) -> tuple[int, int]:
    return list(Phase).index(report.phase), report.step


def _files(report: CheckpointReport) -> set[str]:
    return {file.sha256 for file in (report.file, *report.needs)}


def _let_go(*, job: Job, files: Iterable[str]) -> None:
    """The job needs these artifacts no more."""
    gone = list(files)
    JobArtifact.objects.filter(job=job, blob__in=gone).delete()
    transaction.on_commit(lambda: unused.delete_at_once(sha256s=gone), robust=True)


def finish(*, actor: Actor, job_id: UUID, token: str, report: Finish) -> dict[str, Any]:
    """End the attempt; a success publishes the version in the same transaction. The same Finish under the same lease
    gets the same answer again, so that a worker may repeat it. Returns ``{"state", "version", "commit"}``."""
    new = _first_told(actor=actor, job_id=job_id, token=token, report=report)
    files = VerifiedFiles(())
    if new and report.outcome == "succeeded":  # before any row is locked: it takes time
        # Card and report are the platform's own; a worker's export holds a report too.
        files = verify([file for file in report.files if file.path not in layout.WRITTEN])
        check_export(files=files, report=report.report)
    return _finish(actor=actor, job_id=job_id, token=token, report=report, files=files)


@transaction.atomic
def _first_told(*, actor: Actor, job_id: UUID, token: str, report: Finish) -> bool:
    """False where this Finish was answered before. Raises StaleLease, and UserError for a file not uploaded."""
    if _answer(moves.lock(job_id=job_id, actor=actor), token, report) is not None:
        return False
    _check_uploaded(job=lease.held(actor=actor, job_id=job_id, token=token), files=report.files)
    return True


def _fingerprint(report: Finish) -> str:
    return hashlib.sha256(report.model_dump_json().encode()).hexdigest()


def _answer(job: Job, token: str, report: Finish) -> dict[str, Any] | None:
    """What was answered to the same Finish under the same lease; None where it is new."""
    told = job.finish
    same = told is not None and constant_time_compare(ApiToken.hash(token), told["lease"])
    return told["answer"] if told and same and told["report"] == _fingerprint(report) else None


@transaction.atomic
def _finish(*, actor: Actor, job_id: UUID, token: str, report: Finish, files: VerifiedFiles) -> dict[str, Any]:
    if (answered := _answer(moves.lock(job_id=job_id, actor=actor), token, report)) is not None:
        return answered
    job = lease.held(actor=actor, job_id=job_id, token=token)
    lease_digest, by = job.lease_digest, f"worker {job.node.name}" if job.node else "worker"
    if report.outcome == "succeeded":
        _succeed(job=job, report=report, files=files, by=by)
    elif report.outcome == "cancelled":
        moves.move(job=job, action=Action.STOP, by=by)
    else:
        error = recall(report.error, report.said) if report.error else Message("The worker gave no reason.")
        detail = (report.detail or "")[-MAX_DETAIL:]
        if len(error) > MAX_ERROR:
            error = error[:MAX_ERROR]
        fail(job=job, error=error, detail=detail, retriable=report.retriable, by=by)
    version = job.version
    answer = {
        "state": job.state,
        "version": version.number if version else None,
        "commit": version.commit if version else None,
    }
    job.finish = {"lease": lease_digest, "report": _fingerprint(report), "answer": answer}
    job.save(update_fields=["finish"])
    return answer


def fail(*, job: Job, error: str, detail: str, retriable: bool, by: str) -> None:
    """End a failed attempt: in the queue again when another one may succeed and is left, else the job has failed."""
    job.failures += 1
    if job.state == JobState.CANCELLING:
        moves.move(job=job, action=Action.FAIL, by=by, message=error)
        return
    job.error_detail = detail
    left = job.max_attempts - job.failures
    if retriable and left > 0:
        values = {"error": error, "left": left, "most": job.max_attempts}
        message = (
            Message("{error} Trying again from its last checkpoint; {left} of {most} attempts left.", **values)
            if job.checkpoint
            else Message("{error} Trying again from the start; {left} of {most} attempts left.", **values)
        )
        moves.move(job=job, action=lease.early_end(job=job), by=by, message=message)
        return
    if retriable:
        error = Message("{error} All {most} attempts are used up.", error=error, most=job.max_attempts)
    job.error, job.error_said = error, said(error)
    moves.move(job=job, action=Action.FAIL, by=by, message=error)


def _succeed(*, job: Job, report: Finish, files: VerifiedFiles, by: str) -> None:
    # A job that is being cancelled publishes nothing, whatever its worker had ready.
    if transitions.after(JobState(job.state), Action.SUCCEED) == JobState.SUCCEEDED:
        job.version = _publish(job=job, report=report, files=files)
        job.report = report.report
        job.error, job.error_said, job.error_detail = "", None, ""
        if job.checkpoint is not None:
            _let_go(job=job, files=_files(CheckpointReport.read(job.checkpoint)))
            job.checkpoint = None
    moves.move(job=job, action=Action.SUCCEED, by=by)


def _publish(*, job: Job, report: Finish, files: VerifiedFiles) -> ModelVersion:
    _check_uploaded(job=job, files=files)
    model = ensure_model(workspace=job.workspace, name=job.model_name, kind=ModelKind.SPARSE, user=job.created_by)
    base = BaseModel(version=job.base_model, public=job.public_model).reference()
    lineage = {
        "job": {"id": str(job.id), "name": job.name, "attempt": job.attempt},
        "dataset": {"id": str(job.dataset_id), "name": job.dataset.name, "sha256": job.dataset.sha256},
        "base_model": base.model_dump(mode="json"),
        "settings": job.settings,
        "target": job.target,
        "plan": {group["name"]: group["sparsity"] for group in job.plan["groups"]},
    }
    # What the base model's licence asks for, it asks of what is made from it.
    if job.base_model is not None and (license_id := job.base_model.manifest.get("lineage", {}).get("license")):
        lineage["license"] = license_id
    return publish(
        model=model,
        files=files,
        lineage=lineage,
        report=report.report or {},
        job_id=job.id,
        user=job.created_by,
    )


def _check_uploaded(*, job: Job, files: Iterable[FileRef]) -> None:
    """Raise UserError unless the job has uploaded every file, at the size given."""
    sizes = dict(job.artifacts.values_list("blob_id", "blob__size"))
    for file in files:
        if sizes.get(file.sha256) != file.size:
            raise UserError(
                Message(
                    "{path} (sha256 {sha256}, {size:,} bytes) was not uploaded by this job: upload it.",
                    path=file.path,
                    sha256=file.sha256,
                    size=file.size,
                ),
                code="not_uploaded",
            )
