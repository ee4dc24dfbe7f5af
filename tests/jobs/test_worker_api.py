"""What workers may do: claim, report, upload, finish; the lease in each write; and what a job's token reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from pytest_django import Settings
from rest_framework.response import Response
from rest_framework.test import APIClient

from hub.accounts.actor import actor_of_token
from hub.accounts.models import ApiToken, TokenKind
from hub.core.storage import blob_name
from hub.registry.access import readable_models
from hub.registry.models import Model, ModelVersion
from jobs.models import Job, JobArtifact, JobEvent
from pst_client.contract import Claim, Finish, Heartbeat
from tests.factories.accounts import Person, bearer
from tests.factories.jobs import Worker, base_model, event, queued_job, ready_dataset, worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(owner: Person) -> Job:
    return queued_job(owner)


@pytest.fixture
def gpu(job: Job) -> Worker:
    """A worker that has claimed ``job``."""
    found = worker()
    assert found.claim(job).status_code == 200
    return found


def error(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def content(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


# Claims


def test_claim(owner: Person) -> None:
    dataset = ready_dataset(owner.workspace, name="mine", rows=5)
    job = queued_job(owner, dataset=str(dataset.id), settings={"epochs": 2})
    claim = Claim.model_validate(worker().claim(job).json())
    spec = claim.spec
    assert (spec.job_id, spec.attempt, spec.checkpoint, claim.next_seq) == (job.id, 1, None, 1)
    assert (spec.settings.epochs, spec.target.sparsity) == (2, 0.9)
    assert spec.plan == {group["name"]: group["sparsity"] for group in job.plan["groups"]}
    assert spec.base_model.source == "registry"
    assert (spec.base_model.repo, spec.base_model.revision) == ("base/tiny-bert", job.base_model.commit)
    assert (spec.dataset.labels, spec.dataset.sha256) == (["billing", "shipping", "returns"], dataset.sha256)
    assert (spec.dataset.train.rows, spec.dataset.test) == (5, None)
    assert spec.dataset.validation is not None and spec.dataset.validation.path == "validation.jsonl"
    assert claim.lease.expires_at > timezone.now()
    shown = owner.client.get(f"/api/v1/jobs/{job.id}").json()
    assert (shown["state"], shown["attempt"]) == ("running", 1)
    # Neither secret is kept.
    row = json.dumps(list(Job.objects.values("lease_digest", "finish")), default=str)
    assert claim.lease.token not in row
    assert not ApiToken.objects.filter(digest=claim.job_token).exists()


def test_a_job_is_claimed_once(job: Job, gpu: Worker) -> None:
    other = worker("gpu-2")
    assert error(other.claim(job)) == (409, "taken")
    assert error(gpu.claim(job)) == (409, "taken")
    assert gpu.heartbeat(job).status_code == 200


def test_a_worker_claims_with_its_own_token(job: Job) -> None:
    mine, other = worker("mine"), worker("other")
    mine.node, other.node = other.node, mine.node
    assert error(mine.claim(job)) == (404, "not_found")
    mine.node.id = uuid4()
    assert error(mine.claim(job)) == (404, "not_found")
    assert error(mine.claim(uuid4())) == (404, "not_found")
    assert mine.client.post(f"/api/v1/worker/jobs/{job.id}/claim", {"node_id": "x"}).status_code == 400


def test_a_workspaces_worker_takes_that_workspaces_jobs_alone(owner: Person, outsider: Person, job: Job) -> None:
    theirs = worker("theirs", workspace=outsider.workspace)
    assert theirs.next() is None
    assert error(theirs.claim(job)) == (404, "not_found")
    ours = worker("ours", workspace=owner.workspace)
    assert ours.next() == job.id
    assert ours.claim(job).status_code == 200
    theirs.lease = ours.lease
    for write in WRITES.values():
        assert error(write(theirs, job)) == (404, "not_found")


def test_next_is_the_oldest_of_the_queues(owner: Person) -> None:
    gpu = worker()
    assert gpu.next() is None
    first, second, other = queued_job(owner), queued_job(owner), queued_job(owner, queue="other")
    assert gpu.next() == first.id
    assert gpu.next("other") == other.id
    assert gpu.next("default", "other") == first.id
    gpu.claim(first)
    assert gpu.next() == second.id
    # Given back, it keeps its place.
    gpu.release(first)
    assert gpu.next() == first.id
    body = {"node_id": str(uuid4()), "queues": ["default"]}
    assert gpu.client.post("/api/v1/worker/next", body).status_code == 404


# The lease

WRITES: dict[str, Callable[[Worker, Job], Response]] = {
    "heartbeat": lambda gpu, job: gpu.heartbeat(job),
    "events": lambda gpu, job: gpu.events(job, event(99)),
    "artifact": lambda gpu, job: gpu.upload(job, b"late"),
    "checkpoint": lambda gpu, job: gpu.post(
        job,
        "checkpoint",
        {"file": {"path": "c", "sha256": "0" * 64, "size": 1}, "step": 1, "phase": "train"},
    ),
    "finish": lambda gpu, job: gpu.finish(job, {"outcome": "failed", "error": "late"}),
    "release": lambda gpu, job: gpu.release(job),
}


@pytest.mark.parametrize("what", list(WRITES))
@pytest.mark.parametrize("why", ["another holds it", "it is over", "a wrong token", "no token"])
def test_a_stale_lease_gets_409_for_every_write(job: Job, gpu: Worker, what: str, why: str) -> None:
    if why == "a wrong token":
        gpu.lease = "x" * len(gpu.lease)
    elif why == "no token":
        gpu.lease = ""
    elif why == "it is over":
        assert gpu.finish(job, {"outcome": "failed", "error": "first"}).status_code == 200
    else:
        gpu.release(job)
        assert worker("gpu-2").claim(job).status_code == 200
    before = snapshot(job)
    assert error(WRITES[what](gpu, job)) == (409, "stale_lease")
    assert snapshot(job) == before


def snapshot(job: Job) -> tuple[Any, ...]:
    return (
        Job.objects.filter(pk=job.pk).values().get(),
        list(JobEvent.objects.filter(job=job).values()),
        list(JobArtifact.objects.values()),
        ModelVersion.objects.filter(job_id=job.pk).count(),
    )


@pytest.mark.parametrize("what", [*WRITES, "claim"])
def test_people_and_jobs_may_not_write_as_workers(owner: Person, job: Job, gpu: Worker, what: str) -> None:
    for client in (owner.client, bearer(gpu.job_token)):
        impostor = Worker(node=gpu.node, client=client, lease=gpu.lease)
        assert error((WRITES | {"claim": Worker.claim})[what](impostor, job)) == (403, "permission_denied")


def test_a_heartbeat_renews_the_lease_and_the_jobs_token(job: Job, gpu: Worker, settings: Settings) -> None:
    before = Job.objects.get(pk=job.pk).lease_expires_at
    settings.LEASE_SECONDS = 3600
    answer = Heartbeat.model_validate(gpu.heartbeat(job).json())
    job.refresh_from_db()
    assert before is not None and job.lease_expires_at is not None
    assert job.lease_expires_at == answer.expires_at > before + timedelta(minutes=50)
    token = ApiToken.objects.get(kind=TokenKind.JOB, subject=job.id)
    assert token.expires_at is not None and token.expires_at > answer.expires_at


def test_a_lease_that_ran_out_counts_until_it_is_taken_away(job: Job, gpu: Worker) -> None:
    Job.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=5))
    assert gpu.heartbeat(job).status_code == 200
    assert Job.objects.get(pk=job.pk).lease_expires_at > timezone.now()


# Events


def test_events_sent_again_are_passed_over(owner: Person, job: Job, gpu: Worker) -> None:
    batch = [event(1, "phase", phase="prepare"), event(2, "progress", step=1, loss=0.5), event(3, message="hello")]
    assert gpu.events(job, *batch).json() == {"accepted": 3, "directive": "continue"}
    altered = [item | {"data": {"phase": "changed"}} for item in batch]
    assert gpu.events(job, *altered, event(4, "progress", step=2)).json()["accepted"] == 1
    assert gpu.events(job, *batch, event(5), event(5, message="twice")).json()["accepted"] == 1
    assert gpu.events(job).json()["accepted"] == 0
    events = owner.client.get(f"/api/v1/jobs/{job.id}/events").json()["events"]
    own = [(item["seq"], item["data"]) for item in events if item["attempt"] == 1]
    assert own == [
        (1, {"phase": "prepare"}),
        (2, {"step": 1, "loss": 0.5}),
        (3, {"message": "hello"}),
        (4, {"step": 2}),
        (5, {}),
    ]
    assert owner.client.get(f"/api/v1/jobs/{job.id}").json()["progress"]["step"] == 2


def test_each_attempt_counts_its_events_anew(owner: Person, job: Job, gpu: Worker) -> None:
    gpu.events(job, event(1, message="first"))
    gpu.release(job)
    assert gpu.claim(job).json()["next_seq"] == 1
    assert gpu.events(job, event(1, message="second")).json()["accepted"] == 1
    events = owner.client.get(f"/api/v1/jobs/{job.id}/events").json()["events"]
    assert [(item["attempt"], item["seq"]) for item in events] == [(0, 1), (0, 2), (1, 1), (0, 3), (0, 4), (2, 1)]


def test_what_only_a_newer_worker_knows_is_passed_over(owner: Person, job: Job, gpu: Worker) -> None:
    known = event(2, "progress", step=1, warmth=36.6)
    assert gpu.events(job, event(1, "song", verse=3), known | {"mood": "good"}).json()["accepted"] == 1
    events = owner.client.get(f"/api/v1/jobs/{job.id}/events").json()["events"]
    assert [(item["type"], item["data"]) for item in events if item["attempt"] == 1] == [("progress", {"step": 1})]


def test_what_another_version_stored_breaks_no_page(owner: Person, job: Job, gpu: Worker) -> None:
    gpu.events(job, event(1, "progress", step=1))
    kept = job.events.get(attempt=1)
    old = {"job": job, "attempt": 1, "at": kept.at}
    JobEvent.objects.create(**old, seq=2, type="phase", data={})
    last = JobEvent.objects.create(**old, seq=3, type="progress", data={"loss": "small"})
    Job.objects.filter(pk=job.pk).update(progress={"step": "many"})
    answer = owner.client.get(f"/api/v1/jobs/{job.id}/events").json()
    assert [item["seq"] for item in answer["events"] if item["attempt"] == 1] == [1] and answer["last"] == last.id
    assert owner.client.get(f"/api/v1/jobs/{job.id}").json()["progress"]["step"] is None


@pytest.mark.parametrize(
    "bad",
    [
        event(0),
        event(2**31),
        event(10**30),
        event(1, "state", state="succeeded"),
        event(1, "progress", step="many"),
        event(1, "phase"),
        event(1) | {"at": "yesterday"},
        event(1) | {"at": "0001-01-01T00:00:00+14:00"},
        event(1) | {"at": "2026-01-01T00:00:00"},
        event(1, big=10**40),
    ],
)
def test_bad_events_are_refused_whole(job: Job, gpu: Worker, bad: dict[str, Any]) -> None:
    answer = gpu.events(job, event(1), bad)
    assert answer.status_code == 400
    assert len(answer.json()["error"]["message"]) > 5
    assert not job.events.filter(attempt=1).exists()
    assert gpu.events(job, *[event(seq) for seq in range(1, 502)]).status_code == 400


@pytest.mark.parametrize("body", [b'{"events": [{"seq": 1', b"[1e400]", b'"x"', b"null", b"[" * 100_000, b"\xff"])
def test_bodies_that_are_no_message(job: Job, gpu: Worker, body: bytes) -> None:
    for what in ("events", "finish", "checkpoint", "release", "claim"):
        answer = gpu.client.post(
            f"/api/v1/worker/jobs/{job.id}/{what}",
            body,
            content_type="application/json",
            headers={"X-Lease-Token": gpu.lease},
        )
        assert answer.status_code == 400, (what, answer.content)


# Artifacts


def test_upload_and_read_back(job: Job, gpu: Worker) -> None:
    data = bytes(range(256)) * 8192  # two chunks
    sha256 = hashlib.sha256(data).hexdigest()
    answer = gpu.upload(job, data)
    assert (answer.status_code, answer.json()) == (201, {"sha256": sha256, "size": len(data)})
    assert gpu.upload(job, data).status_code == 201
    assert JobArtifact.objects.filter(job=job).count() == 1
    reader = bearer(gpu.job_token)
    url = f"/api/v1/worker/jobs/{job.id}/artifacts/{sha256}"
    assert content(reader.get(url)) == data
    part = reader.get(url, headers={"Range": "bytes=10-19", "Accept": "application/octet-stream"})
    assert (part.status_code, content(part)) == (206, data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"


def test_an_upload_with_the_wrong_sha256_leaves_nothing(job: Job, gpu: Worker) -> None:
    data = b"not what it says" * 1000
    assert error(gpu.upload(job, data, sha256="ab" * 32)) == (400, "checksum_mismatch")
    assert error(gpu.upload(job, data, sha256="..")) == (400, "checksum_mismatch")
    assert not JobArtifact.objects.exists()
    assert not default_storage.exists(blob_name(hashlib.sha256(data).hexdigest()))


def test_an_upload_that_is_too_large(job: Job, gpu: Worker, settings: Settings) -> None:
    settings.BASE_MODEL_MAX_BYTES = 1000
    assert error(gpu.upload(job, b"x" * 1001)) == (413, "too_large")
    assert gpu.upload(job, b"x" * 1000).status_code == 201


def test_an_upload_that_breaks_off(job: Job, gpu: Worker) -> None:
    url = f"/api/v1/worker/jobs/{job.id}/artifacts/{hashlib.sha256(b'half').hexdigest()}"
    put: dict[str, Any] = {"content_type": "application/octet-stream", "headers": {"X-Lease-Token": gpu.lease}}
    # The client's own stand-in for a connection refuses to be read past its end; a server's answers with nothing.
    answer = gpu.client.put(url, b"half", **put, CONTENT_LENGTH="8", **{"wsgi.input": BytesIO(b"half")})
    assert answer.status_code == 408, "the client sends it again"
    assert "4 of 8 bytes" in answer.json()["error"]["message"]
    answer = gpu.client.put(url, b"half", CONTENT_LENGTH="", **put)
    assert error(answer) == (411, "length_required")
    assert not JobArtifact.objects.exists()


def test_a_checkpoint_is_where_the_next_attempt_resumes(job: Job, gpu: Worker) -> None:
    assert gpu.checkpoint(job, b"first", step=5).status_code == 204
    assert gpu.checkpoint(job, b"second", step=9).status_code == 204
    gpu.release(job)
    spec = worker("gpu-2").claim(job).json()["spec"]
    assert spec["checkpoint"] == {
        "path": "checkpoint",
        "sha256": hashlib.sha256(b"second").hexdigest(),
        "size": 6,
    }
    # The first is no longer the job's to read.
    assert list(job.artifacts.values_list("blob_id", flat=True)) == [hashlib.sha256(b"second").hexdigest()]


def test_a_checkpoint_that_was_never_uploaded(owner: Person, job: Job, gpu: Worker) -> None:
    other = queued_job(owner)
    gpu_2 = worker("gpu-2")
    gpu_2.claim(other)
    file = gpu_2.uploaded(other, "checkpoint", b"another job's")
    for claimed in (file, file | {"size": 1}, file | {"sha256": "0" * 64}):
        answer = gpu.post(job, "checkpoint", {"file": claimed, "step": 1, "phase": "train"})
        assert error(answer) == (400, "not_uploaded")
    assert Job.objects.get(pk=job.pk).checkpoint is None


# The end


def test_success_publishes(owner: Person, job: Job, gpu: Worker) -> None:
    answer = gpu.finish(job, gpu.success(job)).json()
    version = ModelVersion.objects.get(job_id=job.id)
    assert answer == {"state": "succeeded", "version": 1, "commit": version.commit}
    assert (version.model.repo_id, version.model.kind, version.created_by) == ("acme/first-try", "sparse", owner.user)
    assert version.config["model_type"] == "bert"
    lineage = version.manifest["lineage"]
    assert lineage["job"]["id"] == str(job.id)
    assert lineage["dataset"]["sha256"] == job.dataset.sha256
    assert (lineage["base_model"]["repo"], lineage["license"]) == ("base/tiny-bert", "apache-2.0")
    shown = owner.client.get(f"/api/v1/jobs/{job.id}").json()
    assert shown["version"] == {"repo": "acme/first-try", "number": 1, "commit": version.commit}
    assert shown["finished_at"] and shown["error"] == ""


def test_a_finish_sent_twice_publishes_once_and_gets_the_same_answer(job: Job, gpu: Worker) -> None:
    body = gpu.success(job)
    first, again = gpu.finish(job, body), gpu.finish(job, body)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert ModelVersion.objects.filter(job_id=job.id).count() == 1
    assert job.events.filter(data__state="succeeded").count() == 1
    assert error(gpu.finish(job, body | {"report": {"accuracy": 1.0}})) == (409, "stale_lease")
    gpu.lease = "x" * len(gpu.lease)
    assert error(gpu.finish(job, body)) == (409, "stale_lease")


def test_a_failed_finish_sent_twice_counts_once(job: Job, gpu: Worker) -> None:
    body = {"outcome": "failed", "error": "The child was killed.", "retriable": True}
    assert gpu.finish(job, body).json()["state"] == "queued"
    other = worker("gpu-2")
    other.claim(job)
    assert gpu.finish(job, body).json()["state"] == "queued"
    job.refresh_from_db()
    assert (job.state, job.failures) == ("running", 1)
    assert other.heartbeat(job).status_code == 200


def test_jobs_of_one_model_make_versions_of_it(owner: Person) -> None:
    gpu = worker()
    answers = []
    for _ in range(2):
        job = queued_job(owner, model_name="intents")
        gpu.claim(job)
        answers.append(gpu.finish(job, gpu.success(job)).json())
    assert [answer["version"] for answer in answers] == [1, 2]
    assert answers[0]["commit"] != answers[1]["commit"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body | {"files": []},
        lambda body: body | {"files": [body["files"][0] | {"path": "../config.json"}]},
        lambda body: body | {"files": [body["files"][0] | {"path": "/etc/passwd"}]},
        lambda body: body | {"files": [body["files"][0], body["files"][0]]},
        lambda body: body | {"files": [body["files"][0] | {"size": 1}]},
        lambda body: body | {"files": [body["files"][0] | {"sha256": "0" * 64}]},
        lambda body: body | {"outcome": "splendid"},
        lambda body: body | {"report": body["report"] | {"loss": 10**40}},
        lambda body: {},
    ],
)
def test_a_finish_that_is_refused_leaves_the_job_running(
    job: Job, gpu: Worker, damage: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    body = gpu.success(job)
    answer = gpu.finish(job, damage(body))
    assert answer.status_code == 400, answer.content
    job.refresh_from_db()
    assert (job.state, job.finish, ModelVersion.objects.filter(job_id=job.id).count()) == ("running", None, 0)
    assert not Model.objects.filter(workspace=job.workspace).exists()
    assert gpu.finish(job, body).status_code == 200


def test_a_failure_that_may_pass_is_tried_again_until_the_attempts_are_used_up(
    owner: Person, job: Job, gpu: Worker
) -> None:
    gpu.checkpoint(job)
    death = {"outcome": "failed", "error": "The child was killed.", "detail": "signal 9", "retriable": True}
    assert gpu.finish(job, death).json() == {"state": "queued", "version": None, "commit": None}
    last = JobEvent.objects.filter(job=job).latest("id")
    assert "The child was killed." in last.data["message"]
    assert "from its last checkpoint; 1 of 2 attempts left" in last.data["message"]
    assert gpu.claim(job).json()["spec"]["attempt"] == 2
    assert gpu.finish(job, death).json()["state"] == "failed"
    shown = owner.client.get(f"/api/v1/jobs/{job.id}").json()
    assert shown["error"] == "The child was killed. All 2 attempts are used up."
    assert (shown["attempt"], shown["failures"]) == (2, 2)
    assert Job.objects.get(pk=job.pk).error_detail == "signal 9"


def test_a_failure_of_its_own_is_final(owner: Person, job: Job, gpu: Worker) -> None:
    body = {"outcome": "failed", "error": "e" * 5000, "detail": "d" * 50_000}
    assert gpu.finish(job, body).json()["state"] == "failed"
    job.refresh_from_db()
    assert (len(job.error), len(job.error_detail)) == (2000, 20_000)
    assert (job.lease_digest, job.lease_expires_at) == ("", None)


def test_every_message_of_the_contract_fits(job: Job, gpu: Worker) -> None:
    """What the client's own models write is what the platform reads."""
    finish = Finish(outcome="failed", error="It broke.", retriable=False)
    assert gpu.finish(job, finish.model_dump(mode="json")).status_code == 200


# The job's token


def test_the_jobs_token_reads_its_rows(job: Job, gpu: Worker) -> None:
    reader = bearer(gpu.job_token)
    url = f"/api/v1/worker/jobs/{job.id}/splits/train"
    raw = content(reader.get(url))
    rows = [json.loads(line) for line in raw.splitlines()]
    spec = gpu.claim_answer["spec"]["dataset"]["train"]
    assert (len(rows), rows[0]["label"]) == (12, "billing")
    assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (spec["sha256"], spec["size"])
    part = reader.get(url, headers={"Range": "bytes=5-9"})
    assert (part.status_code, content(part)) == (206, raw[5:10])
    head = reader.head(url)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(raw)))
    where = json.loads(content(reader.get(f"{url}/lines")))
    assert (where["file"], len(where["lines"]), min(where["lines"])) == ("desk.csv", 12, 2)
    assert spec["lines"]["size"] == len(content(reader.get(f"{url}/lines")))
    for missing in ("test", "nonsense", "test/lines"):
        assert reader.get(f"/api/v1/worker/jobs/{job.id}/splits/{missing}").status_code == 404


def test_the_jobs_token_reads_nothing_else(owner: Person, job: Job, gpu: Worker) -> None:
    other, gpu_2 = queued_job(owner), worker("gpu-2")
    gpu_2.claim(other)
    file = gpu_2.uploaded(other, "checkpoint", b"secret")
    reader = bearer(gpu.job_token)
    assert reader.get(f"/api/v1/worker/jobs/{other.id}/splits/train").status_code == 404
    assert reader.get(f"/api/v1/worker/jobs/{other.id}/splits/train/lines").status_code == 404
    assert reader.get(f"/api/v1/worker/jobs/{other.id}/artifacts/{file['sha256']}").status_code == 404
    assert reader.get(f"/api/v1/worker/jobs/{job.id}/artifacts/{file['sha256']}").status_code == 404
    assert reader.get(f"/api/v1/worker/jobs/{job.id}/artifacts/{'0' * 64}").status_code == 404
    for url in ("jobs", f"jobs/{job.id}", "me/tokens", "tokens", "datasets", "audit"):
        assert reader.get(f"/api/v1/{url}").status_code in {403, 404}, url
    for url in ("splits/train", "splits/train/lines", f"artifacts/{file['sha256']}"):
        for client in (owner.client, gpu.client):
            assert client.get(f"/api/v1/worker/jobs/{job.id}/{url}").status_code == 403
        assert APIClient().get(f"/api/v1/worker/jobs/{job.id}/{url}").status_code == 401


def test_the_jobs_token_reads_its_base_model_alone(job: Job, gpu: Worker) -> None:
    base_model("another")
    token = ApiToken.objects.get(digest=ApiToken.hash(gpu.job_token))
    assert [model.repo_id for model in readable_models(actor_of_token(token))] == ["base/tiny-bert"]
    gpu.release(job)
    assert not readable_models(actor_of_token(token)).exists()


@pytest.mark.parametrize("end", ["release", "success", "failure"])
def test_the_jobs_token_ends_with_the_attempt(job: Job, gpu: Worker, end: str) -> None:
    reader, url = bearer(gpu.job_token), f"/api/v1/worker/jobs/{job.id}/splits/train"
    assert content(reader.get(url))
    if end == "release":
        gpu.release(job)
    else:
        gpu.finish(job, gpu.success(job) if end == "success" else {"outcome": "failed"})
    assert reader.get(url).status_code == 401


def test_the_jobs_token_outlives_an_outage_and_ends_at_last(job: Job, gpu: Worker) -> None:
    token = ApiToken.objects.get(kind=TokenKind.JOB, subject=job.id)
    job.refresh_from_db()
    assert job.lease_expires_at is not None and token.expires_at is not None
    assert timedelta(0) < token.expires_at - job.lease_expires_at <= timedelta(days=7)
    ApiToken.objects.filter(pk=token.pk).update(expires_at=datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=365))
    assert bearer(gpu.job_token).get(f"/api/v1/worker/jobs/{job.id}/splits/train").status_code == 401
