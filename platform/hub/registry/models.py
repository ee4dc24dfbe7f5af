"""Models, their immutable versions, the aliases that point at versions, and the blobs that versions are made of."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from hub.accounts.models import BASE_WORKSPACE, AuditSubject, User, Workspace
from hub.core.language import say_later
from pst.messages import Message

if TYPE_CHECKING:
    from hub.accounts.actor import Actor

MODEL_NAME_RULE = Message(
    "Use 1 to 96 letters, digits, dots, hyphens and underscores, starting with a letter or digit."
)
MODEL_NAME = RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z", say_later(MODEL_NAME_RULE))
ALIAS_RULE = Message(
    "Use 1 to 63 lower-case letters, digits, dots, hyphens and underscores, starting "
    "with a letter; not main, v3 or a commit."
)
# Not "main", not a number or v-number, not a commit: these names have a meaning of their own as revisions.
ALIAS = RegexValidator(r"^(?!main$)(?!v?[0-9]+$)(?![0-9a-f]{40}$)[a-z][a-z0-9._-]{0,62}\Z", say_later(ALIAS_RULE))


class ModelKind(models.TextChoices):
    BASE = "base"
    SPARSE = "sparse"


class ModelQuerySet(models.QuerySet["Model"]):
    def visible_to(self, actor: Actor) -> ModelQuerySet:
        """People see their workspaces' models and the installation's base models. Nodes and jobs see what their
        task needs: that is decided where the task is known (``hub.registry.access``)."""
        return self.filter(Q(workspace__in=actor.roles) | Q(workspace__slug=BASE_WORKSPACE, kind=ModelKind.BASE))


class Model(models.Model):
    """A named line of versions; its repository id is ``workspace/name``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="models")
    name = models.CharField(max_length=96, validators=[MODEL_NAME])
    kind = models.CharField(max_length=8, choices=ModelKind.choices)
    description = models.TextField(blank=True, max_length=2000)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="model_name_once"),
            models.CheckConstraint(condition=Q(kind__in=ModelKind.values), name="model_kind_known"),
        ]

    def __str__(self) -> str:
        return self.repo_id

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("model", str(self.id), self.workspace, {"model": self.repo_id})

    @property
    def repo_id(self) -> str:
        return f"{self.workspace.slug}/{self.name}"


class ModelVersion(models.Model):
    """An immutable set of files. ``commit`` is derived from the manifest, so equal commits hold equal files."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    commit = models.CharField(max_length=40)
    manifest = models.JSONField()
    config = models.JSONField(default=dict, help_text="The model's config.json.")
    report = models.JSONField(default=dict)
    headline = models.JSONField(
        null=True, help_text="What a list shows of the report, which is too large to read there: see services.headline."
    )
    # Not a foreign key: the registry lies below the jobs. Unique, so that a job publishes at most once.
    job_id = models.UUIDField(null=True, blank=True, unique=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="version_number_once"),
            models.UniqueConstraint(fields=["model", "commit"], name="version_commit_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"

    @property
    def audit(self) -> AuditSubject:
        data = {"model": self.model.repo_id, "version": self.number, "commit": self.commit}
        return AuditSubject("version", str(self.id), self.model.workspace, data)

    @property
    def labels(self) -> list[str]:
        """In the order of their numbers; empty where the config names none."""
        named = self.config.get("id2label")
        if not isinstance(named, dict):
            return []
        return [str(named[key]) for key in sorted(named, key=lambda key: (len(key), key))]


class Blob(models.Model):
    """Content that the storage holds under its sha256; shared by every version that has it."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.sha256


class VersionFile(models.Model):
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=255)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["version", "path"], name="file_path_once")]

    def __str__(self) -> str:
        return self.path


class Alias(models.Model):
    """A movable name of a version: production, staging, latest."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=63, validators=[ALIAS])
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="aliases")
    moved_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["model", "name"], name="alias_name_once")]

    def __str__(self) -> str:
        return f"{self.name} -> {self.version}"
