"""Random walks through the API: whatever people, workers and the reaper do, in any order, the job stays in order."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.core import parts
from hub.registry.models import ModelVersion
from jobs.models import FINAL, LEASED, Job, JobEvent
from jobs.services import reaping
from tests.factories.accounts import Person
from tests.factories.jobs import Worker, event, queued_job, submission, worker

pytestmark = pytest.mark.django_db


class JobMachine(RuleBasedStateMachine):
    """One job, one person, two workers. ``expected`` is the test's own idea of the state."""

    person: Person
    workers: list[Worker]
    body: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.job = queued_job(self.person, **self.body)
        self.expected = "queued"
        self.pausing = False
        self.failures, self.allowed = 0, self.job.max_attempts
        self.holder: Worker | None = None
        self.seq = 0
        self.seen: list[tuple[int, int, int, dict[str, Any]]] = []

    def act(self, what: str) -> int:
        return self.person.client.post(f"/api/v1/jobs/{self.job.id}/{what}").status_code

    def ended(self, state: str) -> None:
        self.expected, self.holder, self.pausing = state, None, False

    def failed(self, *, retriable: bool) -> None:
        self.failures += 1
        if self.expected == "cancelling":
            self.ended("cancelled")
        elif retriable and self.failures < self.allowed:
            self.ended("paused" if self.pausing else "queued")
        else:
            self.ended("failed")

    @rule(index=st.integers(0, 1))
    def claim(self, index: int) -> None:
        answer = self.workers[index].claim(self.job)
        if self.expected == "queued":
            assert answer.status_code == 200
            self.holder, self.seq = self.workers[index], 0
            self.expected = "running"
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "taken")

    @rule()
    def cancel(self) -> None:
        code = self.act("cancel")
        if self.expected in {"queued", "paused"}:
            self.ended("cancelled")
        elif self.expected in {"running", "cancelling"}:
            self.expected = "cancelling"
        else:
            assert code == 409
            return
        assert code == 200

    @rule()
    def pause(self) -> None:
        code = self.act("pause")
        if self.expected == "queued":
            self.expected = "paused"
        elif self.expected == "running":
            self.pausing = True
        assert code == (200 if self.expected in {"paused", "running"} or self.pausing else 409)

    @rule()
    def resume(self) -> None:
        code = self.act("resume")
        allowed = self.expected in {"paused", "running"}
        if self.expected == "paused":
            self.expected = "queued"
        if self.expected == "running":
            self.pausing = False
        assert code == (200 if allowed else 409)

    @rule()
    def retry(self) -> None:
        code = self.act("retry")
        if self.expected == "failed":
            assert code == 200
            self.allowed = self.failures + django_settings.JOB_MAX_ATTEMPTS
            self.expected = "queued"
        else:
            assert code == 409

    @precondition(lambda self: self.holder)
    @rule()
    def heartbeat(self) -> None:
        assert self.holder is not None
        directive = self.holder.heartbeat(self.job).json()["directive"]
        assert directive == ("cancel" if self.expected == "cancelling" else "pause" if self.pausing else "continue")

    @precondition(lambda self: self.holder)
    @rule()
    def report(self) -> None:
        assert self.holder is not None
        self.seq += 1
        assert self.holder.events(self.job, event(self.seq, "progress", step=self.seq)).json()["accepted"] == 1

    @precondition(lambda self: self.holder)
    @rule(reason=st.sampled_from(["shutdown", "paused"]))
    def release(self, reason: str) -> None:
        assert self.holder is not None
        assert self.holder.release(self.job, reason).status_code == 200
        self.ended("cancelled" if self.expected == "cancelling" else "paused" if self.pausing else "queued")

    @precondition(lambda self: self.holder)
    @rule(retriable=st.booleans())
    def fail(self, retriable: bool) -> None:
        assert self.holder is not None
        body = {"outcome": "failed", "error": "It broke.", "retriable": retriable}
        assert self.holder.finish(self.job, body).status_code == 200
        self.failed(retriable=retriable)

    @precondition(lambda self: self.holder)
    @rule()
    def succeed(self) -> None:
        assert self.holder is not None
        assert self.holder.finish(self.job, self.holder.success(self.job)).status_code == 200
        self.ended("cancelled" if self.expected == "cancelling" else "succeeded")

    @precondition(lambda self: self.holder)
    @rule()
    def confirm_cancel(self) -> None:
        assert self.holder is not None
        code = self.holder.finish(self.job, {"outcome": "cancelled"}).status_code
        if self.expected == "cancelling":
            assert code == 200
            self.ended("cancelled")
        else:
            assert code == 409

    @rule(silent=st.booleans())
    def reap(self, silent: bool) -> None:
        if silent and self.holder:
            Job.objects.filter(pk=self.job.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1))
            self.failed(retriable=True)
        cache.set(f"part:{parts.WEB}", [time.time(), 0.0])  # on a slow machine a walk outlasts its sign of life
        reaping.expire_leases()

    @rule(index=st.integers(0, 1))
    def stale_worker(self, index: int) -> None:
        if self.workers[index] is not self.holder:
            answer = self.workers[index].heartbeat(self.job)
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stale_lease")

    @invariant()
    def in_order(self) -> None:
        job = Job.objects.get(pk=self.job.pk)
        assert job.state == self.expected
        assert (job.lease_digest != "") == (job.state in LEASED)
        assert (job.finished_at is not None) == (job.state in FINAL)
        assert ModelVersion.objects.filter(job_id=job.id).count() == (job.state == "succeeded")
        events = [
            (item.id, item.attempt, item.seq, item.data) for item in JobEvent.objects.filter(job=job).order_by("id")
        ]
        assert events[: len(self.seen)] == self.seen, "an entry of the record changed or went"
        self.seen = events
        own = [seq for _, attempt, seq, _ in events if attempt == 0]
        assert own == list(range(1, len(own) + 1))
        states = [data for _, attempt, _, data in events if attempt == 0]
        assert states[-1]["state"] == job.state
        assert all(later["from"] == earlier["state"] for earlier, later in pairwise(states))


def test_random_walks(owner: Person) -> None:
    JobMachine.person = owner
    JobMachine.workers = [worker("gpu-1"), worker("gpu-2")]
    JobMachine.body = submission(owner)
    machine = JobMachine.TestCase
    machine.settings = settings(
        max_examples=12,
        stateful_step_count=20,
        suppress_health_check=list(HealthCheck),
        database=None,
        # A walk that fails is printed as it is: making it shorter takes minutes.
        phases=[Phase.generate],
    )
    machine().runTest()
