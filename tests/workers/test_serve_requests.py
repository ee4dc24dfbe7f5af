"""What a serving node takes as a request, and how requests share passes of the model. No platform, no torch."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from pst_client.client import Platform
from pst_client.contract import MOST_INPUTS, MOST_QUESTION_BYTES
from pst_serve import batching
from pst_serve.app import make_app
from pst_serve.asking import LONGEST_TEXT
from pst_serve.authentication import TokenAuthenticator
from pst_serve.batching import Batcher, Overloaded
from pst_serve.cache import ModelCache, load
from pst_serve.engine import Input
from pst_serve.store import UNUSED_KEPT, Store

SECRET = {"Authorization": "Bearer sw_p_secret"}


class Gated:
    """A model that answers when it is told to."""

    task, labels = "classification", ("a", "b")

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def predict(self, inputs: Sequence[Input]) -> list[list[float]]:
        self.gate.wait(10)
        if any(item.text == "crash" for item in inputs):
            raise RuntimeError("the model broke")
        self.batches.append(len(inputs))
        return [[0.25, 0.75] if item.text_pair is None else [0.75, 0.25] for item in inputs]


def caller(request: httpx.Request) -> httpx.Response:
    assert request.headers["Authorization"] == "Bearer sw_s_node"
    assert json.loads(request.content) == {"token_sha256": hashlib.sha256(b"sw_p_secret").hexdigest()}
    return httpx.Response(200, json={"caller": "somebody", "workspace": "acme", "deployment": None})


@pytest.fixture
def client() -> TestClient:
    cache = ModelCache()
    cache.put("acme/intents", load("acme/intents", 3, "c" * 40, Gated()))
    authenticator = TokenAuthenticator(Platform("http://platform", "sw_s_node", transport=httpx.MockTransport(caller)))
    return TestClient(make_app(cache, authenticator, lambda: None, lambda: None), raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        (b"[]", 400, "body"),
        (b'{"inputs": []}', 400, "inputs"),
        (b'{"inputs": "ok"}', 400, "inputs"),
        (b'{"inputs": [""]}', 400, "inputs.0.text"),
        (b'{"inputs": [3]}', 400, "inputs.0"),
        (b'{"inputs": [{"text_pair": "b"}]}', 400, "inputs.0.text"),
        (json.dumps({"inputs": ["ok", "x" * (LONGEST_TEXT + 1)]}).encode(), 400, "inputs.1.text"),
        (json.dumps({"inputs": ["ok"] * (MOST_INPUTS + 1)}).encode(), 413, "inputs"),
        (b'{"inputs": ["ok"], "top_k": 0}', 400, "top_k"),
        (b'{"inputs": ["ok"], "else": 0}', 400, "else"),
        (b"[" * 100_000, 400, None),
        (b" " * (MOST_QUESTION_BYTES + 1), 413, None),
        (b'{"inputs": ["crash"]}', 500, None),
        (b'{"inputs": ["\\ud800"]}', 400, "inputs.0.text"),
        (b'{"inputs": ["ok"], "\\ud800": 0}', 400, "body"),
    ],
)
def test_what_may_not_be_asked(client: TestClient, body: bytes, status: int, field: str | None) -> None:
    answer = client.post("/v1/models/acme/intents/predict", content=body, headers=SECRET)
    assert answer.status_code == status, answer.content
    error = answer.json()["error"]
    assert error["message"]
    assert [item["field"] for item in error["details"]][:1] == ([field] if field else [])
    # The node lives on.
    assert client.post("/v1/models/acme/intents/predict", json={"inputs": ["ok"]}, headers=SECRET).status_code == 200


def test_an_answer(client: TestClient) -> None:
    question = {"inputs": ["one", {"text": "one", "text_pair": "two"}, {"text": "one", "text_pair": None}], "top_k": 1}
    answer = client.post("/v1/models/acme/intents/predict", json=question, headers=SECRET).json()
    assert answer.pop("milliseconds") >= 0
    b, a = ({"label": label, "score": 0.75, "probabilities": {label: 0.75}} for label in "ba")
    assert answer == {
        "model": "acme/intents",
        "repo": "acme/intents",
        "version": 3,
        "commit": "c" * 40,
        "predictions": [b, a, b],
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/acme/other/predict", 405),
        ("POST", "/v1/models/acme/other/predict", 404),
        ("POST", "/v1/models/else/intents/predict", 404),
        ("GET", "/nowhere", 404),
    ],
)
def test_addresses_that_are_not_there(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=SECRET, content=b'{"inputs": ["ok"]}' if method == "POST" else None)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_waiting_requests_share_a_pass_and_keep_their_order() -> None:
    model = Gated(is_open=False)
    batcher = Batcher(model, "test")
    first = batcher.submit([Input("first")])
    others = [batcher.submit([Input("x"), Input("x", "y")]) for _ in range(20)]
    large = batcher.submit([Input("x")] * 100, "another")
    model.gate.set()
    assert first.result(5) == [[0.25, 0.75]]
    assert all(other.result(5) == [[0.25, 0.75], [0.75, 0.25]] for other in others)
    assert len(large.result(5)) == 100
    # At most one more pass than there are rows for: the one that was under way when the others came.
    assert sum(model.batches) == 141 and max(model.batches) <= batching.MAX_ROWS and len(model.batches) <= 4
    batcher.close()


def test_a_node_that_is_asked_too_much_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING_ROWS", 3)
    model = Gated(is_open=False)
    batcher = Batcher(model, "test")
    waiting = batcher.submit([Input("x")] * 3)
    with pytest.raises(Overloaded):
        batcher.submit([Input("x")])
    model.gate.set()
    assert len(waiting.result(5)) == 3
    batcher.close()


def test_a_replaced_version_answers_what_it_was_asked_and_is_then_dropped() -> None:
    cache, old, new = ModelCache(), Gated(is_open=False), Gated()
    first, second = load("acme/intents", 1, "1" * 40, old), load("acme/intents", 2, "2" * 40, new)
    for version in (first, second):
        cache.put("acme/intents", version)
        cache.give_back(version)  # its loader's own hold
        if version is first:
            with_old = cache.use("acme/intents")
            held = with_old.__enter__()
    assert held is first
    waiting = held.batcher.submit([Input("x")])
    with cache.use("acme/intents") as now:
        assert now is second
    assert first.users == 1
    old.gate.set()
    assert waiting.result(5) == [[0.25, 0.75]]
    with_old.__exit__(None, None, None)
    assert first.users == 0
    assert cache.take("acme/intents", "1" * 40) is None
    cache.remove("acme/intents")
    assert second.users == 0


def test_the_disk_keeps_what_is_used_and_a_few_more(tmp_path: Path) -> None:
    store = Store(tmp_path, endpoint="", token="")
    store.open()
    for age in range(6):
        version = tmp_path / "versions" / f"v{age}"
        version.mkdir()
        os.utime(version, (1000 - age, 1000 - age))
    store.tidy(["v5"])
    store.close()
    kept = {path.name for path in (tmp_path / "versions").iterdir()}
    assert kept == {"v5", *(f"v{age}" for age in range(UNUSED_KEPT))}
