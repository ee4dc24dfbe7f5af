"""What the web tier and the workers say to each other. Both sides import this module and nothing else of each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, cast, get_args
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from pst import messages
from pst.config import Phase, TaskName, TrainSettings, setting
from pst.plan import latency, target

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
RepoId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]

Said = Annotated[
    dict[str, Any] | None,
    Field(default=None, description="How the sentence beside it is said (pst.messages.said); null: in English only."),
]

RUN_JOB_TASK = "pst_worker.run_job"
"""Name of the one Celery task of the workers; its only argument is ``job_id``."""
DOORBELL_PREFIX = "bell:"
"""How the names of all keys in Redis begin that workers may touch."""

LEASE_HEADER = "X-Lease-Token"

PREDICT_PREFIX = "sw_p_"
"""How the tokens begin that a serving node takes: all that they can do is ask a deployment."""


class Message(BaseModel):
    """Base of every message. Who writes one is strict: a field that the message does not have is an error. Who reads
    what the other side sent, with :meth:`read`, passes over fields that it does not know, at any depth: one side may
    be newer than the other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, data: Any) -> Self:
        """The message that the other side sent. Raises pydantic's ValidationError."""
        return cls.model_validate(data, extra="ignore")

    @classmethod
    def read_json(cls, data: str | bytes) -> Self:
        return cls.model_validate_json(data, extra="ignore")


MOST_INPUTS = 256
MOST_QUESTION_BYTES = 8 * 1024 * 1024
"""Of one question to a serving node; a client sends more in parts."""


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class FileRef(Message):
    """A file by its content. ``path`` is relative, with forward slashes."""

    path: str
    sha256: Sha256
    size: int = Field(ge=0, description="Bytes.")


class SplitRef(FileRef):
    """Canonical rows of one split, JSON lines: ``{"text", "text_pair"?, "label"}``, where a label is a class, a number
    or a list of classes; or of generation ``{"source", "target", "references"?}``."""

    rows: int = Field(ge=0)
    lines: FileRef | None = Field(
        None, description='``{"file": name, "lines": [...]}``: where each row stands in the user\'s file.'
    )


class DatasetRef(Message):
    id: UUID
    sha256: Sha256 = Field(description="Hash over the splits' hashes: the identity of the data.")
    labels: list[str] = Field(description="The classes; empty for regression and generation.")
    text_pair: bool
    train: SplitRef
    validation: SplitRef | None = None
    test: SplitRef | None = None


class ModelRef(Message):
    """A base model: one of this installation (``repo`` at ``revision``), or ``source="public"``, fetched by name."""

    source: Literal["registry", "public"] = "registry"
    repo: str
    revision: str


Share = Annotated[float, Field(ge=0, le=0.99)]


class Where(Message):
    """The serving node whose profile predicts times, and the input that they are of."""

    node: UUID
    rows: int = Field(default=1, ge=1, le=1024, description="Texts of one request.")
    tokens: int = Field(default=128, ge=1, le=8192, description="Tokens of each text.")


@dataclass(frozen=True, kw_only=True)
class Target(target.Target):
    """A sparsity or a deployment budget; at least one is set. The planner turns it into a sparsity per group."""

    __pydantic_config__ = Message.model_config

    # Bounded here, where the schema can say it.
    groups: dict[str, Share] | None = setting(None, target.GROUPS)  # noqa: RUF009
    on: Where | None = setting(  # noqa: RUF009
        None, "For max_latency_ms and min_speedup; with any target the plan predicts the time there."
    )

    def __post_init__(self) -> None:
        if self.on is None and (self.max_latency_ms is not None or self.min_speedup is not None):
            raise ValueError(
                messages.Message("max_latency_ms and min_speedup need on: a serving node that has measured itself")
            )

    @classmethod
    def read(cls, data: Any) -> Target:
        """As :meth:`Message.read`."""
        return TARGETS.validate_python(data, extra="ignore")

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = TARGETS.dump_python(self, mode="json")
        return found


TARGETS: TypeAdapter[Target] = TypeAdapter(Target)


class JobSpec(Message):
    """All that a worker needs to run one attempt of a job."""

    job_id: UUID
    name: str
    attempt: int = Field(ge=1)
    task: TaskName = "classification"
    base_model: ModelRef
    dataset: DatasetRef
    settings: TrainSettings
    target: Target
    plan: dict[str, float] = Field(description="Sparsity per group of matrices.")
    planned: dict[str, Any] | None = Field(
        default=None,
        description="The whole plan, as the planner made it; null where it can't be known before the worker has the "
        "model, or was made by an older version: then the worker plans.",
    )
    checkpoint: FileRef | None = Field(default=None, description="State to resume from.")
    checkpoint_needs: list[FileRef] = Field(default=[], description="Files of the run's folder that it builds on.")


class Lease(Message):
    token: str
    expires_at: datetime
    seconds: float = Field(description="Length of the lease; a heartbeat renews it by as much.")


class Claim(Message):
    """Answer to a successful claim. ``job_token`` reads this job's data and base model, and nothing else."""

    spec: JobSpec
    lease: Lease
    job_token: str
    next_seq: int = Field(ge=1, description="Sequence number of the attempt's first event.")


class Directive(StrEnum):
    """What the platform wants a running attempt to do."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    PAUSE = "pause"


class Heartbeat(Message):
    """Answer to a heartbeat."""

    directive: Directive
    expires_at: datetime


class EventType(StrEnum):
    STATE = "state"
    PHASE = "phase"
    PROGRESS = "progress"
    METRIC = "metric"
    LOG = "log"
    CHECKPOINT = "checkpoint"
    RESOURCES = "resources"


class StateData(Message):
    """The platform took the job to another state."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    state: JobState
    former: JobState | None = Field(
        default=None,
        validation_alias="from",
        serialization_alias="from",
        description="null: the job was submitted.",
    )
    action: str = ""
    attempt: int = 0
    by: str = Field(default="", description="A user, a worker, or the platform.")
    message: str = ""
    said: Said = None


class PhaseData(Message):
    """A phase began; a newer worker may know others."""

    phase: Phase | str
    index: int | None = None
    of: int | None = Field(default=None, description="How many phases the job has.")


class ProgressData(Message):
    """How far a phase is that counts steps."""

    phase: str = ""
    part: str | None = Field(default=None, description="Of a phase: calibration counts rows, not steps.")
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    sparsity: float | None = None
    learning_rate: float | None = None
    metric: float | None = Field(default=None, description="The last score of the validation split.")
    eta_seconds: float | None = None


class MetricData(Message):
    """A score."""

    phase: str = ""
    step: int | None = None
    name: str = ""
    split: str = ""
    value: float | None = None
    sparsity: float | None = None


class LogData(Message):
    level: str = Field(default="info", description="info, warning or error.")
    message: str = ""
    said: Said = None


class CheckpointData(Message):
    """A checkpoint is in the platform's storage."""

    phase: str = ""
    step: int | None = None
    bytes: int | None = None


class Gpu(Message):
    name: str = ""
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation: float | None = Field(default=None, description="0 to 1.")


class Resources(Message):
    """What the worker's machine and its GPUs do while the job runs. A figure that is not known is null."""

    processor: str = Field(default="", description="Name of the processor.")
    cpus: int = 0
    cpu_load: float | None = Field(
        default=None, description="Processes that wanted to run, on average over the last minute."
    )
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    job_memory_bytes: int | None = Field(default=None, description="Resident memory of the job's processes.")
    gpus: list[Gpu] = []


EventData = StateData | PhaseData | ProgressData | MetricData | LogData | CheckpointData | Resources


class Entry(Message):
    """One entry of a job's append-only record. ``seq`` counts within an attempt; ``data`` is what its type has."""

    seq: int = Field(ge=1)
    at: datetime


class StateEvent(Entry):
    type: Literal[EventType.STATE] = EventType.STATE
    data: StateData


class PhaseEvent(Entry):
    type: Literal[EventType.PHASE] = EventType.PHASE
    data: PhaseData


class ProgressEvent(Entry):
    type: Literal[EventType.PROGRESS] = EventType.PROGRESS
    data: ProgressData


class MetricEvent(Entry):
    type: Literal[EventType.METRIC] = EventType.METRIC
    data: MetricData


class LogEvent(Entry):
    type: Literal[EventType.LOG] = EventType.LOG
    data: LogData


class CheckpointEvent(Entry):
    type: Literal[EventType.CHECKPOINT] = EventType.CHECKPOINT
    data: CheckpointData


class ResourcesEvent(Entry):
    type: Literal[EventType.RESOURCES] = EventType.RESOURCES
    data: Resources


Event = Annotated[
    StateEvent | PhaseEvent | ProgressEvent | MetricEvent | LogEvent | CheckpointEvent | ResourcesEvent,
    Field(discriminator="type"),
]
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
KINDS: tuple[type[Entry], ...] = get_args(get_args(Event)[0])
DATA: dict[EventType, type[EventData]] = {
    kind.model_fields["type"].default: cast("type[EventData]", kind.model_fields["data"].annotation) for kind in KINDS
}


def event(*, seq: int, at: datetime, data: EventData) -> Event:
    """The entry of that data."""
    [kind] = [type_ for type_, holds in DATA.items() if holds is type(data)]
    return EVENTS.validate_python({"seq": seq, "at": at, "type": kind, "data": data})


def read_event(entry: Any) -> Event | None:
    """An entry that the other side sent; None for what only a newer version can read."""
    try:
        return EVENTS.validate_python(entry, extra="ignore")
    except ValidationError:
        return None


def _known(entries: Any) -> Any:
    """Without those of kinds that only a newer version knows."""
    if not isinstance(entries, list):
        return entries
    return [
        entry
        for entry in entries
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str) or entry["type"] in list(EventType)
    ]


class EventBatch(Message):
    events: Annotated[list[Event], BeforeValidator(_known)] = Field(max_length=500)


class CheckpointReport(Message):
    """A checkpoint was uploaded as an artifact; a later attempt resumes from the one that came furthest, by phase and
    step."""

    file: FileRef
    needs: list[FileRef] = Field(
        default=[], description="Artifacts on which it builds, by their place in the run's folder: the dense model."
    )
    step: int = Field(ge=0)
    phase: Phase


class Finish(Message):
    """End of an attempt. On success ``files`` are the version's files, each uploaded as an artifact before."""

    outcome: Literal["succeeded", "failed", "cancelled"]
    error: str | None = Field(default=None, description="One plain sentence for the user.")
    said: Said = None
    detail: str | None = Field(default=None, description="Traceback or last output, for the operator.")
    retriable: bool = Field(
        default=False, description="The child died rather than failed: another attempt may succeed."
    )
    files: list[FileRef] = []
    report: dict[str, Any] | None = None


class Release(Message):
    """The worker gives an unfinished job back: it is stopping, or the job was paused."""

    reason: Literal["shutdown", "paused"]


class NodeRegistration(Message):
    """What a worker or a serving node says of itself when it starts."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    kind: Literal["worker", "serve"]
    version: str
    queues: list[str] = []
    url: str | None = Field(default=None, description="Where a serving node answers predictions.")
    inner_url: str | None = Field(
        default=None, description="Where the platform reaches the node, if elsewhere than callers do."
    )
    hardware: dict[str, Any] = {}


class NodeRegistered(Message):
    node_id: UUID
    heartbeat_seconds: float


class HeldVersion(Message):
    """What a serving node holds for a deployment."""

    deployment_id: UUID
    commit: Commit
    state: Literal["pulling", "verifying", "loading", "ready", "failed"]
    message: str = ""
    said: Said = None


class NodeProfile(Message):
    """How long the parts of a model take on a serving node, as it measured itself."""

    measured_at: datetime
    times: Annotated[latency.Profile, AfterValidator(latency.check)]
    sparse: Annotated[latency.Profile, AfterValidator(latency.check)] | None = Field(
        default=None, description="Of its sparse engine, where it has one; times: of the engine that serves any model."
    )


class NodeStatus(Message):
    node_id: UUID
    held: list[HeldVersion] = []
    profile: NodeProfile | None = Field(default=None, description="Sent when it is new; null changes nothing.")
    load: dict[str, Any] = Field(
        default={},
        description="busy, job_id, cpu_load, memory_available_bytes and, of each GPU, name, memory_bytes, "
        "memory_used_bytes and utilisation (0 to 1).",
    )


class WantedVersion(Message):
    """What a serving node shall hold: pulled from ``repo`` at ``commit`` and checked against its manifest."""

    deployment_id: UUID
    name: str = Field(description="Name under which the node answers: workspace/deployment.")
    repo: RepoId
    commit: Commit


class NodeOrders(Message):
    """Answer to a node's heartbeat."""

    wanted: list[WantedVersion]


class CallerQuery(Message):
    """A serving node asks whose token it was sent; it shows the token's sha256, and is told nothing of a token that
    is not for a workspace which it serves."""

    token_sha256: Sha256


class Caller(Message):
    """Who holds a predict token, as far as a serving node must know it."""

    caller: str = Field(description="Stands for the person, whatever the token; means nothing elsewhere.")
    workspace: str = Field(description="The slug whose deployments may be asked.")
    deployment: str | None = Field(default=None, description="The only one that may be asked; null: all of them.")

    def may_ask(self, workspace: str, deployment: str) -> bool:
        return workspace == self.workspace and self.deployment in (None, deployment)


class Manifest(Message):
    """``manifest.json`` of a version. Its commit is the first 40 hex digits of the sha256 of its canonical JSON."""

    format: Literal["sparsewright.manifest/1"] = "sparsewright.manifest/1"
    repo: RepoId
    version: int = Field(ge=1)
    files: list[FileRef]
    lineage: dict[str, Any]
