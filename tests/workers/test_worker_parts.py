"""Parts of the worker by themselves: the event stream, inputs, the child, settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest

from pst import machine
from pst.config import TrainSettings
from pst.messages import Message, recall
from pst_client import hardware
from pst_client.api.worker import Leased
from pst_client.client import Platform
from pst_client.contract import (
    LEASE_HEADER,
    Claim,
    DatasetRef,
    Directive,
    JobSpec,
    Lease,
    LogData,
    ModelRef,
    SplitRef,
    Target,
)
from pst_client.environment import SettingsMissing, node_name
from pst_client.errors import PlatformError
from pst_worker import inputs, run, stream
from pst_worker.child import Child, describe_exit, environment
from pst_worker.inputs import run_spec
from pst_worker.settings import from_environment
from pst_worker.stream import JobStream, LeaseLost
from tests.workers.conftest import ROOT, eventually

JOB = UUID("6f1c9c0e-52a0-4c43-b8a5-6f0f4f6f3f10")


def claim(*, base: ModelRef | None = None, plan: dict[str, float] | None = None) -> Claim:
    split = SplitRef(path="train.jsonl", sha256="0" * 64, size=1, rows=1)
    spec = JobSpec(
        job_id=JOB,
        name="job",
        attempt=1,
        base_model=base or ModelRef(repo="base/tiny", revision="a" * 40),
        dataset=DatasetRef(id=uuid4(), sha256="0" * 64, labels=["a", "b"], text_pair=False, train=split),
        settings=TrainSettings(epochs=3),
        target=Target(sparsity=0.9),
        plan=plan or {"ffn": 0.9},
    )
    lease = Lease(token="lease", expires_at=datetime.now(UTC) + timedelta(seconds=0.3), seconds=0.3)
    return Claim(spec=spec, lease=lease, job_token="sw_j_token", next_seq=7)


class FakePlatform:
    """The platform's side of a lease; ``trouble`` is what it answers instead."""

    def __init__(self) -> None:
        self.events: dict[int, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.heartbeats = 0
        self.directive = "continue"
        self.trouble: Exception | httpx.Response | None = None
        self.refused: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if self.trouble is not None:
            return self.trouble
        assert request.headers[LEASE_HEADER] == "lease"
        action = request.url.path.removeprefix(f"/api/v1/worker/jobs/{JOB}/").partition("/")[0]
        if action in self.refused:
            error = {"code": "too_large", "message": "Too large.", "details": []}
            return httpx.Response(413, json={"error": error})
        if action == "events":
            for event in json.loads(body)["events"]:
                self.events.setdefault(event["seq"], event)
        elif action == "artifacts":
            self.uploads[request.url.path.rpartition("/")[2]] = body
        elif action == "checkpoint":
            self.checkpoints.append(json.loads(body))
        else:
            self.heartbeats += 1
            expires = datetime.now(UTC).isoformat()
            return httpx.Response(200, json={"directive": self.directive, "expires_at": expires})
        return httpx.Response(200, json={"accepted": 1, "directive": self.directive})

    def types(self) -> list[str]:
        return [event["type"] for _, event in sorted(self.events.items())]


@pytest.fixture
def fake() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
def job_stream(fake: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stream, "FLUSH_SECONDS", 0.02)
    platform = Platform("http://platform", "token", transport=httpx.MockTransport(fake), tries=1)
    made = JobStream(Leased(platform.http, JOB, "lease"), claim(), tmp_path)
    made.start()
    yield made
    made.close()


def lost_answer() -> httpx.Response:
    return httpx.Response(409, json={"error": {"code": "stale_lease", "message": "Over.", "details": []}})


def test_events_are_numbered_without_gaps_through_an_outage(fake: FakePlatform, job_stream: JobStream) -> None:
    job_stream.add(LogData(message="first"))
    eventually(lambda: fake.events)
    fake.trouble = httpx.ConnectError("away")
    for step in range(450):
        job_stream.from_child({"type": "progress", "step": step})
    time.sleep(0.1)
    fake.trouble = httpx.Response(503)
    time.sleep(0.1)
    assert not job_stream.lost
    fake.trouble = None
    job_stream.drain(5)
    assert sorted(fake.events) == list(range(7, 7 + 451))
    assert [fake.events[8 + step]["data"]["step"] for step in range(450)] == list(range(450))


def test_a_long_outage_costs_progress_events_only(
    fake: FakePlatform, job_stream: JobStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_WAITING_EVENTS", 10)
    fake.trouble = httpx.ConnectError("away")
    job_stream.from_child({"type": "phase", "phase": "train"})
    for step in range(100):
        job_stream.from_child({"type": "progress", "step": step})
    fake.trouble = None
    job_stream.drain(5)
    assert fake.types()[0] == "phase"
    assert 0 < fake.types().count("progress") <= 20 + stream.BATCH
    assert sorted(fake.events) == list(range(7, 7 + len(fake.events)))


def test_a_refused_batch_does_not_block_the_next(fake: FakePlatform, job_stream: JobStream) -> None:
    fake.refused.add("events")
    job_stream.add(LogData(message="refused"))
    time.sleep(0.2)
    fake.refused.clear()
    job_stream.add(LogData(message="taken"))
    job_stream.drain(5)
    assert [event["data"]["message"] for event in fake.events.values()] == ["taken"]


def test_the_newest_checkpoint_is_uploaded_though_the_child_replaced_it(
    fake: FakePlatform, job_stream: JobStream, tmp_path: Path
) -> None:
    fake.trouble = httpx.ConnectError("away")
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 2, 3):
        path = tmp_path / "checkpoints" / f"{step}.safetensors"
        path.write_text(f"state {step}")
        job_stream.from_child(
            {"type": "checkpoint", "path": f"checkpoints/{path.name}", "step": step, "phase": "train", "bytes": 7}
        )
        path.unlink()
    fake.trouble = None
    job_stream.drain(5)
    assert [report["step"] for report in fake.checkpoints][-1] == 3
    assert fake.uploads[fake.checkpoints[-1]["file"]["sha256"]] == b"state 3"
    assert "checkpoint" in fake.types()
    assert list((tmp_path / "uploads").iterdir()) == []


def test_what_a_checkpoint_needs_is_uploaded_once(fake: FakePlatform, job_stream: JobStream, tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    teacher = tmp_path / "dense/model.safetensors"
    teacher.write_bytes(b"teacher")
    sent: list[str] = []
    answer = fake.__call__

    def counted(request: httpx.Request) -> httpx.Response:
        if "artifacts" in request.url.path:
            sent.append(request.url.path.rpartition("/")[2])
        return answer(request)

    job_stream._leased._http._client._transport.handler = counted  # type: ignore[attr-defined]
    for step in (1, 2):
        (tmp_path / str(step)).write_text(f"state {step}")
        event = {"type": "checkpoint", "path": str(step), "step": step, "phase": "train", "bytes": 7}
        job_stream.from_child({**event, "needs": ["dense/model.safetensors"]})
        eventually(lambda step=step: len(fake.checkpoints) == step, seconds=5)
    job_stream.drain(5)
    assert len(sent) == 3
    needs = [report["needs"] for report in fake.checkpoints]
    assert needs[0] == needs[1] and fake.uploads[needs[0][0]["sha256"]] == b"teacher"
    assert needs[0][0]["path"] == "dense/model.safetensors" and teacher.is_file()


def test_a_talkative_child_does_not_hold_up_its_checkpoints(
    fake: FakePlatform, job_stream: JobStream, tmp_path: Path
) -> None:
    quiet = threading.Event()

    def talk() -> None:
        while not quiet.is_set():
            job_stream.from_child({"type": "progress", "step": 1})
            time.sleep(0.0005)

    talker = threading.Thread(target=talk)
    talker.start()
    (tmp_path / "one").write_text("state")
    job_stream.from_child({"type": "checkpoint", "path": "one", "step": 1, "phase": "train", "bytes": 5})
    try:
        eventually(lambda: fake.checkpoints, seconds=5)
    finally:
        quiet.set()
        talker.join()


def test_a_checkpoint_that_is_refused_is_given_up(fake: FakePlatform, job_stream: JobStream, tmp_path: Path) -> None:
    fake.refused.add("artifacts")
    (tmp_path / "one").write_text("state")
    job_stream.from_child({"type": "checkpoint", "path": "one", "step": 1, "phase": "train", "bytes": 5})
    job_stream.drain(5)
    assert fake.checkpoints == []
    assert list((tmp_path / "uploads").iterdir()) == []


def test_heartbeats_go_on_while_an_upload_hangs(fake: FakePlatform, job_stream: JobStream, tmp_path: Path) -> None:
    go_on = threading.Event()
    answer = fake.__call__

    def slow(request: httpx.Request) -> httpx.Response:
        if "artifacts" in request.url.path:
            go_on.wait(5)
        return answer(request)

    job_stream._leased._http._client._transport.handler = slow  # type: ignore[attr-defined]
    (tmp_path / "one").write_text("state")
    job_stream.from_child({"type": "checkpoint", "path": "one", "step": 1, "phase": "train", "bytes": 5})
    before = fake.heartbeats
    eventually(lambda: fake.heartbeats > before + 2, seconds=5)
    fake.directive = "cancel"
    eventually(lambda: job_stream.directive is Directive.CANCEL, seconds=5)
    go_on.set()
    job_stream.drain(5)
    assert len(fake.uploads) == 1


def test_a_stale_lease_is_final(fake: FakePlatform, job_stream: JobStream) -> None:
    fake.trouble = lost_answer()
    eventually(lambda: job_stream.lost, seconds=5)
    job_stream.add(LogData(message="late"))
    with pytest.raises(LeaseLost):
        job_stream.drain(5)


def test_silence_is_borne_for_long_but_not_for_ever(
    fake: FakePlatform, job_stream: JobStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.trouble = httpx.ConnectError("away")
    time.sleep(0.6)  # twice the lease
    assert not job_stream.lost
    monkeypatch.setattr(stream, "PATIENCE_SECONDS", 0.1)
    eventually(lambda: job_stream.lost, seconds=5)


def test_draining_without_a_platform_ends(fake: FakePlatform, job_stream: JobStream) -> None:
    fake.trouble = httpx.ConnectError("away")
    job_stream.add(LogData(message="never heard"))
    begin = time.monotonic()
    job_stream.drain(0.2)
    assert time.monotonic() - begin < 3


def test_the_child_s_spec_leaves_the_plan_of_a_public_model_to_the_child(tmp_path: Path) -> None:
    registry = run_spec(claim().spec, tmp_path)
    assert registry["plan"] == {"ffn": 0.9}
    assert registry["settings"]["epochs"] == 3
    assert registry["target"] == {"sparsity": 0.9}
    assert (registry["train"], registry["validation"]) == ("data/train.jsonl", None)
    public = ModelRef(source="public", repo="owner/name", revision="main")
    assert run_spec(claim(base=public, plan={"uniform": 0.9}).spec, tmp_path)["plan"] is None


def fetch_public(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, download: Any) -> Path:
    monkeypatch.setattr(inputs, "snapshot_download", download)
    public = ModelRef(source="public", repo="owner/name", revision="main")
    return inputs.fetch_base_model(Platform("http://platform"), public, tmp_path, job_token="")


def test_a_public_model_is_weights_and_texts_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def download(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    assert fetch_public(monkeypatch, tmp_path, download) == tmp_path
    assert asked["allow_patterns"] == ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
    assert "endpoint" not in asked
    assert "token" not in asked, "the platform's tokens go to the platform alone"


def test_a_public_model_without_safetensors_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="no safetensors weights"):
        fetch_public(monkeypatch, tmp_path, lambda *args, **options: str(tmp_path))


def test_a_public_model_that_can_not_be_had_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(*args: Any, **options: Any) -> str:
        raise OSError("no network\nand a long story")

    with pytest.raises(PlatformError, match=r"owner/name@main could not be downloaded: no network$") as caught:
        fetch_public(monkeypatch, tmp_path, download)
    assert caught.value.passing


def test_the_child_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEWRIGHT_NODE_TOKEN", "secret")
    given = environment()
    assert "secret" not in given.values()
    assert given["HF_HUB_OFFLINE"] == "1"
    assert given["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT / "workers")


def test_the_child_s_events_survive_noise_and_nan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"train": "spec.json", "base_model": "."}))
    (tmp_path / "config.json").touch()
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/workers/scripted"))
    monkeypatch.setenv("SCRIPT", "long")
    events: list[dict[str, Any]] = []
    child = Child(tmp_path, events.append)
    eventually(lambda: len(events) > 10)
    child.stop()
    assert child.wait(10)
    assert child.outcome() == {"outcome": "stopped"}
    progress = [event for event in events if event["type"] == "progress"]
    assert progress[0]["loss"] is None
    assert [event["step"] for event in progress] == list(range(1, len(progress) + 1))
    assert events[-1]["type"] == "checkpoint"


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "ran out of memory"), (-11, "died of SIGSEGV"), (-63, "signal 63"), (1, "exit code 1")],
)
def test_what_is_said_of_a_dead_child(code: int, words: str) -> None:
    assert words in describe_exit(code)


def test_settings_from_the_environment(tmp_path: Path) -> None:
    given = {
        "SPARSEWRIGHT_URL": "https://models.example.org",
        "SPARSEWRIGHT_NODE_TOKEN": "sw_n_x",
        "SPARSEWRIGHT_REDIS_URL": "redis://host/0",
        "SPARSEWRIGHT_QUEUES": "default, big",
        "SPARSEWRIGHT_WORK_DIR": str(tmp_path),
    }
    found = from_environment(given)
    assert (found.queues, found.work_dir) == (("default", "big"), tmp_path)
    assert found.node_name == node_name({}, "worker")
    for name in ("URL", "NODE_TOKEN", "REDIS_URL"):
        with pytest.raises(SettingsMissing, match=f"Set SPARSEWRIGHT_{name}"):
            from_environment(given | {f"SPARSEWRIGHT_{name}": " "})


@pytest.mark.parametrize("host", ["a" * 200, "host name!", "..."])
def test_a_host_s_name_becomes_a_node_s_name(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    from pst_client.contract import NodeRegistration

    monkeypatch.setattr("socket.gethostname", lambda: host)
    name = node_name({}, "worker")
    assert NodeRegistration(name=name, kind="worker", version="1").name.endswith("-worker")


def test_the_machine_is_described_without_torch() -> None:
    described = hardware.describe()
    assert described["cpus"] >= 1
    assert described["memory_bytes"] > 2**28


@pytest.mark.parametrize("module", ["pst_worker.__main__", "pst_worker.agent", "pst_client.cli", "pst_serve.__main__"])
def test_parents_import_neither_torch_nor_django(module: str) -> None:
    """Also with DJANGO_SETTINGS_MODULE set, which makes Celery load Django unless it is told not to. (Kombu takes one
    helper of Django's where Django is installed; that loads no settings, models or apps.)"""
    code = (
        f"import sys, {module}\n"
        "from pst_worker.celery import make_app\n"
        "make_app('redis://localhost', 'q').loader.import_default_modules()\n"
        "names = ('torch', 'transformers', 'django.apps', 'django.db', 'config')\n"
        "print([name for name in names if name in sys.modules])"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "workers"), "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_child_starts_no_more_threads_than_the_quota_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.THREADS, raising=False)
    assert machine.THREADS not in environment()
    monkeypatch.setattr(machine, "quota", lambda: 1.5)
    assert environment()[machine.THREADS] == "1"
    assert machine.THREADS not in environment(processes=2), "torchrun's starter divides the cores"


def test_telling_the_platform_goes_on_after_what_nobody_foresaw(fake: FakePlatform, job_stream: JobStream) -> None:
    fake.directive = "a directive of a newer platform"
    job_stream.add(LogData(message="first"))
    time.sleep(0.3)
    assert job_stream._keeper.is_alive() and job_stream._sender.is_alive() and not job_stream.lost
    fake.directive = "continue"
    job_stream.add(LogData(message="second"))
    job_stream.drain(5)
    assert [event["data"]["message"] for event in fake.events.values()] == ["first", "second"]


def test_an_event_that_can_not_be_used_does_not_stop_the_reading(tmp_path: Path) -> None:
    heard: list[Any] = []

    def listen(event: Any) -> None:
        heard.append(event["step"])

    reading, writing = os.pipe()
    os.write(writing, b'{"step": 1}\n[1, 2]\n5\n{"other": 1}\n{"step": 2}\n')
    os.close(writing)
    Child._read(cast(Child, SimpleNamespace(_on_event=listen)), reading)
    assert heard == [1, 2]


def test_a_user_sees_no_folder_of_the_worker(tmp_path: Path) -> None:
    job, base = tmp_path / "jobs" / "1", tmp_path / "cache" / "models--lab" / "snapshots" / "abc"
    job.mkdir(parents=True)
    (job / "spec.json").write_text(json.dumps({"base_model": str(base)}))
    message = Message(
        "{name} can't be read, nor {other} in {base}", name=base / "config.json", other=job / "a", base=base
    )
    run.end(job, run.REFUSED, {"outcome": "refused", "error": str(message), "detail": f"File {base}/x, {job}"})
    outcome = json.loads((job / "outcome.json").read_text())
    assert outcome["error"] == "config.json can't be read, nor a in the folder"
    assert outcome["detail"] == "File x, the folder"
    assert recall(outcome["error"], outcome["said"]).params["name"] == "config.json"  # type: ignore[attr-defined]
    assert str(tmp_path) not in json.dumps(outcome)
