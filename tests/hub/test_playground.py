"""Asking a deployment through the platform: whom it asks, as whom, and what of the answer it passes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from config.front import THREADS
from hub.accounts.addresses import RefusedAddress, resolve
from hub.accounts.models import ApiToken, Role
from hub.accounts.outbound import TookTooLong
from hub.core.slots import take
from hub.serving import playground
from hub.serving.models import Node
from tests.factories.accounts import Person, bearer, person
from tests.factories.jobs import base_model
from tests.factories.serving import Answering, FakeNode, register, serving_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]  # test_serving.py runs on both
QUESTION = {"inputs": [{"text": "where is my parcel"}]}


@pytest.fixture
def answering() -> Iterator[Answering]:
    found = Answering()
    yield found
    found.close()


@pytest.fixture
def node(owner: Person, answering: Answering) -> FakeNode:
    made = serving_node("edge-1")
    Node.objects.update(url=answering.url)
    return made


@pytest.fixture
def address(owner: Person, node: FakeNode) -> str:
    base_model()
    body = {"workspace": "acme", "name": "desk", "model": "base/tiny-bert", "revision": "latest"}
    answer = owner.client.post("/api/v1/deployments", body)
    assert answer.status_code == 201, answer.content
    node.hold("ready")
    return f"/api/v1/deployments/{answer.json()['id']}/predict"


def test_a_node_is_asked_as_the_user_who_reads(owner: Person, address: str, answering: Answering) -> None:
    before = ApiToken.objects.count()
    answer = owner.client.post(address, QUESTION | {"top_k": 2})
    assert answer.status_code == 200, answer.content
    found = answer.json()
    assert (found["deployment"], found["node"], found["version"]) == ("acme/desk", "edge-1", 1)
    assert found["predictions"][0]["probabilities"] == {"shipping": 0.9, "billing": 0.1}
    assert found["round_trip_milliseconds"] > 0 and "secret_of_the_node" not in found
    [(path, host, question)] = answering.asked
    assert path == "/v1/models/acme/desk/predict" and answering.url.endswith(host)
    assert question == QUESTION | {"top_k": 2}
    [token] = answering.tokens
    assert token is not None and token.user == owner.user and token.workspace == owner.workspace
    assert token.role == Role.VIEWER and token.expires_at is not None
    assert ApiToken.objects.count() == before, "the token outlives its question"


def test_only_members_ask(owner: Person, outsider: Person, api: APIClient, node: FakeNode, address: str) -> None:
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    assert viewer.client.post(address, QUESTION).status_code == 200
    assert outsider.client.post(address, QUESTION).status_code == 404
    assert api.post(address, QUESTION).status_code == 401
    assert bearer(node.secret).post(address, QUESTION).status_code in {403, 404}


@pytest.mark.parametrize(
    "question",
    [{}, {"inputs": []}, {"inputs": ["bare"]}, {"inputs": [{"text": ""}]}, {"inputs": [{"text": "x"}] * 17},
     {"inputs": [{"text": "x" * 20_001}]}, {"inputs": [{"text": "x", "html": "y"}]}],
)  # fmt: skip
def test_questions_that_are_refused(owner: Person, address: str, answering: Answering, question: Any) -> None:
    answer = owner.client.post(address, question)
    assert answer.status_code == 400 and answer.json()["error"]["details"][0]["field"].startswith("inputs")
    assert answering.asked == []


def test_no_node_is_ready(owner: Person, address: str, node: FakeNode) -> None:
    node.hold("loading")
    assert owner.client.post(address, QUESTION).json()["error"]["code"] == "not_ready"
    node.hold("ready")
    node.vanish()
    assert owner.client.post(address, QUESTION).status_code == 409


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (400, {"error": {"message": "inputs.0: too long"}}, 400, "invalid"),
        (503, {"error": {"message": "More than it can hold."}}, 502, "node_failed"),
        (302, {}, 502, "node_failed"),
        (200, {"predictions": "nonsense"}, 502, "node_failed"),
        (200, {"pad": "x" * playground.MOST_BYTES}, 502, "node_unreachable"),
    ],
)
def test_what_nodes_answer(
    owner: Person, address: str, answering: Answering, status: int, body: Any, expected: int, code: str
) -> None:
    answering.status, answering.body = status, json.dumps(body).encode()
    answer = owner.client.post(address, QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (expected, code)
    assert "pad" not in answer.json()["error"]["message"]
    assert len(answering.asked) == 1


def test_a_node_that_hangs_or_is_gone(
    owner: Person, address: str, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering.close()
    answer = owner.client.post(address, QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "node_unreachable")
    monkeypatch.setattr(playground, "DEADLINE", 0.0)
    assert "0 seconds" in owner.client.post(address, QUESTION).json()["error"]["message"]


def test_a_frozen_node_holds_few_threads_of_a_workspace_and_of_all(
    owner: Person, address: str, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def hang(*_: object, seconds: float, **__: object) -> None:
        asked.append(seconds)
        raise TookTooLong

    def held(name: str, most: int) -> list[str]:
        return [key for _ in range(most) if (key := take(name, most, seconds=60))]

    own = held(f"asking:{owner.workspace.id}", playground.QUESTIONS_OF_A_WORKSPACE)
    answer = owner.client.post(address, QUESTION)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
    assert answer["Retry-After"] and "ask again in a moment" in answer.json()["error"]["message"]
    cache.delete_many(own)
    others = held("asking-slow", playground.SLOW_QUESTIONS)
    assert owner.client.post(address, QUESTION).status_code == 200, "its nodes were not silent"
    with monkeypatch.context() as patched:
        patched.setattr(playground, "post", hang)
        assert owner.client.post(address, QUESTION).status_code == 502 and len(asked) == 1
    assert owner.client.post(address, QUESTION).status_code == 429, "now they were"
    cache.delete_many(others)
    assert owner.client.post(address, QUESTION).status_code == 200
    assert playground.SLOW_QUESTIONS <= THREADS - 2 * playground.QUESTIONS_OF_A_WORKSPACE


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_link_local_addresses_are_never_called(host: str) -> None:
    with pytest.raises(RefusedAddress):
        resolve(f"http://{host}/latest", trusted=True)
    assert resolve("http://10.0.0.7:9000/v1", trusted=True).ip == "10.0.0.7"


def test_a_workspaces_node_is_called_at_public_addresses_alone(
    owner: Person, address: str, answering: Answering
) -> None:
    """Else an owner makes the platform call what only it can reach; a node of the installation was named by its own."""
    Node.objects.update(workspace=owner.workspace)
    refused = owner.client.post(address, QUESTION)
    assert refused.status_code == 502 and "not a public address" in refused.json()["error"]["message"]
    assert answering.asked == []
    Node.objects.update(workspace=None)
    assert owner.client.post(address, QUESTION).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/api/v1/session?x=",
        "http://127.0.0.1:8000/x#",
        "http://a@b/",
        "http://host/../admin",
        "http://host/a/./b",
        "http://host\\evil/",
        "gopher://host/",
        "http://host/a b",
    ],
)
def test_a_nodes_address_hides_nothing(node: FakeNode, url: str) -> None:
    assert register(node.client, name="edge-1", url=url).status_code == 400
    assert register(node.client, name="edge-1", url="https://models.example/serve/eu-1").status_code == 200


def test_a_node_is_asked_where_the_platform_reaches_it(
    owner: Person, address: str, node: FakeNode, answering: Answering
) -> None:
    """Callers come by a public name, which need not lead anywhere from within."""
    public = "https://models.example/serve"
    assert register(node.client, name="edge-1", url=public, inner_url=answering.url).status_code == 200
    assert owner.client.post(address, QUESTION).status_code == 200
    [placement] = owner.client.get(address.removesuffix("/predict")).json()["placements"]
    assert placement["url"] == public
    assert register(node.client, name="edge-1", url=public, inner_url="http://h/?x=").status_code == 400
