"""What changes nodes, deployments and placements."""

from __future__ import annotations

import re

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import BASE_WORKSPACE, ApiToken, Role, TokenKind, Workspace
from hub.accounts.services import record
from hub.core.errors import Conflict, Forbidden, NotFound, UserError
from hub.registry import services as registry
from hub.registry.models import MODEL_NAME, MODEL_NAME_RULE, Model, ModelVersion
from hub.serving.models import Deployment, HeldState, Node, NodeKind, Placement
from hub.serving.placement import place, place_lacking
from pst.messages import Message, recall, said
from pst_client.contract import HeldVersion, NodeOrders, NodeRegistration, NodeStatus, WantedVersion

log = structlog.get_logger(__name__)

MAX_REPLICAS = 1000
MAX_MESSAGE = 500
SHOWN_LABELS = 20


def _check_address(url: str) -> None:
    # A node's address is often a plain host name of an inner network, which Django's validator refuses. A path may be
    # that of a proxy before it; a query or a fragment would hide what the platform adds.
    if len(url) > 200 or not re.fullmatch(r"https?://[^\s/?#@\\]+(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?", url):
        raise UserError(
            Message("url must be an http:// or https:// address of at most 200 characters, without a query."),
            details=[{"field": "url", "message": Message("not an address")}],
        )


@transaction.atomic
def register_node(*, token: ApiToken, registration: NodeRegistration) -> Node:
    """The node of that token, kind and name; the same row when the process starts again. Raises Forbidden for a token
    of the other kind, UserError for what the node says of itself."""
    if token.kind != registration.kind and token.kind == TokenKind.WORKER:
        raise Forbidden(Message("This is a worker's token; make one for a serving node."), code="wrong_token")
    if token.kind != registration.kind:
        raise Forbidden(Message("This is a serving node's token; make one for a worker."), code="wrong_token")
    if len(registration.version) > 40:
        raise UserError(
            Message("version has at most 40 characters."),
            details=[{"field": "version", "message": Message("too long")}],
        )
    for url in filter(None, (registration.url, registration.inner_url)):
        _check_address(url)
    if not registration.url and registration.kind == NodeKind.SERVE.value:
        raise UserError(
            Message("A serving node must say where it answers: send url."),
            details=[{"field": "url", "message": Message("required")}],
        )
    now = timezone.now()
    node, created = Node.objects.update_or_create(
        token=token,
        kind=registration.kind,
        name=registration.name,
        defaults={
            "workspace": token.workspace,
            "version": registration.version,
            "queues": registration.queues,
            "url": registration.url or "",
            "inner_url": registration.inner_url or "",
            "hardware": registration.hardware,
            "load": {},
            "registered_at": now,
            "last_seen_at": now,
        },
    )
    log.info("node_registered", node=str(node.id), name=node.name, kind=node.kind, first=created)
    return node


def heartbeat(*, token: ApiToken, status: NodeStatus) -> NodeOrders:
    """Note what a node holds, and tell it what it shall hold: each deployment's version as its revision names it now.

    Three steps, each a transaction of its own: were the rows of a node and those of its deployments locked together,
    two nodes' heartbeats could wait for each other.

    Raises NotFound for a node that is not this token's: it must register (again).
    """
    node = note_status(token=token, status=status)
    if node.kind != NodeKind.SERVE:
        return NodeOrders(wanted=[])
    place_lacking(node=node)
    return orders(node)


@transaction.atomic
def note_status(*, token: ApiToken, status: NodeStatus) -> Node:
    """Keep a node's sign of life and what it reports. A placement that it does not report has not been started."""
    node = Node.objects.filter(pk=status.node_id, token=token).first()
    if node is None:
        raise NotFound(Message("This node is not registered with this token; register it again."), code="unknown_node")
    node.last_seen_at, node.load = timezone.now(), status.load
    if status.profile is not None:
        node.profile = status.profile.model_dump(mode="json")
    node.save(update_fields=["last_seen_at", "load", "profile"])
    held = {item.deployment_id: item for item in status.held}
    for placement in Placement.objects.filter(node=node).select_related("deployment", "version"):
        _note_held(placement, held.get(placement.deployment_id))
    return node


def _note_held(placement: Placement, held: HeldVersion | None) -> None:
    """Write what differs; ``changed_at`` tells since when."""
    state, message, how = HeldState.ASSIGNED.value, "", None
    version: ModelVersion | None = None
    if held is not None:
        state, version = held.state, placement.version
        if len(held.message) <= MAX_MESSAGE:
            message, how = held.message, said(recall(held.message, held.said))
        else:
            message = held.message[:MAX_MESSAGE]
        if version is None or version.commit != held.commit:
            version = ModelVersion.objects.filter(model=placement.deployment.model_id, commit=held.commit).first()
    after = (state, message, version.pk if version else None)
    if after != (placement.state, placement.message, placement.version_id):
        placement.state, placement.message, placement.version = state, message, version
        placement.message_said = how
        placement.changed_at = timezone.now()
        placement.save(update_fields=["state", "message", "message_said", "version", "changed_at"])


def orders(node: Node) -> NodeOrders:
    """What the node shall hold now. A deployment whose revision names nothing is left out."""
    wanted = []
    placements = Placement.objects.filter(node=node).select_related(
        "deployment__workspace", "deployment__model__workspace", "deployment__version", "deployment__held_back"
    )
    for placement in placements:
        deployment = placement.deployment
        version = follow(deployment)
        if version is None:
            log.warning("deployment_without_version", deployment=str(deployment), revision=deployment.revision)
            continue
        wanted.append(
            WantedVersion(
                deployment_id=deployment.id,
                name=str(deployment),
                repo=deployment.model.repo_id,
                commit=version.commit,
            )
        )
    return NodeOrders(wanted=wanted)


def named_version(deployment: Deployment) -> ModelVersion | None:
    """The version that the deployment's revision names now; None when it names none."""
    try:
        return registry.resolve(deployment.model, deployment.revision)
    except registry.RevisionNotFound:
        return None


def wanted_version(deployment: Deployment) -> ModelVersion | None:
    """The version that the nodes shall hold: the named one, unless it would answer with other labels unasked."""
    named, last = named_version(deployment), deployment.version
    return last if named is not None and last is not None and last.labels != named.labels else named


def follow(deployment: Deployment) -> ModelVersion | None:
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
            _record(Actor(label="platform"), deployment, "deployment.held", **stays, **new)
            log.warning("deployment_held", deployment=str(deployment), revision=deployment.revision)
    return wanted


def _check_revision(model: Model, revision: str) -> ModelVersion:
    try:
        return registry.resolve(model, revision)
    except registry.RevisionNotFound as error:
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
    version = _check_revision(model, revision or registry.LATEST)
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
    _record(actor, deployment, "deployment.created")
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
    _record(actor, deployment, "deployment.changed")
    place(deployment=deployment)
    return deployment


@transaction.atomic
def delete_deployment(*, actor: Actor, deployment: Deployment) -> None:
    _record(actor, deployment, "deployment.deleted")
    deployment.delete()


@transaction.atomic
def forget_node(*, actor: Actor, node: Node) -> None:
    """Delete a node's row; its deployments move. A node that is alive registers again.

    Raises Forbidden unless the actor owns the node's workspace; installation-wide nodes are a superuser's.
    """
    if node.workspace is None:
        if not actor.runs_installation:
            raise Forbidden(Message("This node serves the whole installation; only a superuser can forget it."))
    elif not actor.may(node.workspace.id, Role.OWNER):
        raise Forbidden(
            Message("This needs the role owner in the workspace {workspace}.", workspace=node.workspace.slug)
        )
    deployments = list(Deployment.objects.filter(placements__node=node))
    record(
        actor=actor,
        workspace=node.workspace,
        action="node.forgotten",
        object_type="node",
        object_id=str(node.id),
        data={"name": node.name, "kind": node.kind},
    )
    node.delete()
    for deployment in deployments:
        place(deployment=deployment)


def _record(actor: Actor, deployment: Deployment, action: str, **more: object) -> None:
    record(
        actor=actor,
        workspace=deployment.workspace,
        action=action,
        object_type="deployment",
        object_id=str(deployment.id),
        data={
            "name": str(deployment),
            "model": deployment.model.repo_id,
            "revision": deployment.revision,
            "replicas": deployment.replicas,
            **more,
        },
    )
