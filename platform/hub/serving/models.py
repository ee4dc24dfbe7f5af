"""Nodes (workers and serving nodes), deployments, and what each node holds."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from hub.accounts.models import ApiToken, AuditSubject, User, Workspace
from hub.registry.models import MODEL_NAME, Model, ModelVersion

if TYPE_CHECKING:
    from hub.accounts.actor import Actor


class NodeKind(models.TextChoices):
    WORKER = "worker"
    SERVE = "serve"


class NodeQuerySet(models.QuerySet["Node"]):
    def visible_to(self, actor: Actor) -> NodeQuerySet:
        """The installation's nodes (without a workspace) and one's own."""
        return self.filter(Q(workspace=None) | Q(workspace__in=actor.roles))

    def online(self) -> NodeQuerySet:
        return self.filter(last_seen_at__gt=timezone.now() - timedelta(seconds=settings.NODE_OFFLINE_SECONDS))

    def reachable_by(self, workspace: Workspace) -> NodeQuerySet:
        return self.filter(Q(workspace=None) | Q(workspace=workspace))


class Node(models.Model):
    """A process that registered with a node token. ``workspace`` null: it works for the whole installation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63)
    kind = models.CharField(max_length=8, choices=NodeKind.choices)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, null=True, related_name="nodes")
    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="nodes")
    version = models.CharField(max_length=40)
    queues = models.JSONField(default=list)
    url = models.URLField(blank=True)
    inner_url = models.URLField(blank=True)
    """Where the platform asks the node; empty: where everybody does."""
    hardware = models.JSONField(default=dict)
    load = models.JSONField(default=dict)
    profile = models.JSONField(null=True, blank=True, help_text="A NodeProfile: what it measured of itself.")
    registered_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["kind", "name"]
        constraints = [
            models.UniqueConstraint(fields=["token", "kind", "name"], name="node_name_once"),
            models.CheckConstraint(condition=Q(kind__in=NodeKind.values), name="node_kind_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("node", str(self.id), self.workspace, {"name": self.name, "kind": self.kind})

    @property
    def online(self) -> bool:
        return timezone.now() - self.last_seen_at < timedelta(seconds=settings.NODE_OFFLINE_SECONDS)


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def visible_to(self, actor: Actor) -> DeploymentQuerySet:
        return self.filter(workspace__in=actor.roles)


class Deployment(models.Model):
    """Says that serving nodes shall answer as ``workspace/name`` with a version of a model: the one that
    ``revision`` (an alias, ``v3`` or a commit) names at this moment, unless its labels are others than those of
    ``version``, which was followed last: then it stays there until somebody confirms the change."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="deployments")
    name = models.CharField(max_length=96, validators=[MODEL_NAME])
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="deployments")
    revision = models.CharField(max_length=63)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="+", help_text="Followed last."
    )
    held_back = models.ForeignKey(
        ModelVersion,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        help_text="Named by the revision, but not followed, for its labels are others: the audit log has it.",
    )
    replicas = models.PositiveIntegerField(default=1, help_text="On how many nodes.")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="deployment_name_once")]

    def __str__(self) -> str:
        return f"{self.workspace.slug}/{self.name}"

    @property
    def audit(self) -> AuditSubject:
        data = {
            "name": str(self),
            "model": self.model.repo_id,
            "revision": self.revision,
            "replicas": self.replicas,
        }
        return AuditSubject("deployment", str(self.id), self.workspace, data)


class HeldState(models.TextChoices):
    ASSIGNED = "assigned"
    PULLING = "pulling"
    VERIFYING = "verifying"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Placement(models.Model):
    """A deployment on a node: assigned by the platform, its state reported by the node."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="placements")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="placements")
    state = models.CharField(max_length=10, choices=HeldState.choices, default=HeldState.ASSIGNED)
    version = models.ForeignKey(
        ModelVersion,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        help_text="What the node holds or is fetching.",
    )
    message = models.CharField(max_length=500, blank=True)
    message_said = models.JSONField(null=True, editable=False, help_text="How the message is said (pst.messages.said).")
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["node__name"]
        constraints = [models.UniqueConstraint(fields=["deployment", "node"], name="placement_once")]

    def __str__(self) -> str:
        return f"{self.deployment} on {self.node}: {self.state}"
