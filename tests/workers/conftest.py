"""The real platform on a live server, a tiny base model, and worker processes beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest
from django.core.exceptions import ObjectDoesNotExist
from pytest_django.live_server_helper import LiveServer
from safetensors.numpy import save_file

from embedded.services import Valkey
from hub.accounts.models import BASE_WORKSPACE, Workspace
from hub.core import storage
from hub.datasets.models import Dataset, DatasetSplit, DatasetState
from hub.registry.models import ModelKind, ModelVersion
from hub.registry.services.models import ensure_model
from hub.registry.services.versions import publish, store_blob, verify
from jobs.models import Job
from pst_client.contract import FileRef
from tests.e2e.tiny import ROWS, write_model
from tests.factories.accounts import Person
from tests.factories.jobs import BERT

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"epochs": 2, "dense_epochs": 1, "batch_size": 32, "evaluations": 2, "max_length": 32}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_export(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse classifier with random weights, exported as a job exports it."""
    import torch

    from pst.export.huggingface import export
    from pst.model.loading import load_model

    model = load_model(tiny_folder, "classification", ["invoice", "password", "track"], 0)
    with torch.no_grad():
        for parameter in model.bert.encoder.parameters():
            if parameter.dim() == 2:
                parameter[torch.rand_like(parameter) < 0.9] = 0.0
    folder = tmp_path_factory.mktemp("export") / "export"
    export(model, tiny_folder, ["invoice", "password", "track"], torch.float32, 32, folder)
    return folder


def publish_folder(folder: Path, *, workspace: Workspace, name: str, kind: ModelKind) -> ModelVersion:
    """Every file of the folder as a version."""
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        blob = store_blob(parts=[content], max_bytes=10**8)
        files.append(FileRef(path=path.relative_to(folder).as_posix(), sha256=blob.sha256, size=blob.size))
    model = ensure_model(workspace=workspace, name=name, kind=kind)
    return publish(model=model, files=verify(files), lineage={}, report={})


@pytest.fixture
def light_base(transactional_db: None, tmp_path: Path) -> ModelVersion:
    """base/tiny as the platform and a scripted training see it: one small matrix, made without torch."""
    folder = tmp_path / "light"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT))
    save_file({"weight": numpy.zeros((4, 4), dtype=numpy.float32)}, folder / "model.safetensors")
    base, _ = Workspace.objects.get_or_create(slug=BASE_WORKSPACE, defaults={"name": "Base models"})
    return publish_folder(folder, workspace=base, name="tiny", kind=ModelKind.BASE)


def rows_dataset(workspace: Workspace) -> Dataset:
    """Three intents of the sample data, as validation leaves them."""
    labels = sorted({label for _, label in ROWS})
    dataset = Dataset.objects.create(
        workspace=workspace, name="intents", state=DatasetState.READY, labels=labels, sha256="0" * 64
    )
    # Every label in both parts: the file is sorted by label.
    shuffled = sorted(ROWS, key=lambda row: hash_of(row[0]))
    cut = len(shuffled) * 3 // 4
    parts = {"train": shuffled[:cut], "validation": shuffled[cut:]}
    for split, rows in parts.items():
        content = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows).encode()
        sha256, size = storage.put([content], max_bytes=10**7)
        where = {"file": "intents.csv", "lines": [ROWS.index(row) + 2 for row in rows]}
        at, length = storage.put([json.dumps(where).encode()], max_bytes=10**7)
        DatasetSplit.objects.create(
            dataset=dataset,
            split=split,
            rows=len(rows),
            sha256=sha256,
            size=size,
            lines_sha256=at,
            lines_size=length,
        )
    return dataset


def hash_of(text: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, text).hex


def submit(person: Person, dataset: Dataset, settings: dict[str, Any], *, queue: str, **changes: Any) -> Job:
    body = {
        "dataset": str(dataset.id),
        "base_model": "base/tiny",
        "target": {"sparsity": 0.9},
        "settings": settings,
        "model_name": "intents",
        "queue": queue,
    }
    answer = person.client.post("/api/v1/jobs", body | changes)
    assert answer.status_code == 201, answer.content
    return Job.objects.get(pk=answer.json()["id"])


@dataclass
class Process:
    """A worker or a serving node as a real process; its output is kept for the failing test."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def job_child(self) -> psutil.Process | None:
        """The process that trains."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "pst_worker.run" in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None


Start = Callable[..., Process]


@pytest.fixture
def start(
    tmp_path: Path, live_server: LiveServer, node_token: str, serve_token: str, valkey: Valkey
) -> Iterator[Start]:
    """Starts ``python -m MODULE`` with a node's environment; everything is ended with the test. With ``script`` the
    training is scripted (see scripted/sitecustomize.py)."""
    started: list[Process] = []

    def begin(module: str, *arguments: str, script: str = "", **environment: str) -> Process:
        log = tmp_path / f"{module}-{len(started)}.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPARSEWRIGHT_")}
        env = {
            **kept,
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT / "tests/workers/scripted")] * bool(script) + [str(ROOT / "workers")]
            ),
            "SCRIPT": script,
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
            "SPARSEWRIGHT_URL": live_server.url,
            "SPARSEWRIGHT_NODE_TOKEN": serve_token if module == "pst_serve" else node_token,
            "SPARSEWRIGHT_REDIS_URL": valkey.worker_url,
            "SPARSEWRIGHT_NODE_NAME": f"node-{len(started)}",
            "SPARSEWRIGHT_WORK_DIR": str(tmp_path / "work"),
            "SPARSEWRIGHT_CACHE_DIR": str(tmp_path / "cache"),
            **environment,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                start_new_session=True,
            )
        started.append(Process(process, log))
        return started[-1]

    yield begin
    for item in started:
        if item.process.poll() is None:
            item.process.send_signal(signal.SIGABRT)  # the log then says where each thread was
            item.process.wait()
        print(f"--- {item.log.name} (exit {item.process.returncode})\n{item.output()[-6000:]}")


@pytest.fixture
def queue() -> str:
    """A queue of the test's own: what an earlier test left in the broker is not heard here."""
    return f"q{uuid.uuid4().hex[:12]}"


def eventually(found: Callable[[], Any], *, seconds: float = 30, what: str = "") -> Any:
    """The first true answer of ``found``, asked until then; a row that is not there yet is no answer."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(ObjectDoesNotExist):
            if answer := found():
                return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what or found}"
        time.sleep(0.05)


def state(job: Job) -> str:
    job.refresh_from_db()
    return job.state
