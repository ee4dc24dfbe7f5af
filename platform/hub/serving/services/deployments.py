"""What changes deployments, and which version each follows."""

from __future__ import annotations

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction

from hub.accounts.actor import Actor
from hub.accounts.models import BASE_WORKSPACE, Workspace
from hub.accounts.services.audit import record
from hub.core.errors import Conflict, Forbidden, UserError
from hub.registry.models import MODEL_NAME, MODEL_NAME_RULE, Model, ModelVersion
from hub.registry.services import versions
from hub.serving.models import Deployment
from hub.serving.services.placement import place
from pst.messages import Message

log = structlog.get_logger(__name__)

MAX_REPLICAS = 1000
SHOWN_LABELS = 20


def named_version(deployment: Deployment) -> ModelVersion | None:
    """The version that the deployment's revision names now; None when it names none."""
    try:
        return versions.resolve(deployment.model, deployment.revision)
    except versions.RevisionNotFound:
        return None


def wanted_version(deployment: Deployment) -> ModelVersion | None:
    """The version that the nodes shall hold: the named one, unless it would answer with other labels unasked."""
    named, last = named_version(deployment), deployment.version
    return last if named is not None and last is not None and last.labels != named.labels else named


def follow(*, deployment: Deployment) -> ModelVersion | None:
    """The wanted version, kept as followed; the audit log tells where a deployment stays behind."""
    named, wanted = named_version(deployment), wanted_version(deployment)
    held = named if named != wanted else None
    if named is None or (deployment.version, deployment.held_back) == (wanted, held):
        return wanted
    with transaction.atomic():
        row = Deployment.objects.select_for_update().get(pk=deployment.pk)
        # Somebody may have changed it since it was read, or another node's heartbeat have been first.
        before = (deployment.revision, deployment.version_id, deployment.held_back_id)
        if (row.revision, row.version_id, row.held_back_id) != before:
            return wanted
        row.version, row.held_back = wanted, held
        row.save(update_fields=["version", "held_back"])
        if wanted is not None and held is not None:
            stays = {"stays": wanted.number, "labels": wanted.labels[:SHOWN_LABELS]}
            new = {"named": held.number, "new_labels": held.labels[:SHOWN_LABELS]}
            record(actor=Actor(label="platform"), action="deployment.held", on=deployment, **stays, **new)
            log.warning("deployment_held", deployment=str(deployment), revision=deployment.revision)
    return wanted


def _check_revision(model: Model, revision: str) -> ModelVersion:
    try:
        return versions.resolve(model, revision)
    except versions.RevisionNotFound as error:
        raise UserError(
            error.message, code=error.code, details=[{"field": "revision", "message": error.message}]
        ) from None


@transaction.atomic
def create_deployment(
    *, actor: Actor, workspace: Workspace, model: Model, revision: str = "", name: str = "", replicas: int = 1
) -> Deployment:
    """Deploy a model of the workspace, or a base model, as ``workspace/name`` (the model's name unless given): its
    newest version, and that for good, unless a revision is given.

    Raises UserError for a bad name or revision, Forbidden for another workspace's model, Conflict for a name in use.
    """
    if model.workspace_id != workspace.id and model.workspace.slug != BASE_WORKSPACE:
        raise Forbidden(
            Message(
                "{repo_id} belongs to another workspace than {workspace}; deploy it there.",
                repo_id=model.repo_id,
                workspace=workspace.slug,
            )
        )
    # A deletion of the alias waits for this, or this for it.
    model = Model.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=model.pk)
    name = name or model.name
    try:
        MODEL_NAME(name)
    except ValidationError:
        raise UserError(MODEL_NAME_RULE, details=[{"field": "name", "message": MODEL_NAME_RULE}]) from None
    version = _check_revision(model, revision or versions.LATEST)
    revision = revision or f"v{version.number}"
    if Deployment.objects.filter(workspace=workspace, name=name).exists():
        raise Conflict(
            Message(
                "{workspace} has a deployment {name} already; choose another name, or change that one.",
                workspace=workspace.slug,
                name=name,
            )
        )
    deployment = Deployment.objects.create(
        workspace=workspace,
        name=name,
        model=model,
        revision=revision,
        version=version,
        replicas=replicas,
        created_by=actor.user,
    )
    record(actor=actor, action="deployment.created", on=deployment)
    place(deployment=deployment)
    return deployment


@transaction.atomic
def change_deployment(
    *, actor: Actor, deployment: Deployment, revision: str | None = None, replicas: int | None = None
) -> Deployment:
    """Follow a revision, or be on more or fewer nodes. A revision that is given, be it the same as before, is followed
    to whatever labels it has now. Raises UserError for a revision that there is not."""
    Model.objects.select_for_update().get(pk=deployment.model_id)
    deployment = (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("workspace", "model__workspace")
        .get(pk=deployment.pk)
    )
    if revision is not None:
        deployment.version = _check_revision(deployment.model, revision)
        deployment.revision, deployment.held_back = revision, None
    if replicas is not None:
        deployment.replicas = replicas
    deployment.save(update_fields=["revision", "version", "held_back", "replicas"])
    record(actor=actor, action="deployment.changed", on=deployment)
    place(deployment=deployment)
    return deployment


@transaction.atomic
def delete_deployment(*, actor: Actor, deployment: Deployment) -> None:
    record(actor=actor, action="deployment.deleted", on=deployment)
    deployment.delete()
