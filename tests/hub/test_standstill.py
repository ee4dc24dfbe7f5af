"""A part whose process lives and whose threads do nothing is noticed, told of, and started again."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery import current_app
from rest_framework.test import APIClient

from config import background
from hub.accounts.tasks import deliver
from hub.core import parts, work
from hub.core.work import Work
from hub.datasets.tasks import validate
from tests.workers.conftest import eventually

TASK: Any = SimpleNamespace(time_limit=None)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The turns that were sent; the clock is the test's."""
    sent: list[str] = []
    monkeypatch.setattr(work, "enqueue", lambda name, *, queue: sent.append(queue))
    return sent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Of which every thread uses all, but for those that wait."""
    clock = SimpleNamespace(now=1000.0, waits=False)
    monkeypatch.setattr(work, "used", lambda thread: 0.0 if clock.waits else clock.now)
    monkeypatch.setattr(work, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_without_work_turns_are_taken(clock: SimpleNamespace, turns: list[str]) -> None:
    idle = Work("datasets", 2)
    for _ in range(100):
        clock.now += parts.BEAT_SECONDS
        assert idle.moves()
        if turns:
            idle.begun(task_id="turn", task=TASK)
            idle.ended(task_id="turn")
            turns.clear()
    clock.now += work.TURN_SECONDS
    assert idle.moves() and turns == ["datasets"]
    clock.now += work.BACK_SECONDS  # it does not come back: the consumer or the pool is stuck
    assert not idle.moves()
    idle.ended(task_id="turn")
    assert idle.moves()


def test_a_pool_that_is_busy_moves_for_as_long_as_its_tasks_may_take(clock: SimpleNamespace, turns: list[str]) -> None:
    busy = Work("datasets", 2)
    busy.begun(task_id="a", task=SimpleNamespace(time_limit=900))
    busy.begun(task_id="b", task=SimpleNamespace(time_limit=900))
    clock.now += 899
    assert busy.moves() and not turns
    clock.now += 2
    assert not busy.moves()


def test_a_validation_that_waits_for_ever_is_noticed_long_before_its_time_is_over(
    clock: SimpleNamespace, turns: list[str]
) -> None:
    clock.waits = True
    work_of_two = Work("datasets", 2)
    for name in ("a", "b"):
        work_of_two.begun(task_id=name, task=validate)
    assert validate.time_limit == 900
    clock.now += work.STILL_SECONDS - 1
    assert work_of_two.moves()
    clock.now += 2
    assert not work_of_two.moves()


def test_a_thread_that_waits_uses_no_processor() -> None:
    release, begun = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (begun.set(), release.wait(20)))
    thread.start()
    assert begun.wait(20) and thread.ident is not None
    before, mine = work.used(thread.ident), work.used(threading.get_ident())
    while work.used(threading.get_ident()) - mine < 2 * work.MIN_CPU_SECONDS:
        pass
    assert work.used(thread.ident) - before < work.MIN_CPU_SECONDS
    release.set()
    thread.join()


def test_one_task_that_hangs_is_enough(clock: SimpleNamespace, turns: list[str]) -> None:
    lame = Work("webhooks", 8)
    lame.begun(task_id="hangs", task=TASK)
    clock.now += work.TASK_SECONDS + 1
    lame.ended(task_id="another")
    assert not lame.moves()


def test_what_a_part_runs_has_a_time_limit() -> None:
    assert (validate.time_limit, deliver.time_limit) == (900, 60)


@pytest.mark.django_db
@pytest.mark.any_database
def test_a_deadlocked_pool_is_noticed_and_started_again(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    part = parts.WEBHOOKS
    monkeypatch.setattr(background, "STUCK_SECONDS", 15.0)  # a part that begins must be heard in this time
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(parts, "SILENT_SECONDS", 5.0)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.hub.standstill_settings")
    supervisor = background.Supervisor()
    thread = threading.Thread(target=supervisor._keep, args=(part,))
    thread.start()
    try:
        eventually(lambda: (heard := parts.heard(part)) and heard.since, seconds=60)
        first, failed = supervisor.children[part].pid, dict[str, str]()
        assert part not in api.get("/readyz").json()["failed"]
        for _ in range(background.CONCURRENCY[part]):
            current_app.send_task("tests.deadlock", queue=part)
        eventually(lambda: failed.update(api.get("/readyz").json()["failed"]) or part in failed, seconds=60)
        assert failed[part].startswith("has been silent for")
        eventually(lambda: supervisor.children[part].pid != first, seconds=60)
        began = time.time()
        eventually(lambda: (heard := parts.heard(part)) and heard.since > began - 5, seconds=60)
        assert part not in parts.silent()
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()
