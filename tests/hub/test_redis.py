"""Redis is a boundary: what is read from it can run nothing, and a worker's user can do nothing but ring."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import redis
from django.core.cache import cache
from redis.exceptions import NoPermissionError

from embedded.services import Valkey
from hub.core.cache import JSONSerializer
from pst_client.contract import DOORBELL_PREFIX

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize("value", [1, 0, -7, True, 1.5, "text", None, [1.0, 2.0], {"a": [None]}])
def test_the_cache_gives_back_what_it_was_given(value: Any) -> None:
    cache.set("given", value)
    assert cache.get("given") == value and type(cache.get("given")) is type(value)


def test_the_cache_counts() -> None:
    cache.set("count", 1)
    assert cache.incr("count") == 2


class Exploit:
    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (Exploit, "ran", True))


def test_what_is_in_the_cache_runs_nothing() -> None:
    raw = cache._cache.get_client()  # type: ignore[attr-defined]
    raw.set(cache.make_key("evil"), pickle.dumps(Exploit()))
    with pytest.raises(ValueError, match=r"JSON|decode"):
        cache.get("evil")
    assert not Exploit.ran
    with pytest.raises(TypeError):
        JSONSerializer().dumps(Exploit())


@pytest.fixture
def worker(valkey: Valkey) -> redis.Redis:
    return redis.Redis.from_url(valkey.worker_url.replace("redis+socket", "unix"))


FORBIDDEN = [
    ("GET", "cache:1:part:web"),
    ("SET", "cache:1:part:web", "x"),
    ("LPUSH", "platform:platform", "{}"),
    ("BRPOP", "platform:webhooks", "1"),
    ("GET", f"{DOORBELL_PREFIX}default"),
    ("DEL", f"{DOORBELL_PREFIX}default"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("PUBLISH", f"{DOORBELL_PREFIX}x", "shutdown"),
    ("SUBSCRIBE", "anything"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("MODULE", "LIST"),
    ("CLIENT", "KILL", "ID", "1"),
    ("REPLICAOF", "NO", "ONE"),
    ("SHUTDOWN",),
    ("INFO",),
]


@pytest.mark.parametrize("command", FORBIDDEN, ids=[" ".join(command[:2]) for command in FORBIDDEN])
def test_a_workers_user_can_do_nothing_but_ring(worker: redis.Redis, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        worker.execute_command(*command)


def test_a_workers_user_rings(worker: redis.Redis) -> None:
    key = f"{DOORBELL_PREFIX}of-a-test"
    assert worker.lpush(key, "bell") == 1
    assert worker.brpop([key], timeout=1) == (key.encode(), b"bell")


@pytest.mark.parametrize("command", [("CONFIG", "GET", "*"), ("ACL", "LIST"), ("FLUSHALL",), ("GET", "of-another")])
def test_the_platforms_user_is_no_admin(valkey: Valkey, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        redis.Redis.from_url(valkey.platform_url.replace("redis+socket", "unix")).execute_command(*command)


def test_without_a_user_nothing_is_answered(valkey: Valkey) -> None:
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis.from_url(f"unix://{valkey.socket}").ping()
