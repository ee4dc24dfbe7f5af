"""Targets in time: planned with what a serving node measured of itself."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from hub.serving.models import Node
from jobs.models import Job
from tests.factories.accounts import Person
from tests.factories.jobs import base_model, queued_job, ready_dataset, submission, worker
from tests.factories.serving import profile, serving_node

pytestmark = pytest.mark.django_db
FASTER = {"min_speedup": 1.2}


@pytest.fixture
def edge(owner: Person) -> str:
    """The id of a node of the owner's workspace whose engine skips zeros."""
    return measured("edge", owner)


def measured(name: str, person: Person | None = None, gain: float = 1.0) -> str:
    node = serving_node(name, workspace=person.workspace if person else None)
    Node.objects.filter(pk=node.id).update(profile=profile(gain=gain))
    return node.id


def estimate(person: Person, target: dict[str, Any], **changes: Any) -> Any:
    if not Job.objects.exists():
        base_model()
    body = {"workspace": person.workspace.slug, "base_model": "base/tiny-bert", "num_labels": 3, "target": target}
    return person.client.post("/api/v1/estimates", body | changes)


def test_the_plan_predicts_the_time_on_a_node(owner: Person, edge: str) -> None:
    on = {"node": edge, "rows": 2, "tokens": 32}
    answer = estimate(owner, {"sparsity": 0.9, "on": on})
    assert answer.status_code == 200, answer.content
    time = answer.json()["plan"]["time"]
    assert (time["node"], time["rows"], time["tokens"]) == ("edge", 2, 32)
    assert time["speedup"] == pytest.approx(time["dense_latency_ms"] / time["latency_ms"]) and time["speedup"] > 1
    assert estimate(owner, {"sparsity": 0.9}).json()["plan"]["time"] is None
    longer = estimate(owner, {"sparsity": 0.9, "on": {"node": edge}}).json()["plan"]["time"]
    assert (longer["rows"], longer["tokens"]) == (1, 128)


def test_a_time_becomes_a_sparsity(owner: Person, edge: str) -> None:
    on = {"node": edge}
    dense = estimate(owner, {"sparsity": 0.5, "on": on}).json()["plan"]["time"]["dense_latency_ms"]
    for target in ({"min_speedup": 1.2}, {"max_latency_ms": dense / 1.2}):
        plan = estimate(owner, target | {"on": on}).json()["plan"]
        assert plan["binding"] == next(iter(target)) and 0 < plan["sparsity"] < 0.99
        assert plan["time"]["speedup"] == pytest.approx(1.2, rel=0.01)


def test_an_unreachable_time_says_what_can_be_had(owner: Person) -> None:
    on = {"node": measured("expands", owner, gain=0.0)}
    answer = estimate(owner, {"min_speedup": 3, "on": on})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "budget_unreachable")
    assert error["details"][0]["field"] == "target.min_speedup"
    assert "a speed-up of 1, at 99% sparsity" in error["message"] and "structured" in error["message"]
    assert error["details"][1]["field"] == "settings.structure"
    answer = estimate(owner, {"max_latency_ms": 1e6, "on": on})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "budget_met")
    assert "nothing would be removed" in error["message"]


def test_another_workspace_s_node_is_not_there(owner: Person, outsider: Person, edge: str) -> None:
    for on in ({"node": edge}, {"node": str(uuid4())}):
        answer = estimate(outsider, {"sparsity": 0.9, "on": on})
        assert answer.status_code == 404
        assert answer.json()["error"]["details"] == [{"field": "target.on.node", "message": "no such serving node"}]
        body = submission(outsider, target=FASTER | {"on": on})
        assert outsider.client.post("/api/v1/jobs", body).status_code == 404
    assert not Job.objects.exists()
    shared = measured("everybodys")
    assert estimate(outsider, {"sparsity": 0.9, "on": {"node": shared}}).status_code == 200


def test_a_node_that_can_t_say(owner: Person) -> None:
    base_model()
    node = worker().node
    assert estimate(owner, {"sparsity": 0.9, "on": {"node": str(node.id)}}).status_code == 404, (
        "a worker serves nothing"
    )
    fresh = serving_node("fresh")
    answer = estimate(owner, {"sparsity": 0.9, "on": {"node": fresh.id}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_profile")


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({"min_speedup": 1.5}, "target"),
        ({"max_latency_ms": 3}, "target"),
        ({"min_speedup": 1}, "target.min_speedup"),
        ({"min_speedup": 1e9}, "target.min_speedup"),
        ({"max_latency_ms": 0}, "target.max_latency_ms"),
        ({"max_latency_ms": "soon"}, "target.max_latency_ms"),
        ({"sparsity": 0.9, "on": {"node": "edge"}}, "target.on.node"),
        ({"sparsity": 0.9, "on": {"node": str(uuid4()), "rows": 0}}, "target.on.rows"),
        ({"sparsity": 0.9, "on": {"node": str(uuid4()), "tokens": 10**6}}, "target.on.tokens"),
        ({"sparsity": 0.9, "on": {"node": str(uuid4()), "seconds": 1}}, "target.on.seconds"),
    ],
)
def test_targets_that_mean_nothing(owner: Person, target: dict[str, Any], field: str) -> None:
    answer = estimate(owner, target)
    assert answer.status_code == 400, answer.content
    assert answer.json()["error"]["details"][0]["field"] == field


def test_a_public_model_has_no_times(owner: Person, edge: str) -> None:
    answer = estimate(owner, FASTER | {"on": {"node": edge}}, base_model={"public": "o/n"})
    assert answer.status_code == 400 and "sparsity" in answer.json()["error"]["message"]


def test_the_worker_is_told_the_sparsities_that_were_planned(owner: Person, edge: str) -> None:
    job = queued_job(owner, target=FASTER | {"on": {"node": edge}})
    shown = owner.client.get(f"/api/v1/jobs/{job.id}").json()
    assert shown["target"]["min_speedup"] == 1.2 and shown["target"]["on"]["node"] == edge
    assert shown["plan"]["time"]["node"] == "edge"
    gpu = worker()
    assert gpu.claim(job).status_code == 200
    spec = gpu.claim_answer["spec"]
    planned = {group["name"]: group["sparsity"] for group in shown["plan"]["groups"]}
    assert spec["target"]["groups"] == spec["plan"] == planned and min(planned.values()) > 0
    assert spec["target"]["min_speedup"] is None and spec["target"]["on"] is None
    Node.objects.filter(pk=edge).delete()
    assert owner.client.get(f"/api/v1/jobs/{job.id}").json()["plan"]["time"]["node"] == "edge"


def test_a_sparsity_stays_the_worker_s_target(owner: Person, edge: str) -> None:
    dataset = str(ready_dataset(owner.workspace).id)
    base_model()
    job = queued_job(owner, dataset=dataset, target={"sparsity": 0.8, "on": {"node": edge}})
    gpu = worker()
    gpu.claim(job)
    assert {key: value for key, value in gpu.claim_answer["spec"]["target"].items() if value} == {"sparsity": 0.8}


def test_a_method_that_prunes_nothing_has_a_target_too(owner: Person, edge: str) -> None:
    target = {"max_latency_ms": 1e6, "on": {"node": edge}}
    job = queued_job(owner, target=target, settings={"method": "lora"})
    gpu = worker()
    assert gpu.claim(job).status_code == 200
    assert not any(gpu.claim_answer["spec"]["target"].values())
