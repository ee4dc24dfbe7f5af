"""The probes that a load balancer asks."""

import errno
import time

import pytest
from django.core.cache import cache
from django.db import OperationalError
from redis.exceptions import ResponseError
from rest_framework.test import APIClient

from hub.core import parts
from hub.core.errors import exception_handler

pytestmark = pytest.mark.django_db


def test_live_and_ready(api: APIClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    answer = api.get("/readyz")
    assert answer.status_code == 200 and answer.json() == {"status": "ok", "failed": {}}


def test_not_ready_without_redis(api: APIClient, settings, tmp_path) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"unix://{tmp_path}/none"}
    }
    answer = api.get("/readyz")
    assert answer.status_code == 503 and answer.json()["failed"] == {"redis": "ConnectionError"}


@pytest.mark.parametrize("part", parts.PARTS)
def test_not_ready_while_a_part_is_silent(api: APIClient, part: str) -> None:
    cache.set(f"part:{part}", [time.time() - 105, 0.0])
    answer = api.get("/readyz")
    assert answer.status_code == 503 and answer.json()["failed"] == {part: "has been silent for 105 s"}
    cache.delete(f"part:{part}")
    assert api.get("/readyz").json()["failed"] == {part: "was never heard"}
    parts.beat(part)
    assert api.get("/readyz").status_code == 200


def test_a_part_that_was_away_begins_anew() -> None:
    for silence, anew in ((1.0, False), (parts.GAP_SECONDS + 1, True)):
        cache.set("part:some", [time.time() - silence, 5.0])
        parts.beat("some")
        heard = parts.heard("some")
        assert heard is not None and (heard.since == 5.0) != anew


def test_not_ready_without_the_storage(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("hub.core.folder.tempfile.TemporaryFile", gone)
    answer = api.get("/readyz")
    assert answer.status_code == 503 and answer.json()["failed"] == {"storage": "PermissionError"}


def test_a_step_that_raises_is_taken_again() -> None:
    taken = []

    def step() -> None:
        taken.append(1)
        raise ValueError("unforeseen")

    parts.supervised("test", step, seconds=0.01)
    deadline = time.monotonic() + 10
    while len(taken) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_metrics_are_not_a_page(api: APIClient) -> None:
    answer = api.get("/metrics")
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"


def test_not_ready_on_a_full_disk(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of no bytes can be made on a full disk: what is written tells."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hub.core.folder.os.fsync", full)
    answer = api.get("/readyz")
    assert answer.status_code == 503 and answer.json()["failed"]["storage"] == "OSError"


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("database or disk is full"),
        OperationalError("could not extend file: No space left on device"),
        ResponseError("MISCONF Errors writing to the AOF file"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_a_full_disk_is_called_one(error: Exception) -> None:
    answer = exception_handler(error, {})
    assert answer is not None and answer.status_code == 507
