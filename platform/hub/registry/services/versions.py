"""What stores files, publishes them as a version, and finds it by a revision."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any, NewType
from uuid import UUID

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import User
from hub.accounts.services import webhooks
from hub.accounts.services.audit import record
from hub.core import storage
from hub.core.errors import Conflict, NotFound, UserError
from hub.registry import cards, signing
from hub.registry.files import MAX_JSON_BYTES, check_paths, parse_object
from hub.registry.models import (
    ALIAS,
    Alias,
    Blob,
    Model,
    ModelVersion,
    VersionFile,
)
from pst.messages import Message
from pst_client.contract import FileRef, Manifest
from pst_client.layout import CARD, CONFIG, MANIFEST, REPORT, SIGNATURE

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
        headline=cards.headline(report),
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
    label = user.username if user else f"job:{job_id}" if job_id else "installation"
    record(actor=Actor(label=label, user=user), action="version.published", on=version)
    webhooks.notify(workspace=model.workspace, event="version.published", payload=version.audit.data)
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
