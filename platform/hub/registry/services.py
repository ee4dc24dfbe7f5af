"""What changes the registry: publishing a version, moving and deleting aliases, deleting a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NewType
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max, ProtectedError
from django.utils import timezone

from hub.accounts import webhooks
from hub.accounts.actor import Actor
from hub.accounts.models import User, Workspace
from hub.accounts.services import record
from hub.core import storage
from hub.core.errors import Conflict, NotFound, UserError
from hub.registry import cards, signing
from hub.registry.access import check_deletable
from hub.registry.files import MAX_JSON_BYTES, check_paths, parse_object
from hub.registry.models import (
    ALIAS,
    ALIAS_RULE,
    MODEL_NAME,
    MODEL_NAME_RULE,
    Alias,
    Blob,
    Model,
    ModelKind,
    ModelVersion,
    VersionFile,
)
from pst.messages import Message, word
from pst_client.contract import FileRef, Manifest

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
CARD = "README.md"
REPORT = "report.json"
CONFIG = "config.json"
LATEST = "latest"
NEWEST = ("main", LATEST)
NUMBER = re.compile(r"v?([0-9]{1,9})")
COMMIT = re.compile(r"[0-9a-f]{40}")


class RevisionNotFound(NotFound):
    code = "revision_not_found"


def store_blob(*, parts: Iterable[bytes], max_bytes: int, expected_sha256: str | None = None) -> Blob:
    """Store content and its row. Raises TooLarge, or UserError when it is not ``expected_sha256``."""
    sha256, size = storage.put(parts, max_bytes=max_bytes, expected_sha256=expected_sha256)
    blob, _ = Blob.objects.get_or_create(sha256=sha256, defaults={"size": size})
    return blob


@transaction.atomic
def ensure_model(
    *, workspace: Workspace, name: str, kind: ModelKind, user: User | None = None, description: str = ""
) -> Model:
    """The workspace's model of that name, made when it is missing.

    Raises UserError for a name that is not allowed and Conflict when a model of another kind has it.
    """
    try:
        MODEL_NAME(name)
    except ValidationError:
        raise UserError(
            Message("{name} can't name a model. {why}", name=repr(name), why=MODEL_NAME_RULE),
            details=[{"field": "name", "message": MODEL_NAME_RULE}],
        ) from None
    model, _ = Model.objects.get_or_create(
        workspace=workspace, name=name, defaults={"kind": kind, "created_by": user, "description": description}
    )
    if model.kind != kind:
        raise Conflict(
            Message(
                "{repo_id} is a {kind} model already; choose another name.",
                repo_id=model.repo_id,
                kind=word(model.kind),
            )
        )
    return model


def canonical(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``; the first 40 hex digits of their sha256 are the version's commit."""
    value = manifest.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


VerifiedFiles = NewType("VerifiedFiles", tuple[FileRef, ...])
"""Files whose content was read from the storage and is what their sha256 says: what a version may be signed of."""


def verify(files: Iterable[FileRef]) -> VerifiedFiles:
    """Read every file in the storage. Call it outside a transaction: it takes a second for each gigabyte or so.

    Raises UserError for a file that was never uploaded, has another size, or is damaged in the storage.
    """
    files = tuple(files)
    known = Blob.objects.in_bulk([file.sha256 for file in files])
    for file in files:
        blob = known.get(file.sha256)
        if blob is None:
            raise UserError(
                Message(
                    "{path} was never uploaded (sha256 {sha256}); upload it first.", path=file.path, sha256=file.sha256
                ),
                code="no_blob",
            )
        if blob.size != file.size:
            raise UserError(
                Message(
                    "{path} has {size:,} bytes in the storage, not {wanted:,}.",
                    path=file.path,
                    size=blob.size,
                    wanted=file.size,
                ),
                code="size_mismatch",
            )
        if not storage.intact(file.sha256, file.size):
            raise UserError(
                Message(
                    "The storage holds {path} (sha256 {sha256}) damaged or not at all; upload it again.",
                    path=file.path,
                    sha256=file.sha256,
                ),
                code="damaged_blob",
            )
    return VerifiedFiles(files)


def _read_config(files: VerifiedFiles) -> dict[str, Any]:
    for file in files:
        if file.path == CONFIG:
            with storage.open_blob(file.sha256) as stream:
                return parse_object(stream.read(MAX_JSON_BYTES + 1), name=CONFIG)
    return {}


def headline(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """``metric``, ``split``, ``value``, ``dense`` (the same of the dense model) and ``sparsity``: by the measure that
    models are compared by, of the test rows where there are some. None where the report has no such measure."""
    metric = report.get("primary", "accuracy")
    if not isinstance(metric, str):
        return None
    for split in ("test", "validation"):
        value = cards.number_at(report, "metrics", split, metric)
        if value is not None:
            return {
                "metric": metric[:60],
                "split": split,
                "value": value,
                "dense": cards.number_at(report, "dense", split, metric),
                "sparsity": cards.number_at(report, "sparsity", "reached"),
            }
    return None


@transaction.atomic
def publish(
    *,
    model: Model,
    files: VerifiedFiles,
    lineage: dict[str, Any],
    report: dict[str, Any],
    config: dict[str, Any] | None = None,
    job_id: UUID | None = None,
    user: User | None = None,
) -> ModelVersion:
    """Make the next version of ``model`` out of blobs that the storage holds, and move ``latest`` to it.

    Adds ``README.md`` and ``report.json`` unless given, then ``manifest.json`` and ``manifest.sig``. ``config`` is the
    model's config.json, read from the files when it is None. A job publishes once: asked again, it gets its version.

    Raises UserError for a bad path, and a manifest or signature given.
    """
    model = Model.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=model.pk)
    if job_id is not None and (done := ModelVersion.objects.filter(job_id=job_id).first()):
        if done.model_id != model.pk:
            raise Conflict(Message("The job {job_id} has published {version} already.", job_id=job_id, version=done))
        return done
    check_paths(file.path for file in files)
    given = {file.path for file in files}
    if written := given & {MANIFEST, SIGNATURE}:
        raise UserError(Message("{written} is written by the platform; leave it out.", written=min(written)))
    number = (model.versions.aggregate(last=Max("number"))["last"] or 0) + 1
    # What arrives as Python objects must survive JSON and the database just as a file does.
    lineage = parse_object(json.dumps(lineage, default=str).encode(), name="lineage")
    report = parse_object(json.dumps(report, default=str).encode(), name=REPORT)
    config = _read_config(files) if config is None else parse_object(json.dumps(config).encode(), name=CONFIG)
    own = []
    if CARD not in given:
        text = cards.card(model=model, number=number, lineage=lineage, report=report, config=config)
        own.append((CARD, text.encode()))
    if REPORT not in given:
        own.append((REPORT, json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"))
    listed = sorted([*files, *(_stored(path, content) for path, content in own)], key=lambda file: file.path)
    manifest = Manifest(repo=model.repo_id, version=number, files=listed, lineage=lineage)
    content = canonical(manifest)
    version = ModelVersion.objects.create(
        model=model,
        number=number,
        commit=hashlib.sha256(content).hexdigest()[:40],
        manifest=manifest.model_dump(mode="json"),
        config=config,
        report=report,
        headline=headline(report),
        job_id=job_id,
        created_by=user,
    )
    everything = [*listed, _stored(MANIFEST, content), _stored(SIGNATURE, signing.sign(content))]
    VersionFile.objects.bulk_create(
        [VersionFile(version=version, path=file.path, blob_id=file.sha256) for file in everything]
    )
    Alias.objects.update_or_create(
        model=model, name=LATEST, defaults={"version": version, "moved_by": user, "moved_at": timezone.now()}
    )
    data = {"model": model.repo_id, "version": number, "commit": version.commit}
    label = user.username if user else f"job:{job_id}" if job_id else "installation"
    record(
        actor=Actor(label=label, user=user),
        workspace=model.workspace,
        action="version.published",
        object_type="version",
        object_id=str(version.id),
        data=data,
    )
    webhooks.notify(workspace=model.workspace, event="version.published", payload=data)
    return version


def _stored(path: str, content: bytes) -> FileRef:
    blob = store_blob(parts=[content], max_bytes=MAX_JSON_BYTES)
    return FileRef(path=path, sha256=blob.sha256, size=blob.size)


def resolve(model: Model, revision: str) -> ModelVersion:
    """The version that ``revision`` names now: main and latest (the newest), an alias, ``v3`` or ``3``, a commit.

    Raises :class:`RevisionNotFound`.
    """
    versions = model.versions.all()
    version: ModelVersion | None = None
    if revision in NEWEST:
        version = versions.order_by("-number").first()
    elif found := NUMBER.fullmatch(revision):
        version = versions.filter(number=int(found[1])).first()
    elif COMMIT.fullmatch(revision):
        version = versions.filter(commit=revision).first()
    elif re.match(ALIAS.regex, revision):
        version = versions.filter(aliases__name=revision).first()
    if version is None:
        raise RevisionNotFound(
            Message(
                "{repo_id} has no revision {revision}: name an alias, v3 or a commit.",
                repo_id=model.repo_id,
                revision=repr(revision[:80]),
            )
        )
    return version


@transaction.atomic
def move_alias(*, actor: Actor, model: Model, name: str, version: ModelVersion) -> Alias:
    """Point the alias at the version; made when it is missing. ``latest`` is the platform's own."""
    if name == LATEST:
        raise UserError(Message("latest always names the newest version; choose another alias."))
    try:
        ALIAS(name)
    except ValidationError:
        raise UserError(
            Message("{name} can't be an alias. {why}", name=repr(name[:80]), why=ALIAS_RULE),
            details=[{"field": "alias", "message": ALIAS_RULE}],
        ) from None
    Model.objects.select_for_update().get(pk=model.pk)
    before = Alias.objects.select_related("version").filter(model=model, name=name).first()
    alias, _ = Alias.objects.update_or_create(
        model=model, name=name, defaults={"version": version, "moved_by": actor.user, "moved_at": timezone.now()}
    )
    data = {
        "model": model.repo_id,
        "alias": name,
        "version": version.number,
        "commit": version.commit,
        "from": before.version.number if before else None,
    }
    record(
        actor=actor,
        workspace=model.workspace,
        action="alias.moved",
        object_type="model",
        object_id=str(model.id),
        data=data,
    )
    webhooks.notify(workspace=model.workspace, event="alias.moved", payload=data)
    return alias


@transaction.atomic
def delete_alias(*, actor: Actor, model: Model, name: str) -> None:
    """Raises NotFound, UserError for ``latest``, and Conflict while a deployment follows the alias."""
    if name == LATEST:
        raise UserError(Message("latest always names the newest version; it can't be deleted."))
    alias = None
    if re.match(ALIAS.regex, name):
        alias = Alias.objects.select_related("version").filter(model=model, name=name).first()
    if alias is None:
        raise NotFound(Message("{repo_id} has no alias {name}.", repo_id=model.repo_id, name=repr(name[:80])))
    Model.objects.select_for_update(of=("self",)).get(pk=model.pk)  # a deployment that is being made waits, or is seen
    check_deletable(model, name)
    alias.delete()
    record(
        actor=actor,
        workspace=model.workspace,
        action="alias.deleted",
        object_type="model",
        object_id=str(model.id),
        data={"model": model.repo_id, "alias": name, "version": alias.version.number},
    )


@transaction.atomic
def delete_model(*, actor: Actor, model: Model) -> None:
    """Delete a model with its versions and aliases. Raises Conflict while a deployment or a job needs it."""
    Model.objects.select_for_update(of=("self",)).get(pk=model.pk)  # a deployment that is being made waits, or is seen
    check_deletable(model)
    repo, identity = model.repo_id, str(model.id)
    try:
        model.delete()
    except ProtectedError:
        raise Conflict(Message("{repo} is used by a job or a deployment and can't be deleted.", repo=repo)) from None
    record(
        actor=actor,
        workspace=model.workspace,
        action="model.deleted",
        object_type="model",
        object_id=identity,
        data={"model": repo},
    )
