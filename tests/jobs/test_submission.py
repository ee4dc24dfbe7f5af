"""Estimates and submissions: what is refused and why, and what a new job says of itself."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from hub.accounts.models import AuditEvent, Membership, Role
from hub.datasets.models import DatasetState
from hub.registry.services.aliases import move_alias
from hub.serving.models import Node
from jobs.models import Job
from pst.plan import planner
from pst.plan.families import ModelDescription
from tests.factories.accounts import Person, person
from tests.factories.jobs import BERT, base_model, queued_job, ready_dataset, submission, worker

pytestmark = pytest.mark.django_db


def refused(answer: Any, status: int, code: str, field: str | None = None) -> str:
    assert answer.status_code == status, answer.content
    error = answer.json()["error"]
    assert error["code"] == code
    if field is not None:
        assert field in [detail["field"] for detail in error["details"]], error
    return str(error["message"])


def test_submit(owner: Person) -> None:
    answer = owner.client.post("/api/v1/jobs", submission(owner, settings={"epochs": 3, "seed": 7}))
    assert answer.status_code == 201
    job = answer.json()
    assert (job["state"], job["workspace"], job["model_name"]) == ("queued", "acme", "first-try")
    assert job["base_model"].startswith("base/tiny-bert@") and len(job["base_model"].split("@")[1]) == 40
    assert (job["settings"]["epochs"], job["settings"]["seed"], job["settings"]["batch_size"]) == (3, 7, 32)
    limits = ["max_nonzero_params", "max_bytes", "max_memory_bytes", "max_latency_ms", "min_speedup"]
    unset = dict.fromkeys([*limits, "groups", "on"])
    assert job["target"] == {"sparsity": 0.9, **unset}
    expected = planner.plan(ModelDescription(BERT, labels=3), planner.Target(sparsity=0.9))
    assert job["plan"] == expected.to_dict()
    assert (job["queue_position"], job["workers_online"], job["waiting_for"]) == (1, 0, "no_worker_online")
    assert job["message"].startswith("No worker is online for the queue default")
    assert (job["attempt"], job["max_attempts"], job["version"], job["report_available"]) == (0, 2, None, False)
    assert job["created_by"] == "olga"
    assert owner.client.get(f"/api/v1/jobs/{job['id']}").json() == job
    [event] = owner.client.get(f"/api/v1/jobs/{job['id']}/events").json()["events"]
    assert (event["attempt"], event["seq"], event["type"]) == (0, 1, "state")
    assert (event["data"]["state"], event["data"]["by"]) == ("queued", "olga")
    assert AuditEvent.objects.filter(action="job.submitted", object_id=job["id"]).count() == 1


def test_the_worker_is_rung_by_name_in_the_jobs_queue(
    owner: Person,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    rung = []
    monkeypatch.setattr("celery.app.base.Celery.send_task", lambda _, name, **given: rung.append((name, given)))
    with django_capture_on_commit_callbacks() as callbacks:
        job = queued_job(owner, queue="big-gpu")
        assert rung == []
    for callback in callbacks:
        callback()
    [(name, given)] = rung
    assert name == "pst_worker.run_job"
    assert (given["queue"], given["kwargs"]) == ("big-gpu", {"job_id": str(job.id)})


def test_a_revision_is_fixed_at_submission(owner: Person) -> None:
    first = base_model()
    alias = {"actor": owner_actor(owner), "model": first.model, "name": "stable"}
    move_alias(**alias, version=first)
    second = base_model(config=BERT | {"num_hidden_layers": 1})
    newest = queued_job(owner)
    stable = queued_job(owner, base_model="base/tiny-bert@stable")
    numbered = queued_job(owner, base_model="base/tiny-bert@v1")
    move_alias(**alias, version=second)
    assert newest.base_model == second
    assert stable.base_model == numbered.base_model == first
    assert Job.objects.get(pk=stable.pk).base_model == first


def owner_actor(owner: Person) -> Any:
    from hub.accounts.actor import actor_of_user

    return actor_of_user(owner.user)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"settings": {"epochs": 0}}, "invalid", "settings.epochs"),
        ({"settings": {"epoch": 3}}, "invalid", "settings.epoch"),
        ({"settings": {"batch_size": 10**30}}, "invalid", "settings.batch_size"),
        ({"settings": {"method": ["pst"]}}, "invalid", "settings.method"),
        ({"settings": {"warmup_fraction": 0.6, "cooldown_fraction": 0.6}}, "invalid", "settings.cooldown_fraction"),
        ({"settings": 3}, "invalid", "settings"),
        ({"target": {}}, "invalid", "target"),
        ({"target": {"sparsity": 1.5}}, "invalid", "target.sparsity"),
        ({"target": {"max_bytes": 0}}, "invalid", "target.max_bytes"),
        ({"target": {"max_bytes": 100}}, "budget_unreachable", "target.max_bytes"),
        ({"target": {"max_bytes": 10**9}}, "budget_met", "target.max_bytes"),
        ({"target": {"max_nonzero_params": 10**12}}, "budget_met", "target.max_nonzero_params"),
        ({"target": {"max_memory_bytes": 10**9}}, "budget_met", "target.max_memory_bytes"),
        ({"target": {"sparsity": 0.9, "speed": 3}}, "invalid", "target.speed"),
        ({"target": {"groups": {"ffn": 1.5}}}, "invalid", "target.groups.ffn"),
        ({"target": {"groups": {"decoder": 0.9}}}, "invalid", "target.groups"),
        ({"target": {"groups": {"ffn": 0.9}, "sparsity": 0.9}}, "invalid", "target.groups"),
        ({"target": {"groups": {}}}, "invalid", "target.groups"),
        ({"target": {"sparsity": 0.9}, "settings": {"structure": "2:4"}}, "invalid", "target.sparsity"),
        ({"model_name": "no/slash"}, "invalid", "model_name"),
        ({"model_name": "name\n"}, "invalid", "model_name"),
        ({"queue": "platform"}, "invalid", "queue"),
        ({"queue": "Big GPU"}, "invalid", "queue"),
        ({"name": ""}, "invalid", "name"),
        ({"name": "x" * 101}, "invalid", "name"),
        ({"dataset": "mine"}, "invalid", "dataset"),
        ({"idempotency_key": ""}, "invalid", "idempotency_key"),
        ({"base_model": {"public": "no-slash"}}, "invalid", "base_model.public"),
        ({"base_model": {"public": "owner/../name"}}, "invalid", "base_model.public"),
        ({"base_model": {"public": "owner/name"}, "target": {"max_bytes": 10**9}}, "invalid", "target"),
        ({"base_model": {"public": "owner/name"}, "target": {"groups": {"ffn": 0.9}}}, "invalid", "target"),
        ({"colour": "red"}, "invalid", "colour"),
    ],
)
def test_refused(owner: Person, change: dict[str, Any], code: str, field: str) -> None:
    message = refused(owner.client.post("/api/v1/jobs", submission(owner) | change), 400, code, field)
    assert len(message) > 10 and "\n" not in message.strip()
    assert not Job.objects.exists()


def test_a_budget_that_cannot_be_met_says_the_least(owner: Person) -> None:
    body = submission(owner, target={"max_nonzero_params": 10})
    message = refused(owner.client.post("/api/v1/jobs", body), 400, "budget_unreachable", "target.max_nonzero_params")
    least = planner.plan(ModelDescription(BERT, labels=3), planner.Target(sparsity=0.99)).nonzero_params
    assert f"{least:,}" in message


def test_an_unknown_architecture(owner: Person) -> None:
    base_model("exotic", config=BERT | {"model_type": "exotic"})
    body = submission(owner, base_model="base/exotic")
    assert "exotic" in refused(owner.client.post("/api/v1/jobs", body), 400, "invalid", "base_model")


@pytest.mark.parametrize("name", ["base/none", "none/tiny-bert", "tiny-bert", "base/tiny-bert@v7", "a/b/c", "@", ""])
def test_a_base_model_that_is_not_there(owner: Person, name: str) -> None:
    refused(owner.client.post("/api/v1/jobs", submission(owner) | {"base_model": name}), 404, "not_found", "base_model")


def test_a_base_model_of_another_workspace(owner: Person, outsider: Person) -> None:
    base_model("secret", workspace=outsider.workspace)
    body = submission(owner, base_model="elsewhere/secret")
    refused(owner.client.post("/api/v1/jobs", body), 404, "not_found", "base_model")
    assert queued_job(outsider, base_model="elsewhere/secret").base_model is not None


@pytest.mark.parametrize("state", [DatasetState.VALIDATING, DatasetState.INVALID])
def test_a_dataset_that_is_not_ready(owner: Person, state: DatasetState) -> None:
    dataset = ready_dataset(owner.workspace)
    dataset.state = state
    dataset.save()
    body = submission(owner, dataset=str(dataset.id))
    refused(owner.client.post("/api/v1/jobs", body), 400, "dataset_not_ready", "dataset")


def test_a_dataset_of_another_workspace(owner: Person, outsider: Person) -> None:
    body = submission(owner, dataset=str(ready_dataset(outsider.workspace).id))
    refused(owner.client.post("/api/v1/jobs", body), 404, "not_found", "dataset")
    # Nor may a member of both mix them up.
    Membership.objects.create(user=owner.user, workspace=outsider.workspace, role=Role.OWNER)
    refused(owner.client.post("/api/v1/jobs", body | {"workspace": "acme"}), 404, "not_found", "dataset")


def test_a_model_name_that_a_base_model_has(owner: Person) -> None:
    base_model("taken", workspace=owner.workspace)
    body = submission(owner, model_name="taken")
    refused(owner.client.post("/api/v1/jobs", body), 409, "conflict", "model_name")


def test_a_viewer_may_not_submit(owner: Person) -> None:
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    body = submission(owner)
    refused(viewer.client.post("/api/v1/jobs", body), 403, "forbidden")
    body.pop("name")
    assert viewer.client.post("/api/v1/estimates", body).status_code == 200


def test_the_same_idempotency_key_gives_the_same_job(owner: Person, outsider: Person) -> None:
    body = submission(owner, idempotency_key="once")
    first, again = owner.client.post("/api/v1/jobs", body), owner.client.post("/api/v1/jobs", body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    # The key is the workspace's own.
    other = queued_job(outsider, idempotency_key="once")
    assert str(other.id) != first.json()["id"]
    assert Job.objects.count() == 2


def test_a_target_by_group_reaches_the_worker(owner: Person) -> None:
    body = submission(owner, target={"groups": {"ffn": 0.95}}, settings={"structure": "structured"})
    job = owner.client.post("/api/v1/jobs", body).json()
    assert job["target"]["groups"] == {"ffn": 0.95}
    assert {group["name"]: group["sparsity"] for group in job["plan"]["groups"]} == {"attention": 0.0, "ffn": 0.95}
    assert job["plan"]["notes"] == [
        "structured can't prune attention, because the config of bert can't say fewer heads: it stays dense."
    ]
    spec = worker().claim(job["id"]).json()["spec"]
    assert (spec["target"]["groups"], spec["plan"]) == ({"ffn": 0.95}, {"attention": 0.0, "ffn": 0.95})


def test_a_public_model(owner: Person, settings: Settings) -> None:
    body = submission(owner, base_model={"public": "someone/bert-tiny@abc"}, target={"sparsity": 0.8})
    job = owner.client.post("/api/v1/jobs", body).json()
    assert (job["base_model"], job["public"]) == ("someone/bert-tiny@abc", True)
    assert [(group["name"], group["sparsity"]) for group in job["plan"]["groups"]] == [("all", 0.8)]
    assert job["plan"]["sparse_bytes"] is None
    claim = worker().claim(job["id"]).json()
    assert claim["spec"]["base_model"] == {"source": "public", "repo": "someone/bert-tiny", "revision": "abc"}
    assert claim["spec"]["plan"] == {"all": 0.8}  # the worker plans it from the target
    settings.ALLOW_PUBLIC_MODELS = False
    refused(owner.client.post("/api/v1/jobs", body), 403, "forbidden")


def test_a_public_model_may_be_left_without_a_revision(owner: Person) -> None:
    job = queued_job(owner, base_model={"public": "someone/bert-tiny"})
    assert worker().claim(job).json()["spec"]["base_model"]["revision"] == "main"


def test_estimate(owner: Person) -> None:
    dataset = ready_dataset(owner.workspace)
    base_model()
    body: dict[str, Any] = {"base_model": "base/tiny-bert", "target": {"max_bytes": 60_000}, "dataset": str(dataset.id)}
    answer = owner.client.post("/api/v1/estimates", body).json()
    assert answer["plan"] == planner.plan(ModelDescription(BERT, labels=3), planner.Target(max_bytes=60_000)).to_dict()
    assert answer["plan"]["sparse_bytes"] <= 60_000
    assert answer["seconds"] == {"estimate": None}
    assert answer["queue"] == {"name": "default", "position": 1, "workers_online": 0}
    queued_job(owner)
    worker()
    answer = owner.client.post("/api/v1/estimates", body).json()
    assert answer["queue"] == {"name": "default", "position": 2, "workers_online": 1}
    with_labels = {"base_model": "base/tiny-bert", "target": {"sparsity": 0.9}, "num_labels": 3}
    assert owner.client.post("/api/v1/estimates", with_labels).json()["plan"]["sparsity"] == pytest.approx(
        0.9, abs=0.01
    )
    without = owner.client.post("/api/v1/estimates", {"base_model": "base/tiny-bert", "target": {"sparsity": 0.9}})
    refused(without, 400, "invalid", "num_labels")
    public = {"base_model": {"public": "a/b"}, "target": {"sparsity": 0.9}, "num_labels": 3}
    assert owner.client.post("/api/v1/estimates", public).json()["plan"] is None


def test_an_estimate_does_not_believe_what_a_stored_config_says(owner: Person) -> None:
    base_model("endless", config=BERT | {"num_hidden_layers": 100_000})
    base_model("coded", config=BERT | {"auto_map": {"AutoModel": "someone--code.Model"}})
    begin = time.monotonic()
    for name, says in (("endless", "num_hidden_layers as 100000"), ("coded", "the key auto_map")):
        body = submission(owner, base_model=f"base/{name}")
        for url in ("/api/v1/estimates", "/api/v1/jobs"):
            asked = body if url.endswith("jobs") else {key: body[key] for key in ("base_model", "target", "dataset")}
            assert says in refused(owner.client.post(url, asked), 400, "invalid")
    assert time.monotonic() - begin < 5


def test_estimates_in_another_workspace_are_404(owner: Person, outsider: Person) -> None:
    dataset = ready_dataset(outsider.workspace)
    base_model()
    body = {"base_model": "base/tiny-bert", "target": {"sparsity": 0.9}, "dataset": str(dataset.id)}
    refused(owner.client.post("/api/v1/estimates", body), 404, "not_found")
    refused(owner.client.post("/api/v1/estimates", body | {"workspace": "elsewhere"}), 404, "not_found")


def test_seconds_come_from_finished_jobs_like_it(owner: Person, outsider: Person) -> None:
    gpu = worker()
    dataset = ready_dataset(owner.workspace, rows=10)
    now = timezone.now()
    for person_, seconds in ((owner, 100), (owner, 300), (owner, 140), (outsider, 9000)):
        data = dataset if person_ is owner else ready_dataset(outsider.workspace, rows=10)
        job = queued_job(person_, dataset=str(data.id), settings={"epochs": 5, "dense_epochs": 5})
        gpu.claim(job)
        assert gpu.finish(job, gpu.success(job)).status_code == 200
        Job.objects.filter(pk=job.pk).update(started_at=now - timedelta(seconds=seconds), finished_at=now)
    larger = ready_dataset(owner.workspace, name="larger", rows=20)
    body = {
        "base_model": "base/tiny-bert",
        "target": {"sparsity": 0.9},
        "dataset": str(larger.id),
        "settings": {"epochs": 10, "dense_epochs": 5},
    }
    # The median of one's own jobs: 140 s for 10 rows read 10 times; now 20 rows are read 15 times.
    assert owner.client.post("/api/v1/estimates", body).json()["seconds"]["estimate"] == 420.0
    body["settings"] = {"epochs": 10, "compare_dense": False, "distill": False}
    assert owner.client.post("/api/v1/estimates", body).json()["seconds"]["estimate"] == 280.0, "no dense run"
    body["settings"] = {"method": "dense", "dense_epochs": 3}
    assert owner.client.post("/api/v1/estimates", body).json()["seconds"]["estimate"] is None
    job = queued_job(owner, dataset=str(dataset.id), settings={"method": "dense", "dense_epochs": 5})
    gpu.claim(job)
    assert gpu.finish(job, gpu.success(job)).status_code == 200
    Job.objects.filter(pk=job.pk).update(started_at=now - timedelta(seconds=100), finished_at=now)
    # 100 s for 10 rows read 5 times, for it has no sparse run; now 20 rows are read 3 times.
    assert owner.client.post("/api/v1/estimates", body).json()["seconds"]["estimate"] == 120.0


def test_place_in_the_queue_and_workers(owner: Person, outsider: Person) -> None:
    first, second = queued_job(owner), queued_job(outsider)
    third, elsewhere = queued_job(owner), queued_job(owner, queue="other")
    bound = worker("bound", workspace=outsider.workspace)

    def shown(job: Job, viewer: Person = owner) -> tuple[Any, ...]:
        found = viewer.client.get(f"/api/v1/jobs/{job.id}").json()
        return found["queue_position"], found["workers_online"], found["waiting_for"]

    assert shown(first) == (1, 0, "no_worker_online")
    assert shown(second, outsider) == (2, 1, "worker")
    assert shown(third) == (3, 0, "no_worker_online")
    assert shown(elsewhere) == (1, 0, "no_worker_online")
    gpu = worker("everybody", queues=("default", "other"))
    assert shown(third) == (3, 1, "worker")
    gpu.claim(first)
    assert shown(first) == (None, 1, None)
    assert shown(third) == (2, 1, "worker")
    Node.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    assert shown(third) == (2, 0, "no_worker_online")
    assert bound.next() == second.id


def test_list(owner: Person, outsider: Person) -> None:
    a, b = queued_job(owner, name="a"), queued_job(owner, name="b")
    queued_job(outsider, name="theirs")
    owner.client.post(f"/api/v1/jobs/{a.id}/cancel")

    def names(query: str) -> list[str]:
        return [job["name"] for job in owner.client.get(f"/api/v1/jobs?{query}").json()["results"]]

    assert names("") == ["b", "a"]
    assert names("ordering=created_at") == ["a", "b"]
    assert names("state=queued") == ["b"]
    assert names("state=running") == []
    assert names("workspace=acme") == ["b", "a"]
    assert names("workspace=elsewhere") == []
    assert names("search=B") == ["b"] and names("search=theirs") == []
    assert names(f"dataset={a.dataset_id}") == ["a"]
    page = owner.client.get("/api/v1/jobs?page_size=1").json()
    assert (page["count"], page["previous"], len(page["results"])) == (2, None, 1)
    assert page["results"][0] == owner.client.get(f"/api/v1/jobs/{b.id}").json()
    refused(owner.client.get("/api/v1/jobs?state=sleeping"), 400, "invalid", "state")
    assert owner.client.get("/api/v1/jobs?workspace=%00").status_code == 400


def test_a_list_asks_the_database_as_often_for_one_job_as_for_many(
    owner: Person, django_assert_max_num_queries: Any
) -> None:
    body = submission(owner)
    for _ in range(6):
        assert owner.client.post("/api/v1/jobs", body).status_code == 201
    with django_assert_max_num_queries(8):
        assert owner.client.get("/api/v1/jobs").json()["count"] == 6


def test_a_list_of_jobs_reads_no_report(owner: Person) -> None:
    """25 jobs took 163 ms with their reports, their versions' and their base models', and 9 without."""
    job = queued_job(owner)
    Job.objects.filter(pk=job.pk).update(report={"masks": ["x" * 1000] * 300})
    with CaptureQueriesContext(connection) as queries:
        [row] = owner.client.get("/api/v1/jobs").json()["results"]
    assert row["report_available"] is True
    chosen = " ".join(query["sql"].split(" FROM ")[0] for query in queries if "jobs_job" in query["sql"])
    for column in ("report", "manifest", "finish", "error_detail", "errors"):
        assert f'"{column}",' not in chosen and not chosen.endswith(f'"{column}"')
    assert len(queries) < 12


def test_a_key_of_another_submission_is_a_conflict(owner: Person) -> None:
    body = submission(owner, idempotency_key="monday")
    first = owner.client.post("/api/v1/jobs", body)
    assert first.status_code == 201
    again = owner.client.post("/api/v1/jobs", body)
    assert again.status_code == 200 and again.json()["id"] == first.json()["id"]
    for changed in ({"name": "another"}, {"target": {"sparsity": 0.8}}, {"settings": {"epochs": 3}}, {"queue": "gpu"}):
        answer = owner.client.post("/api/v1/jobs", body | changed)
        assert answer.status_code == 409 and answer.json()["error"]["code"] == "idempotency_key_used"
    assert Job.objects.count() == 1


def test_different_names_get_different_models(owner: Person) -> None:
    """They once met in "model", in "reviews-1", in "caf-t", and a deployment moved to another job's labels."""
    base_model()
    first, second = ready_dataset(owner.workspace), ready_dataset(owner.workspace)
    named = {}
    for dataset, name in (
        (first, "отзывы"),
        (second, "жалобы"),
        (first, "评论"),
        (first, "..."),
        (second, "👍"),
        (first, "reviews (1)"),
        (first, "Reviews-1"),
        (second, "reviews 1"),
        (first, "café été"),
        (first, "x" * 100),
        (second, "x" * 100),
    ):
        asked = {"base_model": "base/tiny-bert", "target": {"sparsity": 0.9}, "dataset": str(dataset.id), "name": name}
        told = owner.client.post("/api/v1/estimates", asked).json()["model_name"]
        job = owner.client.post("/api/v1/jobs", submission(owner, dataset=str(dataset.id), name=name))
        assert job.status_code == 201 and job.json()["model_name"] == told, job.json()
        assert told not in named.values(), f"{name} is merged"
        named[dataset.id, name] = told
    assert named[first.id, "отзывы"] == "otzyvy" and named[first.id, "café été"] == "cafe-ete"
    assert sorted(value for value in named.values() if value.startswith("reviews")) == [
        "reviews-1",
        "reviews-1-2",
        "reviews-1-3",
    ]
    for (dataset_id, name), expected in named.items():  # the same job again makes the next version
        again = owner.client.post("/api/v1/jobs", submission(owner, dataset=str(dataset_id), name=name))
        assert again.json()["model_name"] == expected
    taken = owner.client.post("/api/v1/jobs", submission(owner, dataset=str(second.id), name="z", model_name="otzyvy"))
    assert taken.json()["model_name"] == "otzyvy", "who names a model means it"
