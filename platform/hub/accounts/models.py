"""Users, workspaces, roles, tokens and the audit log."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from hub.core.language import say_later
from pst.messages import Message

if TYPE_CHECKING:
    from hub.accounts.actor import Actor

SLUG_PATTERN = r"^[a-z0-9][a-z0-9-]{0,38}\Z"
SLUG_RULE = Message("Use 1 to 39 lower-case letters, digits and hyphens, starting with a letter or digit.")
SLUG = RegexValidator(SLUG_PATTERN, say_later(SLUG_RULE))
BASE_WORKSPACE = "base"
"""Slug of the workspace that holds the installation's base models; everybody may read it."""
RESERVED_SLUGS = frozenset({BASE_WORKSPACE, "api", "models", "datasets", "spaces"})
"""Slugs that nobody may take: the base models' own, and words that mean something else in the Hub protocol's paths."""


class Role(models.TextChoices):
    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        return [Role.VIEWER, Role.EDITOR, Role.OWNER].index(self)


class AuditSubject(NamedTuple):
    """How an object stands in the audit log, beside what was done to it."""

    type: str
    id: str
    workspace: Workspace | None
    data: dict[str, Any]


class Audited(Protocol):
    """What the audit log can be about."""

    @property
    def audit(self) -> AuditSubject: ...


class User(AbstractUser):
    """A person. Superusers run the installation; they see a workspace's objects only as its members."""

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("user", self.username, None, {})


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def visible_to(self, actor: Actor) -> WorkspaceQuerySet:
        return self.filter(id__in=actor.roles)


class Workspace(models.Model):
    """Owns every object. Its slug is the namespace of its models."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(max_length=39, unique=True, validators=[SLUG])
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = WorkspaceQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("workspace", self.slug, self, {})


class Membership(models.Model):
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["workspace__slug", "user__username"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "user"], name="membership_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.workspace} as {self.role}"

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("member", self.user.username, self.workspace, {"role": self.role})


class TokenKind(models.TextChoices):
    """What a token can do. Each kind does one thing: what it falls into the hands of can do no other."""

    USER = "user"
    WORKER = "worker"
    SERVE = "serve"
    PREDICT = "predict"
    JOB = "job"


NODE_KINDS = (TokenKind.WORKER, TokenKind.SERVE)


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> ApiTokenQuerySet:
        now = timezone.now()
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)

    def visible_to(self, actor: Actor) -> ApiTokenQuerySet:
        """One's own tokens, and the node tokens of workspaces that one owns; the installation's for its superusers.
        Those that ask one deployment for some minutes are nobody's to look after."""
        owned = [workspace for workspace, role in actor.roles.items() if role == Role.OWNER]
        seen = Q(
            kind__in=(TokenKind.USER, TokenKind.PREDICT), user=actor.user, workspace__in=actor.roles, subject=None
        ) | Q(kind__in=NODE_KINDS, workspace__in=owned)
        if actor.runs_installation:
            seen |= Q(kind__in=NODE_KINDS, workspace=None)
        return self.filter(seen)


class ApiToken(models.Model):
    """A secret that stands for somebody. Only its sha256 is kept; 256 random bits need no salt."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=8, choices=TokenKind.choices)
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, help_text="The token's first characters, to recognise it by.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, blank=True, related_name="tokens")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, null=True, blank=True, related_name="tokens")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    subject = models.UUIDField(
        null=True, blank=True, help_text="The job that a job token stands for; the only deployment of a predict token."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                name="token_names_whom_it_stands_for",
                condition=(
                    Q(kind=TokenKind.USER, user__isnull=False, workspace__isnull=False, subject__isnull=True)
                    | Q(kind=TokenKind.PREDICT, user__isnull=False, workspace__isnull=False)
                    # A node token without a workspace serves the whole installation.
                    | Q(kind__in=NODE_KINDS, user__isnull=True, subject__isnull=True)
                    | Q(kind=TokenKind.JOB, user__isnull=True, workspace__isnull=False, subject__isnull=False)
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} token {self.name} ({self.prefix}…)"

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("token", str(self.id), self.workspace, {"name": self.name, "kind": self.kind})

    @staticmethod
    def hash(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def visible_to(self, actor: Actor) -> AuditEventQuerySet:
        """Owners see their workspaces' events; superusers also those that belong to no workspace."""
        owned = [workspace for workspace, role in actor.roles.items() if role == Role.OWNER]
        seen = Q(workspace__in=owned)
        return self.filter(seen | Q(workspace=None) if actor.runs_installation else seen)


class AuditEvent(models.Model):
    """Who did what, when. Append-only: nothing in the product updates or deletes a row."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, null=True, related_name="audit_events")
    actor = models.CharField(max_length=200, help_text="Who: a user name, a node, a job.")
    action = models.CharField(max_length=60, help_text="What, as noun.verb: alias.moved.")
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=200)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now, editable=False)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["workspace", "-id"])]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action} {self.object_id}"


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def visible_to(self, actor: Actor) -> WebhookQuerySet:
        owned = [workspace for workspace, role in actor.roles.items() if role == Role.OWNER]
        return self.filter(workspace__in=owned)


class Webhook(models.Model):
    """An address that is told of a workspace's events. ``secret`` signs what is sent, so it is kept as it is."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=500)
    events = models.JSONField(help_text="The events that it wants, such as job.succeeded.")
    secret = models.CharField(max_length=64, editable=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.url

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("webhook", str(self.id), self.workspace, {"url": self.url})


class DeliveryState(models.TextChoices):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookDelivery(models.Model):
    """One event on its way to one webhook. ``due_at`` is when to try next; a worker that tries moves it ahead first."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    payload = models.JSONField()
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    status_code = models.PositiveIntegerField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True)
    error_said = models.JSONField(null=True, editable=False, help_text="How the error is said (pst.messages.said).")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    due_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
        ]
        indexes = [models.Index(fields=["state", "due_at"])]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook} ({self.state})"
