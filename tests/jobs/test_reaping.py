"""The reaper: leases that ran out, doorbells that were lost, and two reapers at once."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone
from pytest_django import Settings

from hub.serving.models import Node
from jobs.models import Job
from jobs.services import reaping
from jobs.tasks import reap
from tests.factories.accounts import Person
from tests.factories.jobs import Worker, event, queued_job, worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the jobs that were rung for, in order; as if each transaction committed at once."""
    ids: list[str] = []

    def ring(*, job: Job) -> None:
        ids.append(str(job.id))

    monkeypatch.setattr("jobs.services.moves.ring", ring)
    return ids


def let_expire(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))


def held(owner: Person, name: str = "gpu-1", **changes: Any) -> tuple[Job, Worker]:
    job, gpu = queued_job(owner, **changes), worker(name)
    assert gpu.claim(job).status_code == 200
    return job, gpu


def test_a_silent_workers_job_is_queued_again(owner: Person, rung: list[str]) -> None:
    job, gpu = held(owner)
    gpu.checkpoint(job)
    gpu.events(job, event(1))
    place = job.queued_at
    rung.clear()
    reap()
    assert Job.objects.get(pk=job.pk).state == "running", "a lease that has not run out is left alone"
    let_expire(job)
    reap()
    job.refresh_from_db()
    assert (job.state, job.failures, job.queued_at, job.error) == ("queued", 1, place, "")
    assert rung == [str(job.id)]
    data = job.events.latest("id").data
    assert data["by"] == "platform"
    assert data["message"].startswith("The worker gpu-1 stopped answering. Trying again from its last checkpoint")
    # The silent worker wakes: its lease is stale, and it can't harm the next attempt.
    assert gpu.finish(job, {"outcome": "failed"}).status_code == 409
    other = worker("gpu-2")
    assert other.claim(job).json()["spec"]["attempt"] == 2
    assert gpu.heartbeat(job).status_code == 409
    assert other.finish(job, other.success(job)).json()["state"] == "succeeded"


@pytest.mark.parametrize(("silent", "back"), [(100.0, 1000.0), (0.0, 0.0), (0.0, 25.0)])
def test_no_lease_runs_out_while_the_platform_was_away(owner: Person, silent: float, back: float) -> None:
    """The web tier is away, or has been back for less than a lease: no worker could have renewed its own."""
    job, _ = held(owner)
    let_expire(job)
    now = time.time()
    cache.set("part:web", [now - silent, now - back])
    reap()
    assert Job.objects.get(pk=job.pk).state == "running"
    cache.set("part:web", [now, now - 31])
    reap()
    assert Job.objects.get(pk=job.pk).state == "queued"


def test_attempts_run_out(owner: Person) -> None:
    job, gpu = held(owner)
    let_expire(job)
    reap()
    gpu.claim(job)
    let_expire(job)
    reap()
    job.refresh_from_db()
    assert (job.state, job.failures) == ("failed", 2)
    assert job.error == "The worker gpu-1 stopped answering. All 2 attempts are used up."


def test_a_cancel_that_the_worker_never_confirmed(owner: Person) -> None:
    job, _ = held(owner)
    owner.client.post(f"/api/v1/jobs/{job.id}/cancel")
    let_expire(job)
    reap()
    assert Job.objects.get(pk=job.pk).state == "cancelled"


def test_a_pause_that_the_worker_never_confirmed(owner: Person) -> None:
    job, _ = held(owner)
    owner.client.post(f"/api/v1/jobs/{job.id}/pause")
    let_expire(job)
    reap()
    job.refresh_from_db()
    assert (job.state, job.pause_requested, job.failures) == ("paused", False, 1)


def test_reaping_again_changes_nothing(owner: Person, rung: list[str]) -> None:
    job, _ = held(owner)
    let_expire(job)
    reap()
    before, events = Job.objects.filter(pk=job.pk).values().get(), job.events.count()
    for _ in range(3):
        reap()
        assert reaping.expire_lease(job_id=job.id) is False
    assert (Job.objects.filter(pk=job.pk).values().get(), job.events.count()) == (before, events)


def test_a_forgotten_worker_is_no_obstacle(owner: Person) -> None:
    job, gpu = held(owner)
    let_expire(job)
    Node.objects.filter(pk=gpu.node.pk).delete()
    reap()
    job.refresh_from_db()
    assert job.state == "queued"
    assert job.events.latest("id").data["message"].startswith("The worker stopped answering.")


def waits_since(job: Job, seconds: int) -> None:
    Job.objects.filter(pk=job.pk).update(rung_at=timezone.now() - timedelta(seconds=seconds))


def test_a_job_that_waits_is_rung_again(owner: Person, rung: list[str], settings: Settings) -> None:
    settings.JOB_RING_AGAIN_SECONDS = 30
    job = queued_job(owner)
    worker()
    rung.clear()
    waits_since(job, 29)
    reap()
    assert rung == []
    waits_since(job, 31)
    reap()
    assert rung == [str(job.id)]
    reap()
    assert rung == [str(job.id)], "its time counts from the last ring"


def test_bells_do_not_pile_up(owner: Person, rung: list[str]) -> None:
    """With nobody to hear them, rings would fill the queue: only as many as there are idle workers."""
    jobs = [queued_job(owner) for _ in range(4)]

    def all_wait() -> None:
        rung.clear()
        for job in jobs:
            waits_since(job, 1000)

    all_wait()
    reap()
    assert rung == []
    gpu, _ = worker("gpu-1"), worker("gpu-2")
    worker("elsewhere", queues=("other",))
    all_wait()
    reap()
    assert rung == [str(job.id) for job in jobs[:2]]
    gpu.claim(jobs[0])
    all_wait()
    reap()
    assert rung == [str(jobs[1].id)]
    Node.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    all_wait()
    reap()
    assert rung == []


def test_paused_and_ended_jobs_are_not_rung_for(owner: Person, rung: list[str]) -> None:
    worker()
    for what in ("pause", "cancel"):
        job = queued_job(owner)
        owner.client.post(f"/api/v1/jobs/{job.id}/{what}")
        waits_since(job, 1000)
    rung.clear()
    reap()
    assert rung == []


def test_the_task_is_scheduled() -> None:
    from config.celery import app

    app.loader.import_default_modules()
    assert "jobs.reap" in app.tasks
    assert app.conf.beat_schedule["jobs.reap"]["task"] == "jobs.reap"


def test_a_job_that_can_not_be_taken_back_keeps_no_other_waiting(
    owner: Person, rung: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, _), (second, _), waits = held(owner), held(owner, "gpu-2"), queued_job(owner)
    for job in (first, second):
        let_expire(job)
    Job.objects.filter(pk=waits.pk).update(rung_at=timezone.now() - timedelta(days=1))
    worker("idle")
    fail = reaping.attempts.fail

    def unforeseen(*, job: Job, **more: Any) -> None:
        if job.pk == first.pk:
            raise KeyError("something that nobody foresaw")
        fail(job=job, **more)

    monkeypatch.setattr(reaping.attempts, "fail", unforeseen)
    rung.clear()
    reap()
    states = {job.pk: job.state for job in Job.objects.all()}
    assert (states[first.pk], states[second.pk]) == ("running", "queued")
    assert str(waits.pk) in rung, "the sweep went on to what waits"
    monkeypatch.undo()
    reap()
    assert Job.objects.get(pk=first.pk).state == "queued", "the next sweep tries it again"
