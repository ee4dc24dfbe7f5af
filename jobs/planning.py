"""What a job would do, before it is queued: its base model, its plan, and how long it may take. Reads only."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings as django_settings

from hub.accounts.actor import Actor
from hub.accounts.models import Workspace
from hub.core.errors import Forbidden, NotFound, UserError
from hub.datasets.models import Dataset, Split
from hub.registry.access import readable_models
from hub.registry.models import ModelKind, ModelVersion
from hub.registry.services.versions import RevisionNotFound, resolve
from hub.serving.models import Node, NodeKind
from jobs.models import Job
from pst.config import TaskName, TrainSettings
from pst.messages import Message, said
from pst.plan import planner
from pst.plan.families import ModelDescription
from pst.plan.foreign import names_code
from pst_client.contract import JobState, ModelRef, NodeProfile, Target

# owner/name[@revision]; the public Hub's own rules for names, and no part of a path or an address.
PUBLIC_MODEL = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}(@[A-Za-z0-9][A-Za-z0-9._/-]{0,99})?"
)
BUDGETS = ("max_nonzero_params", "max_bytes", "max_memory_bytes", "max_latency_ms", "min_speedup")
LOOK_BACK = 20


@dataclass(frozen=True)
class BaseModel:
    """The model to start from: a version of this installation's registry, or a name on the public Hub."""

    version: ModelVersion | None = None
    public: str = ""

    def reference(self) -> ModelRef:
        if self.version is not None:
            return ModelRef(source="registry", repo=self.version.model.repo_id, revision=self.version.commit)
        repo, _, revision = self.public.partition("@")
        return ModelRef(source="public", repo=repo, revision=revision or "main")

    @property
    def label(self) -> str:
        """As the user writes it, with the revision fixed."""
        found = self.reference()
        return f"{found.repo}@{found.revision}"


def registry_model(*, actor: Actor, name: str) -> BaseModel:
    """The base model that ``workspace/name[@revision]`` names now. Raises NotFound."""
    repo, _, revision = name.partition("@")
    namespace, _, model_name = repo.partition("/")
    missing = NotFound(
        Message("There is no base model {name} that you can see; GET base-models lists them.", name=repr(name[:200])),
        details=[{"field": "base_model", "message": Message("no such base model")}],
    )
    model = (
        readable_models(actor)
        .filter(workspace__slug=namespace, name=model_name, kind=ModelKind.BASE)
        .select_related("workspace")
        .first()
    )
    if model is None:
        raise missing
    try:
        version = resolve(model, revision or "main")
    except RevisionNotFound:
        raise missing from None
    return BaseModel(version=version)


def public_model(*, name: str) -> BaseModel:
    """A model of the public Hub, fetched by the worker. Raises Forbidden where the installation has no such thing."""
    if not django_settings.ALLOW_PUBLIC_MODELS:
        raise Forbidden(Message("This installation doesn't fetch public models; choose one of GET base-models."))
    if not PUBLIC_MODEL.fullmatch(name) or ".." in name:
        raise UserError(
            Message("{name} is no public model; write owner/name or owner/name@revision.", name=repr(name[:200])),
            details=[{"field": "base_model.public", "message": Message("write owner/name or owner/name@revision")}],
        )
    return BaseModel(public=name)


def plan_of(
    *,
    actor: Actor,
    workspace: Workspace,
    base: BaseModel,
    target: Target,
    settings: TrainSettings,
    task: TaskName,
    num_labels: int,
) -> dict[str, Any] | None:
    """The planner's answer as JSON; None for a public model, whose sizes are unknown until a worker has fetched it.

    Raises NotFound for a node that may not serve the workspace, and UserError: code ``budget_unreachable`` with the
    least that can be reached, ``budget_met`` where nothing would be removed, ``no_profile``, or ``invalid``.
    """
    if base.version is None:
        if target.sparsity is None or any(getattr(target, name) is not None for name in (*BUDGETS, "groups")):
            raise UserError(
                Message(
                    "A public model is unknown before it is fetched: give a sparsity as the target, "
                    "no budget, no groups."
                ),
                details=[{"field": "target", "message": Message("give a sparsity alone for a public model")}],
            )
        return None
    if key := names_code(base.version.config):
        raise UserError(
            Message("The base model's config.json has the key {key}, which can make a library load code.", key=key),
            details=[{"field": "base_model", "message": Message("has the key {key}", key=key)}],
        )
    node = None if target.on is None else _measured_node(actor=actor, workspace=workspace, node_id=target.on.node)
    timing = None
    if target.on is not None and node is not None:
        profile = NodeProfile.read(node.profile)
        timing = planner.Timing(profile.times, target.on.rows, target.on.tokens, profile.sparse)
    try:
        found = planner.plan(
            ModelDescription(base.version.config, task, num_labels),
            target,
            storage_dtype=settings.storage_dtype,
            settings=settings,
            timing=timing,
        )
    except planner.BudgetError as error:
        field = f"target.{error.field}" if error.field in planner.Target.__dataclass_fields__ else error.field
        details = [{"field": field, "message": error.message}]
        if error.remedy:
            details.append({"field": "settings.structure", "message": error.remedy})
        unmet = "budget_unreachable" if error.field in BUDGETS else "invalid"
        code = "budget_met" if isinstance(error, planner.BudgetMet) else unmet
        raise UserError(str(error), code=code, details=details) from None
    plan = found.to_dict()
    plan["notes_said"] = [said(note) for note in found.notes]
    if node is not None and plan["time"] is not None:
        plan["time"]["node"] = node.name
    return plan


def check_targets(*, base: BaseModel, settings: TrainSettings, dataset: Dataset) -> None:
    """Raise UserError where a data set of generation has a target, or the setting a length, that can't fit: known
    without a tokenizer, since none makes fewer tokens than there are words. The rest is known to the job alone."""
    if dataset.task != "generation":
        return
    limit = settings.max_target_length
    model = None if base.version is None else ModelDescription(base.version.config)
    context = None if model is None else model.max_tokens
    if model is not None and model.source_room(limit) < 2:
        message = Message(
            "max_target_length {limit} does not fit the model's context of {context} tokens, which also holds the "
            "source; lower it.",
            limit=limit,
            context=context,
        )
        raise UserError(message, details=[{"field": "settings.max_target_length", "message": message}])
    longest = [split.longest_target for split in dataset.splits.all() if split.longest_target]
    found = max(longest, key=lambda item: int(item["words"]), default=None)
    if found is None or found["words"] < limit:  # one more token ends the text
        return
    if context is not None and found["words"] >= context:
        message = Message(
            "{file}, line {line}: the target has {words:,} words, and at least as many tokens, more than the model's "
            "context of {context}; shorten or remove it.",
            **found,
            context=context,
        )
    else:
        message = Message(
            "{file}, line {line}: the target has {words:,} words, and at least as many tokens and an end, more than "
            "max_target_length, {limit}; raise that, or shorten the text.",
            **found,
            limit=limit,
        )
    raise UserError(message, details=[{"field": "settings.max_target_length", "message": message}])


def _measured_node(*, actor: Actor, workspace: Workspace, node_id: UUID) -> Node:
    """A serving node that may serve the workspace and has measured itself, online or not."""
    node = Node.objects.visible_to(actor).reachable_by(workspace).filter(pk=node_id, kind=NodeKind.SERVE).first()
    if node is None:
        raise NotFound(
            Message(
                "There is no serving node {node_id} for the workspace {workspace}.",
                node_id=node_id,
                workspace=workspace.slug,
            ),
            details=[{"field": "target.on.node", "message": Message("no such serving node")}],
        )
    if node.profile is None:
        raise UserError(
            Message("The node {node} has not measured itself, so no time can be predicted for it.", node=node.name),
            code="no_profile",
            details=[{"field": "target.on.node", "message": Message("has not measured itself")}],
        )
    return node


def workers_target(job: Job) -> Target:
    """What an attempt is told to reach. Times were planned with a node's profile, which no worker has: their plan."""
    target = Target.read(job.target)
    if target.max_latency_ms is None and target.min_speedup is None:
        return replace(target, on=None)
    return Target(groups={item["name"]: item["sparsity"] for item in job.plan["groups"] if item["sparsity"]} or None)


def workers_plan(job: Job) -> dict[str, Any] | None:
    """The plan that an attempt goes by; None where there is but a sparsity, or a plan without what plans have now."""
    try:
        return planner.Plan.from_dict(job.plan).to_dict()
    except ValueError:
        return None


def uniform_plan(target: Target, settings: TrainSettings) -> dict[str, Any]:
    """What is kept as the plan of a job on a public model: the same sparsity for all its matrices, no sizes."""
    sparsity = target.sparsity if planner.METHODS[settings.method].prunes else 0.0
    return {"groups": [{"name": "all", "sparsity": sparsity}], "sparsity": sparsity}


def seconds_of(*, actor: Actor, base: BaseModel, settings: TrainSettings, dataset: Dataset | None) -> float | None:
    """Seconds that such a job may take: the median pace of the actor's finished jobs of the same base model, method
    and row length, done in one attempt. None without data or without such a job.
    """
    if dataset is None or base.version is None:
        return None
    rows = _train_rows(dataset)
    finished = (
        Job.objects.visible_to(actor)
        .filter(
            state=JobState.SUCCEEDED.value,
            base_model=base.version,
            attempt=1,
            settings__method=settings.method,
            settings__max_length=settings.max_length,
        )
        .select_related("dataset")
        .prefetch_related("dataset__splits")
        .order_by("-finished_at")[:LOOK_BACK]
    )
    paces = []
    for job in finished:
        seen = _passes(job.settings) * _train_rows(job.dataset)
        if job.started_at is not None and job.finished_at is not None and seen:
            paces.append((job.finished_at - job.started_at).total_seconds() / seen)
    return round(statistics.median(paces) * rows * _passes(asdict(settings)), 1) if paces else None


def _passes(settings: Mapping[str, Any]) -> float:
    """How often a job's rows go through the model: in the sparse run, and in the dense one it is compared with."""
    if settings["method"] == "dense":
        return float(settings["dense_epochs"])
    return float(settings["epochs"] + (settings["dense_epochs"] if settings["compare_dense"] else 0))


def _train_rows(dataset: Dataset) -> int:
    return sum(split.rows for split in dataset.splits.all() if split.split == Split.TRAIN)
