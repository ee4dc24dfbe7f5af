"""What happens when two do it at once, with real transactions and real threads; and the real queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any, TypeVar

import pytest
from django.db import connections, transaction
from django.utils import timezone
from redis import Redis

from hub.registry.models import ModelVersion
from jobs.models import Job
from jobs.services import moves, reaping
from pst_client.contract import DOORBELL_PREFIX
from tests import settings as test_settings
from tests.factories.accounts import Person, person
from tests.factories.jobs import event, queued_job, submission, worker

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")


@pytest.fixture
def owner(db: None) -> Person:
    return person("olga", workspace="acme")


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Run the calls in threads that start together; each has its own connection to the database."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait()
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(run, call) for call in calls]]


def test_two_workers_claim_at_once(owner: Person) -> None:
    workers = [worker(f"gpu-{index}") for index in range(4)]
    body = submission(owner)
    for _ in range(5):
        job = queued_job(owner, **body)
        codes = [answer.status_code for answer in at_once(*[partial(gpu.claim, job) for gpu in workers])]
        assert sorted(codes) == [200, 409, 409, 409]
        job.refresh_from_db()
        assert (job.attempt, job.events.filter(data__action="claim").count()) == (1, 1)
        [winner] = [gpu for gpu, code in zip(workers, codes, strict=True) if code == 200]
        assert winner.heartbeat(job).status_code == 200


def test_a_finish_sent_twice_at_once_publishes_once(owner: Person) -> None:
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    body = gpu.success(job)
    answers = at_once(*[lambda: gpu.finish(job, body)] * 3)
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.content for answer in answers}) == 1
    assert ModelVersion.objects.filter(job_id=job.id).count() == 1
    assert job.events.filter(data__state="succeeded").count() == 1


def test_the_finish_and_the_reaper_at_once(owner: Person) -> None:
    """Either the result is published, or the job is queued again: never both, never neither."""
    body, gpu = submission(owner), worker()
    for _ in range(4):
        job = queued_job(owner, **body)
        gpu.claim(job)
        finish = gpu.success(job)
        Job.objects.filter(pk=job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
        calls: list[Callable[[], Any]] = [
            partial(gpu.finish, job, finish),
            partial(reaping.expire_lease, job_id=job.id),
        ]
        answer, reaped = at_once(*calls)
        job.refresh_from_db()
        versions = ModelVersion.objects.filter(job_id=job.id).count()
        outcome = (answer.status_code, reaped, job.state, versions)
        assert outcome in {(200, False, "succeeded", 1), (409, True, "queued", 0)}


def test_two_reapers_at_once(owner: Person) -> None:
    body, gpu = submission(owner), worker()
    jobs = [queued_job(owner, **body) for _ in range(3)]
    for job in jobs:
        assert gpu.claim(job).status_code == 200
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert sum(at_once(reaping.expire_leases, reaping.expire_leases, reaping.expire_leases)) == 3
    for job in jobs:
        job.refresh_from_db()
        assert (job.state, job.failures) == ("queued", 1)
    Job.objects.update(rung_at=timezone.now() - timedelta(hours=1))
    # One idle worker: however many reapers, one ring for each job that they choose.
    assert 1 <= sum(at_once(reaping.ring_again, reaping.ring_again)) <= 2
    assert Job.objects.filter(rung_at__gt=timezone.now() - timedelta(minutes=1)).count() <= 2


def test_one_key_submitted_twice_at_once_is_one_job(owner: Person) -> None:
    body = submission(owner, idempotency_key="once")
    answers = at_once(*[lambda: owner.client.post("/api/v1/jobs", body)] * 3)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Job.objects.count() == 1


def test_the_record_has_no_gap_for_who_reads_along(owner: Person) -> None:
    """A reader that pages by the last id it saw misses nothing, while worker and people write at once."""
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    url = f"/api/v1/jobs/{job.id}/events"
    seen: list[int] = []

    def write() -> None:
        for seq in range(1, 26):
            assert gpu.events(job, event(seq)).status_code == 200

    def steer() -> None:
        for what in ("pause", "resume") * 8:
            assert owner.client.post(f"/api/v1/jobs/{job.id}/{what}").status_code == 200

    def follow() -> None:
        while len(seen) < 2 + 25 + 16:
            after = seen[-1] if seen else 0
            seen.extend(item["id"] for item in owner.client.get(f"{url}?after={after}").json()["events"])

    at_once(write, steer, follow)
    assert seen == list(job.events.order_by("id").values_list("id", flat=True))


@pytest.fixture
def broker() -> Iterator[Redis]:
    """The real Valkey, with nothing in the queues used here."""
    found = Redis.from_url(test_settings.VALKEY.platform_url.replace("redis+socket", "unix"))
    found.delete(f"{DOORBELL_PREFIX}ring-test")
    yield found
    found.delete(f"{DOORBELL_PREFIX}ring-test")
    found.close()


def messages(broker: Redis) -> list[dict[str, Any]]:
    return [json.loads(item) for item in broker.lrange(f"{DOORBELL_PREFIX}ring-test", 0, -1)]  # type: ignore[union-attr]


def test_the_doorbell_is_rung_on_commit_only(owner: Person, broker: Redis) -> None:
    body = submission(owner, queue="ring-test")
    with transaction.atomic():
        job = queued_job(owner, **body)
        assert messages(broker) == []
    [message] = messages(broker)
    assert message["headers"]["task"] == "pst_worker.run_job"
    assert message["headers"]["kwargsrepr"] == repr({"job_id": str(job.id)})

    class Undone(Exception):
        pass

    with pytest.raises(Undone), transaction.atomic():
        queued_job(owner, **body)
        moves.ring(job=job)
        raise Undone
    assert len(messages(broker)) == 1
    gpu = worker(queues=("ring-test",))
    gpu.claim(job)
    gpu.release(job)
    assert len(messages(broker)) == 2, "a job that is given back is rung for at once"


def test_a_broker_out_of_reach_does_not_lose_the_job(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    from kombu.exceptions import OperationalError

    def down(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("celery.app.base.Celery.send_task", down)
    job = queued_job(owner)
    assert worker().next() == job.id
