"""What registers, hears and forgets nodes."""

from __future__ import annotations

import re

import structlog
from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import ApiToken, Role, TokenKind
from hub.accounts.services.audit import record
from hub.core.errors import Forbidden, NotFound, UserError
from hub.registry.models import ModelVersion
from hub.serving.models import Deployment, HeldState, Node, NodeKind, Placement
from hub.serving.services.deployments import follow
from hub.serving.services.placement import place, place_lacking
from pst.messages import Message, recall, said
from pst_client.contract import HeldVersion, NodeOrders, NodeRegistration, NodeStatus, WantedVersion

log = structlog.get_logger(__name__)

MAX_MESSAGE = 500


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
        _note_held(placement=placement, held=held.get(placement.deployment_id))
    return node


def _note_held(*, placement: Placement, held: HeldVersion | None) -> None:
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
        version = follow(deployment=deployment)
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
    record(actor=actor, action="node.forgotten", on=node)
    node.delete()
    for deployment in deployments:
        place(deployment=deployment)
