"""The worker as a process: real platform, real Valkey, real signals. Training is scripted, but for one job."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from hub.registry.models import ModelVersion
from hub.serving.models import Node
from jobs.models import Job
from jobs.tasks import reap
from pst_client.contract import DOORBELL_PREFIX, EventType, JobState, Resources
from tests.factories.accounts import Person
from tests.settings import VALKEY
from tests.workers.conftest import SETTINGS, Process, Start, eventually, rows_dataset, state, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick_heartbeats(settings: Any) -> None:
    settings.NODE_HEARTBEAT_SECONDS = 0.3
    settings.LEASE_SECONDS = 3


@pytest.fixture
def job(owner: Person, light_base: ModelVersion, queue: str) -> Job:
    return submit(owner, rows_dataset(owner.workspace), SETTINGS, queue=queue)


def until(job: Job, *wanted: JobState, seconds: float = 30) -> Job:
    eventually(lambda: state(job) in wanted, seconds=seconds, what=f"{wanted}, was {job.state} {job.error}")
    return job


def messages(job: Job) -> list[str]:
    return [event.data.get("message", "") for event in job.events.order_by("id")]


def step(job: Job) -> int:
    job.refresh_from_db()
    return int(job.progress.get("step", 0))


def checkpointed(job: Job) -> bool:
    job.refresh_from_db()
    return job.checkpoint is not None


def act(person: Person, job: Job, action: str) -> None:
    answer = person.client.post(f"/api/v1/jobs/{job.id}/{action}")
    assert answer.status_code == 200, answer.content


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def no_job_folder(worker: Process) -> bool:
    return not list((worker.log.parent / "work").glob("*/jobs/*"))


def test_a_job_from_the_queue_to_a_published_version(start: Start, job: Job, queue: str) -> None:
    """tests/e2e does the same with real training."""
    worker = start("pst_worker", script="slowly", SPARSEWRIGHT_QUEUES=queue)
    child = eventually(worker.job_child, what="the child")
    assert os.getpgid(child.pid) == child.pid != os.getpgid(worker.process.pid)
    until(job, JobState.SUCCEEDED, JobState.FAILED)
    assert job.state == JobState.SUCCEEDED, job.error + job.error_detail
    assert job.version is not None
    assert {"config.json", "sparse/index.json", "report.json", "manifest.json"} <= {
        file.path for file in job.version.files.all()
    }
    assert job.report["metrics"]["validation"]["accuracy"] == 0.9
    own = job.events.filter(attempt=1).order_by("seq")
    assert [event.seq for event in own] == list(range(1, len(own) + 1))
    phases = [event.data["phase"] for event in own if event.type == EventType.PHASE]
    assert phases == ["prepare", "publish"]
    readings = [event.data for event in own if event.type == EventType.RESOURCES]
    assert readings and Resources.model_validate(readings[0]).job_memory_bytes
    node = Node.objects.get(name="node-0")
    assert (node.queues, node.kind) == ([queue], "worker")
    mapped = {Path(item.path).name for item in psutil.Process(worker.process.pid).memory_maps()}
    assert not [name for name in mapped if "torch" in name]
    eventually(lambda: no_job_folder(worker))


def test_cancel_kills_the_child_and_all_that_it_started(start: Start, job: Job, owner: Person, queue: str) -> None:
    worker = start("pst_worker", script="descendant", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: step(job) > 3)
    child = worker.job_child()
    assert child is not None
    (line,) = [text for text in messages(job) if text.startswith("descendant")]
    descendant = int(line.split()[1])
    assert is_alive(descendant)
    begin = time.monotonic()
    act(owner, job, "cancel")
    until(job, JobState.CANCELLED)
    assert time.monotonic() - begin < 5
    assert not is_alive(child.pid)
    eventually(lambda: not is_alive(descendant), seconds=5)
    eventually(lambda: no_job_folder(worker), seconds=5)


def test_a_paused_job_goes_on_from_its_checkpoint(start: Start, job: Job, owner: Person, queue: str) -> None:
    start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: step(job) > 3)
    act(owner, job, "pause")
    until(job, JobState.PAUSED)
    assert job.checkpoint is not None
    stopped_at = job.checkpoint["step"]
    act(owner, job, "resume")
    until(job, JobState.SUCCEEDED, JobState.FAILED)
    assert job.state == JobState.SUCCEEDED, job.error
    assert job.report["step"] == stopped_at
    assert f"Going on from the checkpoint of step {stopped_at}." in messages(job)


def test_a_stopped_worker_gives_its_job_back_and_another_ends_it(start: Start, job: Job, queue: str) -> None:
    worker = start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: step(job) > 3)
    child = worker.job_child()
    assert child is not None
    begin = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begin < 10
    assert not is_alive(child.pid)
    assert state(job) == JobState.QUEUED
    assert job.checkpoint is not None
    assert no_job_folder(worker)
    start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    until(job, JobState.SUCCEEDED)
    assert (job.attempt, job.failures) == (2, 0)
    assert job.report["step"] > 3 and job.checkpoint is None  # a job that succeeded goes on from nothing


def test_a_killed_child_is_a_plain_failure_and_one_more_attempt(start: Start, job: Job, queue: str) -> None:
    worker = start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: checkpointed(job))
    child = worker.job_child()
    assert child is not None
    child.kill()
    until(job, JobState.SUCCEEDED)
    assert (job.attempt, job.failures) == (2, 1)
    (told,) = [text for text in messages(job) if "signal 9" in text]
    assert "most likely because the machine ran out of memory" in told
    assert job.report["step"] > 0


def test_a_killed_worker_takes_its_child_along_and_the_job_moves(start: Start, job: Job, queue: str) -> None:
    worker = start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: checkpointed(job))
    child = worker.job_child()
    assert child is not None
    worker.stop(signal.SIGKILL)
    eventually(lambda: not is_alive(child.pid), seconds=5, what="the child's death")
    start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: reap() or state(job) == JobState.SUCCEEDED)
    assert job.attempt == 2


def test_a_lost_lease_ends_the_child_and_its_result_is_dropped(start: Start, job: Job, queue: str) -> None:
    worker = start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue)
    eventually(lambda: step(job) > 3)
    child = worker.job_child()
    assert child is not None
    Job.objects.filter(pk=job.pk).update(lease_digest="0" * 64)
    eventually(lambda: not is_alive(child.pid), seconds=10, what="the child's death")
    eventually(lambda: no_job_folder(worker), seconds=5)
    assert "its result is dropped" in worker.output()
    assert worker.process.poll() is None


def test_a_busy_worker_takes_no_message_from_an_idle_one(
    start: Start, owner: Person, light_base: ModelVersion, queue: str, settings: Any
) -> None:
    settings.NODE_HEARTBEAT_SECONDS = 60  # so that only messages, not the idle worker's question, bring jobs
    workers = [start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue) for _ in range(2)]
    for worker in workers:
        eventually(lambda worker=worker: "ready." in worker.output())
    dataset = rows_dataset(owner.workspace)
    jobs = [submit(owner, dataset, SETTINGS, queue=queue, name=f"job {number}") for number in range(3)]
    for job in jobs[:2]:
        until(job, JobState.RUNNING, seconds=10)
    eventually(lambda: all(worker.job_child() for worker in workers))
    assert state(jobs[2]) == JobState.QUEUED
    client = redis.Redis.from_url(VALKEY.platform_url.replace("redis+socket", "unix"))
    time.sleep(1)
    assert client.llen(f"{DOORBELL_PREFIX}{queue}") == 1, "the third job's message waits for whoever is free first"
    act(owner, jobs[0], "cancel")
    until(jobs[2], JobState.RUNNING, seconds=10)


def test_a_training_process_that_stands_still_is_ended(start: Start, job: Job, queue: str) -> None:
    """It was stopped, or waits for a lock: it once stayed running for ever."""
    worker = start("pst_worker", script="long", SPARSEWRIGHT_QUEUES=queue, SPARSEWRIGHT_STUCK_SECONDS="2")
    eventually(lambda: Job.objects.get(pk=job.pk).checkpoint is not None)
    child = worker.job_child()
    assert child is not None
    child.suspend()
    until(job, JobState.SUCCEEDED, seconds=60)
    messages = [event.data.get("message", "") for event in job.events.filter(type=EventType.STATE.value)]
    assert any("stood still for 2 seconds" in message for message in messages), messages


def test_a_job_whose_message_was_lost_is_found(start: Start, job: Job, queue: str) -> None:
    client = redis.Redis.from_url(VALKEY.platform_url.replace("redis+socket", "unix"))
    assert client.delete(f"{DOORBELL_PREFIX}{queue}") == 1
    start("pst_worker", script="quick", SPARSEWRIGHT_QUEUES=queue)
    until(job, JobState.SUCCEEDED)


def test_a_child_that_fails_says_why(start: Start, owner: Person, light_base: ModelVersion, queue: str) -> None:
    dataset = rows_dataset(owner.workspace)
    cases = [
        ("refuse", "The label 'b' is in the validation rows but not in training rows.", "PSTError", 1),
        ("memory", "The job ran out of memory: submit it with a smaller batch_size", "MemoryError", 1),
        ("break", "The training program failed: RuntimeError: a bug", "last words of the library", 1),
        ("exit", "The training process ended with exit code 3", "standard output is free", 2),
    ]
    start("pst_worker", script="by seed", SPARSEWRIGHT_QUEUES=queue)
    jobs = [
        submit(owner, dataset, SETTINGS | {"seed": seed}, queue=queue, name=case[0]) for seed, case in enumerate(cases)
    ]
    for job, (_, sentence, detail, attempts) in zip(jobs, cases, strict=True):
        until(job, JobState.FAILED)
        assert job.error.startswith(sentence)
        assert detail in job.error_detail
        assert job.attempt == attempts


def test_a_base_model_that_is_damaged_on_the_way_fails_the_job(start: Start, job: Job, queue: str) -> None:
    from django.core.files.storage import default_storage

    from hub.core.storage import blob_name

    assert job.base_model is not None
    weights = job.base_model.files.get(path="model.safetensors")
    stored = Path(default_storage.path(blob_name(weights.blob_id)))
    content = stored.read_bytes()
    stored.chmod(0o644)
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        start("pst_worker", script="quick", SPARSEWRIGHT_QUEUES=queue)
        until(job, JobState.FAILED)
    finally:
        stored.write_bytes(content)
    assert job.error == "model.safetensors does not have the sha256 that the manifest says."


def test_workers_of_one_name_and_folder_are_refused(start: Start, queue: str, db: None) -> None:
    first = start("pst_worker", script="quick", SPARSEWRIGHT_QUEUES=queue, SPARSEWRIGHT_NODE_NAME="twin")
    eventually(lambda: "ready." in first.output())
    second = start("pst_worker", script="quick", SPARSEWRIGHT_QUEUES=queue, SPARSEWRIGHT_NODE_NAME="twin")
    assert second.process.wait(20) == 1
    assert "SPARSEWRIGHT_NODE_NAME of its own" in second.output()
    assert first.stop(signal.SIGINT) == 0


def test_settings_that_can_not_work(start: Start) -> None:
    cases = [
        ({"SPARSEWRIGHT_NODE_TOKEN": ""}, 2, "Set SPARSEWRIGHT_NODE_TOKEN"),
        ({"SPARSEWRIGHT_QUEUES": ","}, 2, "SPARSEWRIGHT_QUEUES names no queue"),
        ({"SPARSEWRIGHT_URL": "platform"}, 2, "must start with http"),
        ({"SPARSEWRIGHT_NODE_TOKEN": "sw_n_wrong"}, 1, "The token is unknown"),
    ]
    for worker, (_, code, sentence) in [(start("pst_worker", **case[0]), case) for case in cases]:
        assert worker.process.wait(20) == code
        assert sentence in worker.output()
        assert "Traceback" not in worker.output()
