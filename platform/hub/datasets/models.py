"""Uploaded rows: the files as they came, how they are read, the report, and the canonical rows that jobs train on."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils import timezone

from hub.accounts.models import AuditSubject, User, Workspace
from pst.config import TaskName

if TYPE_CHECKING:
    from hub.accounts.actor import Actor


class DatasetState(models.TextChoices):
    VALIDATING = "validating"
    READY = "ready"
    INVALID = "invalid"


class Split(models.TextChoices):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def visible_to(self, actor: Actor) -> DatasetQuerySet:
        return self.filter(workspace__in=actor.roles)


class Dataset(models.Model):
    """A data set. ``options`` are what the user fixed, ``found`` is what was used in the end (encoding, delimiter,
    header, columns, seed); ``report`` and ``errors`` are the outcome of validation."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=100)
    state = models.CharField(max_length=12, choices=DatasetState.choices, default=DatasetState.VALIDATING)
    options = models.JSONField(default=dict, blank=True)
    found = models.JSONField(default=dict, blank=True)
    report = models.JSONField(default=dict, blank=True)
    errors = models.JSONField(default=list, blank=True)
    labels = models.JSONField(default=list, blank=True)
    text_pair = models.BooleanField(default=False)
    sha256 = models.CharField(max_length=64, blank=True, help_text="Hash over the canonical splits; empty until ready.")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # What is validated is a revision: an answer about an older one is dropped. A worker that starts moves due_at ahead.
    revision = models.PositiveIntegerField(default=1)
    attempts = models.PositiveIntegerField(default=0, help_text="Validations of this revision that were started.")
    due_at = models.DateTimeField(default=timezone.now, help_text="When to ring for validation again.")
    validated_at = models.DateTimeField(null=True, blank=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=DatasetState.values), name="dataset_state_known"),
            models.CheckConstraint(
                condition=~Q(state=DatasetState.READY) | ~Q(sha256=""), name="dataset_ready_has_content"
            ),
        ]
        indexes = [
            models.Index(fields=["workspace", "-created_at"]),
            models.Index(fields=["state", "due_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.workspace}/{self.name}"

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("dataset", str(self.id), self.workspace, {"name": self.name})

    @property
    def task(self) -> TaskName:
        """What its rows teach."""
        return self.options.get("task") or "classification"

    @property
    def outputs(self) -> int:
        """Outputs of a model's head for these rows: one for each label, one number, or none where texts are written."""
        return {"regression": 1, "generation": 0}.get(self.task, len(self.labels))


class DatasetFile(models.Model):
    """A file as it was uploaded, by its content."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="files")
    split = models.CharField(max_length=12, choices=Split.choices)
    name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["dataset", "split"], name="one_file_per_split")]

    def __str__(self) -> str:
        return f"{self.name} ({self.split})"


class DatasetSplit(models.Model):
    """Canonical rows of a split, JSON lines as in :mod:`hub.datasets.formats.rows`: a blob by its content.

    Where they stand in the user's file is a blob beside it, since the rows are the data's identity and their lines are
    not. Splits of earlier releases have none.
    """

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="splits")
    split = models.CharField(max_length=12, choices=Split.choices)
    rows = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    lines_sha256 = models.CharField(max_length=64, blank=True, help_text='Of {"file": name, "lines": [each row\'s]}.')
    lines_size = models.BigIntegerField(default=0)
    longest_target = models.JSONField(null=True, help_text="The target with most words: its words, file and line.")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["dataset", "split"], name="one_content_per_split")]

    def __str__(self) -> str:
        return f"{self.split}: {self.rows} rows"


class UploadQuerySet(models.QuerySet["Upload"]):
    def visible_to(self, actor: Actor) -> UploadQuerySet:
        """One's own, in workspaces that one is still in: nobody continues another's upload."""
        return self.filter(workspace__in=actor.roles, created_by=actor.user)


class Upload(models.Model):
    """A file on its way, in pieces, over as many connections as it takes. Its bytes lie in a file of this name below
    ``UPLOAD_DIR``; that file's length is how much has arrived."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="uploads")
    name = models.CharField(max_length=255)
    size = models.BigIntegerField(help_text="Bytes of the whole file.")
    created_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(db_index=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.CheckConstraint(condition=Q(size__gt=0), name="upload_has_content")]

    def __str__(self) -> str:
        return self.name
