"""What a serving node measured of itself: kept with the node, shown to those who may use it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from rest_framework.test import APIClient

from hub.serving.models import Node
from tests.factories.accounts import Person
from tests.factories.serving import FakeNode, profile, serving_node

pytestmark = pytest.mark.django_db


def tell(node: FakeNode, told: Any) -> Any:
    return node.client.post("/api/v1/node/heartbeat", {"node_id": node.id, "profile": told})


def test_a_profile_is_kept_until_a_newer_one_comes(owner: Person) -> None:
    node = serving_node("edge")
    (listed,) = owner.client.get("/api/v1/nodes").json()["results"]
    assert listed["profile"] is None
    absent = owner.client.get(f"/api/v1/nodes/{node.id}/profile")
    assert absent.status_code == 404 and absent.json()["error"]["code"] == "no_profile"

    assert tell(node, profile()).status_code == 200
    (listed,) = owner.client.get("/api/v1/nodes").json()["results"]
    assert listed["profile"] == {
        "measured_at": "2026-11-24T10:00:00Z",
        "engine": "expanding",
        "device": "EPYC",
        "threads": 2,
    }
    assert owner.client.get(f"/api/v1/nodes/{node.id}/profile").json() == profile()

    node.beat()
    assert Node.objects.get(pk=node.id).profile == profile(), "a heartbeat without one changes nothing"
    assert tell(node, profile(gain=0.5)).status_code == 200
    assert owner.client.get(f"/api/v1/nodes/{node.id}/profile").json() == profile(gain=0.5)


def test_who_may_read_it(owner: Person, outsider: Person, api: APIClient) -> None:
    mine, everybodys = serving_node("mine", workspace=owner.workspace), serving_node("everybodys")
    for node in (mine, everybodys):
        assert tell(node, profile()).status_code == 200
    assert owner.client.get(f"/api/v1/nodes/{mine.id}/profile").status_code == 200
    assert outsider.client.get(f"/api/v1/nodes/{mine.id}/profile").status_code == 404
    assert outsider.client.get(f"/api/v1/nodes/{everybodys.id}/profile").status_code == 200
    assert api.get(f"/api/v1/nodes/{everybodys.id}/profile").status_code == 401


def broken(change: Any) -> dict[str, Any]:
    told = deepcopy(profile())
    change(told["times"])
    return told


@pytest.mark.parametrize(
    ("told", "field", "words"),
    [
        (3, "profile", "dictionary"),
        ({"measured_at": "soon", "times": profile()["times"]}, "profile.measured_at", "datetime"),
        (broken(lambda times: times.pop("layers")), "profile.times.layers", "required"),
        (broken(lambda times: times.update(sparsities=[0.5])), "profile.times", "rise from 0"),
        (broken(lambda times: times["products"][0].update(seconds=[1])), "profile.times", "one time for each"),
        (broken(lambda times: times["products"].pop()), "profile.times", "each number of tokens"),
        (broken(lambda times: times.update(products=[])), "profile.times", "1 to 500"),
        (broken(lambda times: times.update(fixed_seconds=-1)), "profile.times", "positive"),
        (broken(lambda times: times.update(fixed_seconds="x")), "profile.times.fixed_seconds", "number"),
    ],
)
def test_profiles_that_are_refused(owner: Person, told: Any, field: str, words: str) -> None:
    node = serving_node("edge")
    answer = tell(node, told)
    assert answer.status_code == 400, answer.content
    (detail, *_) = answer.json()["error"]["details"]
    assert detail["field"] == field and words in detail["message"]
    assert Node.objects.get(pk=node.id).profile is None


def test_a_number_that_no_json_can_hold_is_refused(owner: Person) -> None:
    node = serving_node("edge")
    answer = tell(node, broken(lambda times: times.update(fixed_seconds=10**400)))
    assert answer.status_code == 400 and "too large" in answer.json()["error"]["message"]
