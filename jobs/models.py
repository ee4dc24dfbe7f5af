"""A job, its append-only events, and its artifacts. ``jobs.services`` is the only writer of ``Job.state``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils import timezone

from hub.accounts.models import AuditSubject, User, Workspace
from hub.datasets.models import Dataset
from hub.registry.models import MODEL_NAME, Blob, ModelVersion
from hub.serving.models import Node
from pst_client.contract import EventType, JobState

if TYPE_CHECKING:
    from hub.accounts.actor import Actor

STATES = [(state.value, state.value) for state in JobState]
FINAL = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
LEASED = (JobState.RUNNING, JobState.CANCELLING)


class JobQuerySet(models.QuerySet["Job"]):
    def visible_to(self, actor: Actor) -> JobQuerySet:
        """People see their workspaces' jobs, a worker those that it may claim, a job's token that job alone."""
        if actor.is_worker and actor.token is not None:
            # A node token without a workspace works for the whole installation.
            bound = actor.token.workspace_id
            return self.all() if bound is None else self.filter(workspace=bound)
        if actor.job_id is not None:
            return self.filter(id=actor.job_id)
        return self.filter(workspace__in=actor.roles)

    def waiting(self) -> JobQuerySet:
        """Queued jobs, the next one first."""
        return self.filter(state=JobState.QUEUED.value).order_by("queued_at", "id")


class Job(models.Model):
    """One sparse fine-tuning run. While a worker holds it, ``lease_digest`` is the sha256 of its lease token.

    ``attempt`` counts how often a worker took the job, ``failures`` how many of those attempts failed: an attempt that
    was paused, or that its worker gave back to shut down, is no failure.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="jobs")
    name = models.CharField(max_length=100)
    state = models.CharField(max_length=12, choices=STATES, default=JobState.QUEUED.value)
    queue = models.CharField(max_length=63, default="default")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="jobs")
    base_model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    public_model = models.CharField(
        max_length=200, blank=True, help_text="owner/name[@revision] on the public Hub, instead of base_model."
    )
    model_name = models.CharField(
        max_length=96, validators=[MODEL_NAME], help_text="The registry model that the result is published in."
    )
    settings = models.JSONField()
    target = models.JSONField()
    plan = models.JSONField(help_text="The planner's answer, as it was when the job was submitted.")
    # Null, not empty, for the many jobs without one: only then does the unique constraint leave them alone.
    idempotency_key = models.CharField(max_length=100, null=True, blank=True)  # noqa: DJ001
    submission_sha256 = models.CharField(max_length=64, blank=True)
    """Of what was asked for under the key, so that the key of one wish is no answer to another."""

    attempt = models.PositiveIntegerField(default=0, help_text="Attempts started so far.")
    failures = models.PositiveIntegerField(default=0, help_text="Attempts that failed so far.")
    max_attempts = models.PositiveIntegerField(default=2, help_text="The job fails when so many attempts have failed.")
    pause_requested = models.BooleanField(default=False)
    node = models.ForeignKey(Node, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    lease_digest = models.CharField(max_length=64, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    checkpoint = models.JSONField(
        null=True, blank=True, help_text="A CheckpointReport: where the next attempt resumes."
    )
    progress = models.JSONField(default=dict, help_text="The last progress event's data.")
    error = models.TextField(blank=True)
    error_said = models.JSONField(null=True, editable=False, help_text="How the error is said (pst.messages.said).")
    error_detail = models.TextField(blank=True)
    finish = models.JSONField(
        null=True, blank=True, help_text="Digests of the last Finish and its lease, and what it was answered."
    )
    report = models.JSONField(null=True, blank=True)
    version = models.OneToOneField(ModelVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="job")

    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    queued_at = models.DateTimeField(default=timezone.now)
    rung_at = models.DateTimeField(default=timezone.now, help_text="When workers were last told of it.")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=[state.value for state in JobState]), name="job_state_known"),
            models.CheckConstraint(
                name="job_leased_while_running",
                condition=(
                    Q(state__in=[state.value for state in LEASED], lease_expires_at__isnull=False) & ~Q(lease_digest="")
                )
                | (~Q(state__in=[state.value for state in LEASED]) & Q(lease_digest="", lease_expires_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="job_succeeded_has_version",
                condition=~Q(state=JobState.SUCCEEDED.value) | Q(version__isnull=False),
            ),
            models.CheckConstraint(
                name="job_names_one_base_model",
                condition=Q(base_model__isnull=False, public_model="")
                | (Q(base_model__isnull=True) & ~Q(public_model="")),
            ),
            models.UniqueConstraint(fields=["workspace", "idempotency_key"], name="job_idempotency_key_once"),
        ]
        indexes = [
            models.Index(fields=["workspace", "-created_at"]),
            models.Index(fields=["state", "queue", "queued_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.workspace}/{self.name} ({self.state})"

    @property
    def audit(self) -> AuditSubject:
        return AuditSubject("job", str(self.id), self.workspace, {"name": self.name})


class JobEvent(models.Model):
    """One entry of a job's record; rows are only ever added.

    A worker numbers the entries of its attempt (1, 2, ...) from 1 on its own. The platform's entries carry attempt 0
    and a count of their own, so the two never meet. Rows are added under the job's row lock: within a job, a greater
    ``id`` was committed later, which is what readers page by.
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveIntegerField()
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=12, choices=[(item.value, item.value) for item in EventType])
    at = models.DateTimeField()
    data = models.JSONField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "attempt", "seq"], name="job_event_once")]
        indexes = [models.Index(fields=["job", "id"])]

    def __str__(self) -> str:
        return f"{self.type} {self.attempt}.{self.seq}"


class JobArtifact(models.Model):
    """A file that an attempt uploaded under its lease: a checkpoint, or a file of the version to be published."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="artifacts")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "blob"], name="job_artifact_once")]

    def __str__(self) -> str:
        return self.blob_id
