"""Which nodes serve a deployment.

A deployment stays where it is while its nodes are online. It gets more nodes, the least loaded first, when it lacks
some; a node that went offline keeps its place only while no other node can take it.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Count, F, Q

from hub.serving.models import Deployment, HeldState, Node, NodeKind, NodeQuerySet, Placement


def serving_nodes(deployment: Deployment) -> NodeQuerySet:
    """The online nodes that may serve the deployment, least loaded first."""
    nodes: NodeQuerySet = Node.objects.online().reachable_by(deployment.workspace).filter(kind=NodeKind.SERVE)
    return nodes.annotate(burden=Count("placements")).order_by("burden", "name", "id")


@transaction.atomic
def place(*, deployment: Deployment) -> None:
    """Bring the deployment's placements to its number of replicas, as far as there are nodes."""
    deployment = Deployment.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=deployment.pk)
    able = list(serving_nodes(deployment))
    online = {node.pk for node in able}
    held = list(deployment.placements.select_related("node"))
    # Kept first: what answers now, then what is on its way; a node out of reach last.
    stay = sorted(
        (item for item in held if item.node_id in online), key=lambda item: (item.state != HeldState.READY, item.pk)
    )
    gone = sorted((item for item in held if item.node_id not in online), key=lambda item: item.pk)
    keep = stay[: deployment.replicas]
    used = {item.node_id for item in held}
    fresh = [node for node in able if node.pk not in used][: deployment.replicas - len(keep)]
    spare = deployment.replicas - len(keep) - len(fresh)
    keep += [item for item in gone if item.node.workspace_id in (None, deployment.workspace_id)][:spare]
    deployment.placements.exclude(pk__in=[item.pk for item in keep]).delete()
    for node in fresh:
        Placement.objects.create(deployment=deployment, node=node)


def place_lacking(*, node: Node) -> None:
    """Place the deployments that ``node`` may serve and that have too few online nodes, or too many."""
    reachable = (
        Deployment.objects.all()
        if node.workspace_id is None
        else Deployment.objects.filter(workspace=node.workspace_id)
    )
    up = Node.objects.online().filter(kind=NodeKind.SERVE)
    lacking = reachable.annotate(
        up=Count("placements", filter=Q(placements__node__in=up), distinct=True),
        held=Count("placements", distinct=True),
    ).exclude(up=F("replicas"), held=F("replicas"))
    for deployment in lacking:
        place(deployment=deployment)
