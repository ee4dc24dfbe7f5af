"""Data sets, base models and jobs, and a worker that speaks to the platform as a real one does: over HTTP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from rest_framework.response import Response
from rest_framework.test import APIClient

from hub.accounts.models import BASE_WORKSPACE, ApiToken, User, Workspace
from hub.core import storage
from hub.datasets.models import Dataset, DatasetSplit, DatasetState
from hub.registry.models import Model, ModelKind, ModelVersion
from hub.registry.services.models import ensure_model
from hub.registry.services.versions import publish, store_blob, verify
from hub.serving.models import Node, NodeKind
from jobs.models import Job
from pst_client.contract import LEASE_HEADER, FileRef
from tests.factories.accounts import Person, bearer, node_secret
from tests.workers.scripted.made import REPORT, export

BERT = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
}
LABELS = ["billing", "shipping", "returns"]


def ready_dataset(
    workspace: Workspace, *, name: str = "support desk", user: User | None = None, rows: int = 12
) -> Dataset:
    """A data set as validation leaves it, with its rows in the storage."""
    splits = {}
    for split, count in (("train", rows), ("validation", 3)):
        lines = [
            json.dumps({"text": f"{name} {split} {row}", "label": LABELS[row % len(LABELS)]}) for row in range(count)
        ]
        sha256, size = storage.put(["".join(f"{line}\n" for line in lines).encode()], max_bytes=10**6)
        where = json.dumps({"file": "desk.csv", "lines": [row + 2 for row in range(count)]}).encode()
        at, length = storage.put([where], max_bytes=10**6)
        splits[split] = DatasetSplit(
            split=split, rows=count, sha256=sha256, size=size, lines_sha256=at, lines_size=length
        )
    dataset = Dataset.objects.create(
        workspace=workspace,
        name=name,
        state=DatasetState.READY,
        labels=LABELS,
        sha256=hashlib.sha256("".join(split.sha256 for split in splits.values()).encode()).hexdigest(),
        created_by=user,
    )
    for item in splits.values():
        item.dataset = dataset
        item.save()
    return dataset


def file_ref(path: str, content: bytes) -> FileRef:
    """The content in the storage, as a file of a version."""
    blob = store_blob(parts=[content], max_bytes=10**6)
    return FileRef(path=path, sha256=blob.sha256, size=blob.size)


def base_model(
    name: str = "tiny-bert", *, workspace: Workspace | None = None, config: dict[str, Any] | None = None
) -> ModelVersion:
    """A base model of the installation, or of one workspace."""
    place = workspace or Workspace.objects.get_or_create(slug=BASE_WORKSPACE, defaults={"name": "Base models"})[0]
    model: Model = ensure_model(workspace=place, name=name, kind=ModelKind.BASE)
    files = [file_ref("config.json", json.dumps(config or BERT).encode())]
    return publish(model=model, files=verify(files), lineage={"license": "apache-2.0"}, report={})


def submission(person: Person, **changes: Any) -> dict[str, Any]:
    """The body of POST jobs for a small job in the person's workspace; makes what it names."""
    body: dict[str, Any] = {"base_model": "base/tiny-bert", "target": {"sparsity": 0.9}, "name": "first try"}
    if "dataset" not in changes:
        body["dataset"] = str(ready_dataset(person.workspace, user=person.user).id)
    if "base_model" not in changes and not Model.objects.filter(workspace__slug=BASE_WORKSPACE, name="tiny-bert"):
        base_model()
    return body | changes


def queued_job(person: Person, **changes: Any) -> Job:
    """A job that was submitted through the API."""
    answer = person.client.post("/api/v1/jobs", submission(person, **changes))
    assert answer.status_code == 201, answer.content
    return Job.objects.get(pk=answer.json()["id"])


@dataclass
class Worker:
    """A worker: its node, its token, and the lease of the job that it claimed last."""

    node: Node
    client: APIClient
    lease: str = ""
    job_token: str = ""
    claim_answer: dict[str, Any] = field(default_factory=dict)

    def claim(self, job: Job | UUID) -> Response:
        answer = self.client.post(_url(job, "claim"), {"node_id": str(self.node.id)})
        if answer.status_code == 200:
            self.claim_answer = answer.json()
            self.lease, self.job_token = self.claim_answer["lease"]["token"], self.claim_answer["job_token"]
        return answer

    def next(self, *queues: str) -> UUID | None:
        body = {"node_id": str(self.node.id), "queues": list(queues or ("default",))}
        found = self.client.post("/api/v1/worker/next", body).json()["job_id"]
        return UUID(found) if found else None

    def post(self, job: Job, what: str, body: dict[str, Any] | None = None) -> Response:
        return self.client.post(_url(job, what), body or {}, headers={LEASE_HEADER: self.lease})

    def heartbeat(self, job: Job) -> Response:
        return self.post(job, "heartbeat")

    def events(self, job: Job, *events: dict[str, Any]) -> Response:
        return self.post(job, "events", {"events": list(events)})

    def upload(self, job: Job, content: bytes, *, sha256: str | None = None) -> Response:
        name = sha256 or hashlib.sha256(content).hexdigest()
        return self.client.put(
            _url(job, f"artifacts/{name}"),
            content,
            content_type="application/octet-stream",
            headers={LEASE_HEADER: self.lease},
        )

    def uploaded(self, job: Job, path: str, content: bytes) -> dict[str, Any]:
        """Upload the content and return its FileRef."""
        answer = self.upload(job, content)
        assert answer.status_code == 201, answer.content
        return {"path": path, **answer.json()}

    def checkpoint(
        self, job: Job, content: bytes = b"state", *, step: int = 10, phase: str = "train", needs: bytes | None = None
    ) -> Response:
        file = self.uploaded(job, "checkpoint", content)
        more = [] if needs is None else [self.uploaded(job, "dense/model.safetensors", needs)]
        return self.post(job, "checkpoint", {"file": file, "needs": more, "step": step, "phase": phase})

    def success(self, job: Job) -> dict[str, Any]:
        """Upload a version's files and return the Finish that publishes them."""
        made = export(str(job.id), BERT)
        files = [self.uploaded(job, path, content) for path, content in made.items()]
        return {"outcome": "succeeded", "files": files, "report": REPORT}

    def finish(self, job: Job, body: dict[str, Any]) -> Response:
        return self.post(job, "finish", body)

    def release(self, job: Job, reason: str = "shutdown") -> Response:
        return self.post(job, "release", {"reason": reason})


def worker(
    name: str = "gpu-1", *, workspace: Workspace | None = None, queues: tuple[str, ...] = ("default",)
) -> Worker:
    """A worker that has registered and is online."""
    secret = node_secret(name, workspace=workspace)
    node = Node.objects.create(
        name=name,
        kind=NodeKind.WORKER,
        workspace=workspace,
        token=ApiToken.objects.get(digest=ApiToken.hash(secret)),
        version="0.1.0",
        queues=list(queues),
    )
    return Worker(node=node, client=bearer(secret))


def event(seq: int, type: str = "log", **data: Any) -> dict[str, Any]:
    return {"seq": seq, "type": type, "at": datetime.now(UTC).isoformat(), "data": data}


def _url(job: Job | UUID, what: str) -> str:
    return f"/api/v1/worker/jobs/{job.pk if isinstance(job, Job) else job}/{what}"
