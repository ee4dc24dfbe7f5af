"""The messages of the people's side of the API, as pydantic models: what is parsed, and what OpenAPI describes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, RootModel, StringConstraints

from hub.registry.models import MODEL_NAME, MODEL_NAME_RULE
from pst import messages
from pst.config import TaskName, TrainSettings, from_dict
from pst_client import contract
from pst_client.contract import JobState, Message, Target

MAX_NAME = 100
RESERVED_QUEUES = ("platform", "unacked")
"""The platform's own queue, and a name that the queue's transport keeps for itself."""


def _checked_settings(value: Any) -> Any:
    """Let the library judge the settings first: its messages name the field and what is allowed."""
    if isinstance(value, dict):
        from_dict(value)
    return value


def _free_queue(name: str) -> str:
    if name in RESERVED_QUEUES:
        raise ValueError(messages.Message("{name} is kept for the platform itself; choose another queue", name=name))
    return name


def _model_name(name: str) -> str:
    if not re.fullmatch(MODEL_NAME.regex, name):
        raise ValueError(MODEL_NAME_RULE)
    return name


Settings = Annotated[TrainSettings, BeforeValidator(_checked_settings)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME)]
Queue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), AfterValidator(_free_queue)]
ModelName = Annotated[str, AfterValidator(_model_name)]


class PublicModel(Message):
    """A model that the worker fetches from the public Hub, because the user asks for it by name."""

    public: str = Field(description="owner/name or owner/name@revision.")


BaseModelName = Annotated[
    str | PublicModel, Field(description="workspace/name or workspace/name@revision, or a public model.")
]


class JobSubmission(Message):
    workspace: str | None = Field(None, description="Slug; may be left out by who is in one workspace only.")
    name: Name | None = Field(None, description="By default the data set's name.")
    dataset: UUID
    base_model: BaseModelName
    target: Target
    settings: Settings = TrainSettings()
    model_name: ModelName | None = Field(
        None, description="Registry model that the result becomes a version of; by default made from the job's name."
    )
    queue: Queue = "default"
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        None, description="The same key again returns the same job instead of another one."
    )


class EstimateQuery(Message):
    workspace: str | None = None
    base_model: BaseModelName
    target: Target
    settings: Settings = TrainSettings()
    task: TaskName = Field("classification", description="Of the rows; a data set says it itself.")
    num_labels: int | None = Field(
        None, ge=1, le=100_000, description="Of classification and multilabel; needed where no data set is given."
    )
    dataset: UUID | None = None
    name: Name | None = Field(None, description="The job's; by default the data set's.")
    queue: Queue = "default"


class PlannedGroup(BaseModel):
    """Matrices that are pruned alike. The sizes are null in a job on a public model."""

    name: str
    sparsity: float
    matrices: int | None = None
    shapes: list[tuple[int, int]] | None = Field(None, description="The distinct shapes, as [rows, columns].")
    weights: int | None = None
    nonzeros: int | None = None
    bytes: int | None = None


class PlannedTime(BaseModel):
    """One forward pass, as predicted from what a serving node measured of itself."""

    node: str
    rows: int
    tokens: int
    latency_ms: float
    dense_latency_ms: float
    speedup: float


class JobPlan(BaseModel):
    """The planner's answer. Everything but the sparsities is null in a job on a public model."""

    # Not pst.plan.planner.Plan itself, of which every part is known, and whose time knows no node's name.

    groups: list[PlannedGroup]
    sparsity: float
    prunable_params: int | None = None
    fixed_params: int | None = None
    nonzero_params: int | None = None
    total_params: int | None = None
    dense_bytes: int | None = None
    sparse_bytes: int | None = None
    fixed_bytes: int | None = Field(None, description="Of the compact file, what is not pruned, and the header.")
    int8_embeddings_bytes: int | None = Field(
        None, description="The compact file if embeddings were stored in 8 bits; null where they are."
    )
    memory_bytes: int | None = Field(None, description="Of a serving node, for one replica with the model loaded.")
    dense_memory_bytes: int | None = Field(None, description="The same of the dense model.")
    trainable_params: int | None = None
    training_memory_bytes: int | None = Field(
        None, description="Of one training process on a CPU, with rows of full length."
    )
    training_gpu_bytes: int | None = Field(None, description="Of a GPU's memory, for one training process.")
    binding: str | None = Field(None, description="The part of the target that decided.")
    reached: bool | None = Field(None, description="False only for a method that prunes nothing.")
    notes: list[str] = Field([], description="What the plan can't do or know, in sentences.")
    time: PlannedTime | None = Field(None, description="Where the target says on which node; null otherwise.")


class SecondsEstimate(BaseModel):
    estimate: float | None = Field(description="From finished jobs of the same base model; null where there is none.")


class QueueReport(BaseModel):
    name: str
    position: int = Field(description="Place that a job submitted now would have; 1 is next.")
    workers_online: int


class Estimate(BaseModel):
    plan: JobPlan | None = Field(description="Null for a public model: its sizes are unknown before it is fetched.")
    seconds: SecondsEstimate
    queue: QueueReport
    model_name: str | None = Field(
        description="What the result is called where no model_name is given; null without a data set."
    )


class NamedDataset(BaseModel):
    id: UUID
    name: str


class PublishedVersion(BaseModel):
    repo: str
    number: int
    commit: str


class Job(BaseModel):
    id: UUID
    workspace: str
    name: str
    state: JobState
    queue: str
    queue_position: int | None = Field(description="1 is next; null unless the job is queued.")
    workers_online: int = Field(description="Workers that listen to the job's queue now.")
    waiting_for: Literal["worker", "no_worker_online"] | None
    message: str = Field(description="What the user should know or do; empty when there is nothing.")
    pause_requested: bool
    dataset: NamedDataset
    base_model: str
    public: bool = Field(description="The base model is fetched from the public Hub.")
    model_name: str
    settings: TrainSettings
    target: Target
    plan: JobPlan
    attempt: int
    failures: int
    max_attempts: int
    progress: contract.ProgressData
    error: str
    version: PublishedVersion | None
    created_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    report_available: bool


class Recorded(BaseModel):
    id: int
    attempt: int = Field(description="0: the platform's own entry.")


class JobStateEvent(Recorded, contract.StateEvent):
    pass


class JobPhaseEvent(Recorded, contract.PhaseEvent):
    pass


class JobProgressEvent(Recorded, contract.ProgressEvent):
    pass


class JobMetricEvent(Recorded, contract.MetricEvent):
    pass


class JobLogEvent(Recorded, contract.LogEvent):
    pass


class JobCheckpointEvent(Recorded, contract.CheckpointEvent):
    pass


class JobResourcesEvent(Recorded, contract.ResourcesEvent):
    pass


class JobEvent(RootModel[Any]):
    """What ``data`` holds, its ``type`` says."""

    root: Annotated[
        JobStateEvent
        | JobPhaseEvent
        | JobProgressEvent
        | JobMetricEvent
        | JobLogEvent
        | JobCheckpointEvent
        | JobResourcesEvent,
        Field(discriminator="type"),
    ]


class JobEvents(BaseModel):
    events: list[JobEvent]
    last: int = Field(description="Give this as after= to get what follows.")
