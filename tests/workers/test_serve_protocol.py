"""The Open Inference Protocol and the metrics of a serving node. No platform, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from pst_client.client import Platform
from pst_client.contract import MOST_INPUTS
from pst_serve import batching
from pst_serve.app import make_app
from pst_serve.authentication import TokenAuthenticator
from pst_serve.cache import ModelCache, load
from pst_serve.engine import Answer, Input

SECRET = {"Authorization": "Bearer sw_p_secret"}
MODEL = "/v2/models/acme/intents"


class Model:
    def __init__(self, task: str = "classification") -> None:
        self.task = task
        self.labels = ("a", "b") if task in ("classification", "multilabel") else ()

    def predict(self, inputs: Sequence[Input]) -> list[Answer]:
        if self.task == "generation":
            return [item.text.upper() for item in inputs]
        if self.task == "regression":
            return [[float(len(item.text))] for item in inputs]
        return [[0.25, 0.75] if item.text_pair is None else [0.75, 0.25] for item in inputs]


def platform(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"caller": "somebody", "workspace": "acme", "deployment": None})


Make = Callable[..., TestClient]


@pytest.fixture
def make() -> Make:
    def made(task: str = "classification", problem: str | None = None, **more: Any) -> TestClient:
        cache = ModelCache()
        cache.put("acme/intents", load("acme/intents", 3, "c" * 40, Model(task)))
        authenticator = TokenAuthenticator(
            Platform("http://platform", "sw_s_node", transport=httpx.MockTransport(platform))
        )
        app = make_app(cache, authenticator, lambda: problem, lambda: None, **more)
        return TestClient(app, raise_server_exceptions=False, headers=SECRET)

    return made


def tensor(*data: Any, name: str = "text", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": list(data), **more}


def test_health_and_what_the_server_is(make: Make) -> None:
    client = make()
    assert client.get("/v2").json().keys() == {"name", "version", "extensions"}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    late = make(problem="acme/intents: loading.").get("/v2/health/ready")
    assert (late.status_code, late.json()) == (503, {"ready": False})


@pytest.mark.parametrize("path", [MODEL, "/v2/models/acme%2Fintents"])
def test_a_model_is_described_and_ready(make: Make, path: str) -> None:
    client = make()
    assert client.get(path + "/ready").json() == {"name": "acme/intents", "ready": True}
    described = client.get(path).json()
    assert (described["name"], described["versions"]) == ("acme/intents", ["3"])
    assert described["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}
    assert {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]} in described["outputs"]


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (
            "classification",
            {
                "label": ("BYTES", [2], ["b", "a"]),
                "score": ("FP32", [2], [0.75, 0.75]),
                "probabilities": ("FP32", [2, 2], [0.25, 0.75, 0.75, 0.25]),
                "labels": ("BYTES", [2], ["a", "b"]),
            },
        ),
        (
            "multilabel",
            {
                "probabilities": ("FP32", [2, 2], [0.25, 0.75, 0.75, 0.25]),
                "labels": ("BYTES", [2], ["a", "b"]),
            },
        ),
        ("regression", {"score": ("FP32", [2], [3.0, 3.0])}),
        ("generation", {"text": ("BYTES", [2], ["ONE", "TWO"])}),
    ],
)
def test_an_inference(make: Make, task: str, outputs: dict[str, Any]) -> None:
    pair = tensor("", "a pair", name="text_pair")
    answer = make(task).post(MODEL + "/infer", json={"id": "7", "inputs": [tensor("one", "two"), pair]})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["id"], found["model_name"], found["model_version"]) == ("7", "acme/intents", "3")
    assert {o["name"]: (o["datatype"], o["shape"], o["data"]) for o in found["outputs"]} == outputs


def test_a_client_chooses_outputs_and_may_nest_its_data(make: Make) -> None:
    nested = tensor(["one"], ["two"], shape=[2, 1])
    body = {"inputs": [nested], "outputs": [{"name": "label"}], "parameters": {}}
    outputs = make().post(MODEL + "/infer", json=body).json()["outputs"]
    assert outputs == [{"name": "label", "datatype": "BYTES", "shape": [2], "data": ["b", "b"]}]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"inputs": []}, 400, "inputs"),
        ({"inputs": [tensor("x", name="words")]}, 400, "words is neither"),
        ({"inputs": [tensor("x"), tensor("x")]}, 400, "text is neither"),
        ({"inputs": [tensor("x", name="text_pair")]}, 400, 'no input "text"'),
        ({"inputs": [tensor("x"), tensor("x", "y", name="text_pair")]}, 400, "1 entries"),
        ({"inputs": [tensor("x", datatype="FP32")]}, 400, "BYTES"),
        ({"inputs": [tensor("x", shape=[2])]}, 400, "[1]"),
        ({"inputs": [tensor("x", shape=[1, 1, 1])]}, 400, "[1]"),
        ({"inputs": [tensor("x", shape=[10**400])]}, 400, "[1]"),
        ({"inputs": [tensor("x", shape=[-1])]}, 400, "shape"),
        ({"inputs": [tensor("x", shape=[True])]}, 400, "shape"),
        ({"inputs": [tensor(3)]}, 400, "inputs.0.text"),
        ({"inputs": [tensor([["x"]])]}, 400, "inputs.0.text"),
        ({"inputs": [tensor("")]}, 400, "inputs.0.text"),
        ({"inputs": [tensor("\ud800")]}, 400, "inputs.0.text"),
        ({"inputs": [tensor("x")], "id": "\ud800"}, 400, "id"),
        ({"inputs": [tensor("x")], "outputs": [{"name": "\ud800"}]}, 400, "outputs.0.name"),
        ({"inputs": [tensor("x")], "outputs": [{"name": "logits"}]}, 400, "logits"),
        ({"inputs": [tensor(*["x"] * (MOST_INPUTS + 1))]}, 413, "at most"),
        ([], 400, "body"),
    ],
)
def test_what_may_not_be_inferred(make: Make, body: Any, status: int, says: str) -> None:
    answer = make().post(MODEL + "/infer", content=json.dumps(body).encode())
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"} and says in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("POST", MODEL + "/infer", "", 401),
        ("GET", MODEL, "", 401),
        ("GET", MODEL, "sw_u_user", 401),
        ("GET", "/v2/models/acme/other", "sw_p_secret", 404),
        ("GET", "/v2/models/other/intents/ready", "sw_p_secret", 404),
        ("GET", MODEL + "/infer", "sw_p_secret", 405),
        ("GET", "/v2/models", "sw_p_secret", 404),
    ],
)
def test_errors_have_the_protocol_s_shape(make: Make, method: str, path: str, token: str, status: int) -> None:
    answer = make().request(method, path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status
    assert answer.json().keys() == {"error"} and isinstance(answer.json()["error"], str)


def samples(client: TestClient) -> dict[str, float]:
    answer = client.get("/metrics", headers={"Authorization": "Bearer scraper"})
    assert answer.status_code == 200
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_metrics_count_what_was_asked(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make(metrics_token="scraper")
    before = samples(client)

    def grown(name: str) -> float:
        return samples(client).get(name, 0) - before.get(name, 0)

    assert client.post(MODEL + "/infer", json={"inputs": [tensor("one", "two")]}).status_code == 200
    assert client.post("/v1/models/acme/intents/predict", json={"inputs": ["three"]}).status_code == 200
    monkeypatch.setattr(batching, "MAX_ROWS_PER_CALLER", 0)
    full = client.post(MODEL + "/infer", json={"inputs": [tensor("one")]})
    assert full.status_code == 429 and int(full.headers["Retry-After"]) >= 1
    for interface, status in (("infer", "200"), ("predict", "200"), ("infer", "429")):
        assert grown(f"sparsewright_requests_total{sorted((interface, status))}") == 1
    assert grown("sparsewright_rows_total['acme/intents']") == 3
    assert grown("sparsewright_answer_seconds_count['acme/intents']") == 2
    assert grown("sparsewright_pass_rows_count[]") == 2 and grown("sparsewright_pass_rows_sum[]") == 3
    now = samples(client)
    assert now["sparsewright_waiting_rows['acme/intents']"] == 0
    assert now["sparsewright_loaded_versions[]"] == 1
    assert now["process_resident_memory_bytes[]"] > 0


@pytest.mark.parametrize(
    ("held", "sent", "status"),
    [(None, "scraper", 404), (None, "", 404), ("scraper", "", 401), ("scraper", "sw_p_secret", 401)],
)
def test_who_may_read_the_metrics(make: Make, held: str | None, sent: str, status: int) -> None:
    client = make(metrics_token=held)
    assert client.get("/metrics", headers={"Authorization": f"Bearer {sent}"}).status_code == status
