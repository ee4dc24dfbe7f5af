"""What makes, changes, validates and deletes data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import PROTECT, F, Q
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import Role, Workspace
from hub.accounts.services.audit import record
from hub.accounts.services.webhooks import WebhookEvent, notify
from hub.core import parts, storage
from hub.core.errors import Conflict
from hub.core.queue import enqueue
from hub.core.sweeps import each
from hub.datasets.formats.problems import Limits, Options, Problem
from hub.datasets.formats.rows import Row, identity, longest_target, places, to_lines
from hub.datasets.formats.validation import Outcome, validate
from hub.datasets.models import Dataset, DatasetFile, DatasetSplit, DatasetState, Split
from pst.messages import Message

SAMPLE = Path(__file__).parents[1] / "samples" / "support_desk"
SAMPLE_OPTIONS = {"text_column": "text", "label_column": "intent"}

RING_AGAIN = timedelta(seconds=60)
"""A doorbell that nobody heard is rung again after this time."""
TAKES_AT_MOST = timedelta(minutes=15)
"""A validation that has not ended by then has died with its process."""
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Upload:
    """A file as it comes in."""

    name: str
    chunks: Iterable[bytes]


def limits() -> Limits:
    return Limits(
        rows=settings.DATASET_MAX_ROWS,
        columns=settings.DATASET_MAX_COLUMNS,
        cell_chars=settings.DATASET_MAX_CELL_CHARS,
        classes=settings.DATASET_MAX_CLASSES,
    )


def options_of(given: Mapping[str, Any]) -> Options:
    """Reading options from what was stored, unset ones at their defaults."""
    known = {item.name for item in fields(Options)}
    return Options(**{key: value for key, value in given.items() if key in known})


def create_dataset(
    *, actor: Actor, workspace: Workspace, files: Mapping[Split, Upload], options: Mapping[str, Any], name: str = ""
) -> Dataset:
    """Store the uploaded files and ring for their validation. Raises TooLarge."""
    actor.require(workspace, Role.EDITOR)
    # Not in the transaction: a large upload must not hold the database's lock. An orphan blob harms nobody.
    stored = {split: storage.put(upload.chunks, max_bytes=settings.UPLOAD_MAX_BYTES) for split, upload in files.items()}
    with transaction.atomic():
        dataset = Dataset(
            workspace=workspace,
            name=name or PurePath(files[Split.TRAIN].name).stem[:100] or "data",
            options=asdict(options_of(options)),
            created_by=actor.user,
        )
        dataset.full_clean()
        dataset.save(force_insert=True)
        for split, (sha256, size) in stored.items():
            DatasetFile.objects.create(
                dataset=dataset, split=split, name=files[split].name[:255], sha256=sha256, size=size
            )
        _ring(dataset=dataset)
        record(actor=actor, action="dataset.created", on=dataset)
    return dataset


def create_sample(*, actor: Actor, workspace: Workspace) -> Dataset:
    """The support-desk messages that come with the product."""
    return create_dataset(
        actor=actor,
        workspace=workspace,
        name="support_desk",
        files={
            Split.TRAIN: Upload("train.csv", [(SAMPLE / "train.csv").read_bytes()]),
            Split.TEST: Upload("test.csv", [(SAMPLE / "test.csv").read_bytes()]),
        },
        options=SAMPLE_OPTIONS,
    )


@transaction.atomic
def update_dataset(
    *, actor: Actor, dataset: Dataset, name: str | None = None, options: Mapping[str, Any] | None = None
) -> Dataset:
    """Rename, or read the files in another way: then the data set is validated anew.

    Raises Conflict when a job uses the rows as they are.
    """
    actor.require(dataset.workspace, Role.EDITOR)
    dataset = Dataset.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=dataset.pk)
    changed = {key: value for key, value in (options or {}).items() if dataset.options.get(key) != value}
    if name is not None:
        dataset.name = name
    if changed or (options and dataset.state == DatasetState.INVALID):
        _refuse_in_use(dataset, Message("read in another way; upload it again instead"))
        dataset.options = asdict(options_of(dataset.options | changed))
        dataset.state = DatasetState.VALIDATING
        dataset.revision += 1
        dataset.attempts = 0
        dataset.sha256 = ""
        dataset.found, dataset.report, dataset.errors, dataset.labels = {}, {}, [], []
        dataset.splits.all().delete()
        _ring(dataset=dataset)
    dataset.full_clean()
    dataset.save()
    record(actor=actor, action="dataset.updated", on=dataset, **changed)
    return dataset


@transaction.atomic
def delete_dataset(*, actor: Actor, dataset: Dataset) -> None:
    """Delete the rows of the database; jobs keep what they use. Raises Conflict when a job does."""
    actor.require(dataset.workspace, Role.OWNER)
    dataset = Dataset.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=dataset.pk)
    _refuse_in_use(dataset, Message("deleted"))
    record(actor=actor, action="dataset.deleted", on=dataset)
    dataset.delete()


def _refuse_in_use(dataset: Dataset, what: Message) -> None:
    # Whoever protects a data set uses it; the apps that do lie above this one.
    for relation in Dataset._meta.related_objects:
        if relation.on_delete is PROTECT:
            users = relation.related_model._base_manager
            if users.filter(**{relation.field.name: dataset}).exists():
                raise Conflict(
                    Message(
                        "The data set {dataset} is used by jobs and cannot be {what}.",
                        dataset=dataset.name,
                        what=what,
                    )
                )


def _ring(*, dataset: Dataset) -> None:
    dataset.due_at = timezone.now() + RING_AGAIN
    Dataset.objects.filter(pk=dataset.pk).update(due_at=dataset.due_at)
    enqueue("datasets.validate", queue=parts.DATASETS, dataset_id=dataset.id)


@transaction.atomic
def _ring_again(*, dataset: Dataset) -> None:
    _ring(dataset=dataset)


def ring_again() -> int:
    """Ring for every validation that is overdue: its doorbell was lost, or its process died. Returns how many."""
    now, part = timezone.now(), parts.heard(parts.DATASETS)
    overdue = Q(due_at__lte=now)
    if part is not None:  # begun, which puts it off for long, before the process that validates
        begun = datetime.fromtimestamp(part.since, UTC)
        overdue |= Q(due_at__gt=now + RING_AGAIN, due_at__lt=begun + TAKES_AT_MOST)
    found = Dataset.objects.filter(overdue, state=DatasetState.VALIDATING)
    return each("ring_dataset", found, lambda dataset: _ring_again(dataset=dataset))


def validate_dataset(*, dataset_id: UUID) -> Dataset | None:
    """Validate the data set's present revision; safe to call again. None when there is nothing to do any more."""
    dataset = Dataset.objects.filter(pk=dataset_id, state=DatasetState.VALIDATING).first()
    if dataset is None:
        return None
    started = Dataset.objects.filter(pk=dataset_id, state=DatasetState.VALIDATING, revision=dataset.revision).update(
        attempts=F("attempts") + 1, due_at=timezone.now() + TAKES_AT_MOST
    )
    if not started:
        return None
    if dataset.attempts >= MAX_ATTEMPTS:
        message = Message(
            "Validation ended without an answer {times} times; the file may need more memory than there is.",
            times=MAX_ATTEMPTS,
        )
        return _finish(dataset=dataset, errors=[Problem(None, None, None, message).to_dict()])
    try:
        files: dict[str, tuple[str, bytes]] = {}
        for file in dataset.files.all():
            with storage.open_blob(file.sha256) as blob:
                files[file.split] = (file.name, blob.read())
        outcome = validate(files, options_of(dataset.options), limits())
        stored = {Split(split): _store(outcome.names[split], rows) for split, rows in outcome.splits.items()}
    except Exception:  # the storage out of reach, or a fault of ours: soon again, not after TAKES_AT_MOST
        Dataset.objects.filter(pk=dataset_id, revision=dataset.revision).update(due_at=timezone.now() + RING_AGAIN)
        raise
    return _finish(dataset=dataset, errors=outcome.problems.listed(), outcome=outcome, stored=stored)


def _store(file: str, rows: list[Row]) -> DatasetSplit:
    sha256, size = storage.put(to_lines(rows), max_bytes=8 * settings.UPLOAD_MAX_BYTES)
    lines_sha256, lines_size = storage.put([places(file, rows)], max_bytes=8 * settings.UPLOAD_MAX_BYTES)
    return DatasetSplit(
        rows=len(rows),
        sha256=sha256,
        size=size,
        lines_sha256=lines_sha256,
        lines_size=lines_size,
        longest_target=longest_target(file, rows),
    )


@transaction.atomic
def _finish(
    *,
    dataset: Dataset,
    errors: list[dict[str, Any]],
    outcome: Outcome | None = None,
    stored: Mapping[Split, DatasetSplit] | None = None,
) -> Dataset | None:
    """Write the outcome, unless somebody else did or the data set has changed since."""
    locked = (
        Dataset.objects.select_for_update(of=("self",))
        .select_related("workspace")
        .filter(pk=dataset.pk, state=DatasetState.VALIDATING, revision=dataset.revision)
        .first()
    )
    if locked is None:
        return None
    locked.errors = errors
    if outcome is not None:
        locked.found, locked.report = outcome.found, outcome.report
        locked.labels, locked.text_pair = outcome.labels, outcome.text_pair
    locked.splits.all().delete()
    for split, content in (stored or {}).items():
        content.dataset, content.split = locked, split
        content.save(force_insert=True)
    if stored:
        hashes = {split.value: content.sha256 for split, content in stored.items()}
        locked.sha256 = identity(hashes, locked.labels)
    locked.state = DatasetState.READY if stored else DatasetState.INVALID
    locked.validated_at = timezone.now()
    locked.save()
    notify(
        workspace=locked.workspace,
        event=WebhookEvent.DATASET_READY if stored else WebhookEvent.DATASET_INVALID,
        payload={
            "id": str(locked.id),
            "name": locked.name,
            "rows": {split.value: content.rows for split, content in (stored or {}).items()},
            "errors": len(errors),
        },
    )
    return locked
