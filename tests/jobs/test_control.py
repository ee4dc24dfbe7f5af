"""Cancel, pause, resume, retry, the record, the report; and that another workspace sees none of it."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from hub.accounts.models import AuditEvent, Role, Webhook, WebhookDelivery
from jobs.models import Job, JobEvent
from tests.factories.accounts import Person, person
from tests.factories.jobs import Worker, event, queued_job, worker
from tests.workers.scripted.made import whole

pytestmark = pytest.mark.django_db


def act(who: Person, job: Job, what: str) -> dict[str, Any]:
    answer = who.client.post(f"/api/v1/jobs/{job.id}/{what}")
    assert answer.status_code == 200, answer.content
    shown: dict[str, Any] = answer.json()
    return shown


def running(owner: Person, **changes: Any) -> tuple[Job, Worker]:
    job, gpu = queued_job(owner, **changes), worker()
    assert gpu.claim(job).status_code == 200
    return job, gpu


def trail(owner: Person, job: Job) -> list[tuple[str, str]]:
    """(action, state) of the platform's entries."""
    events = owner.client.get(f"/api/v1/jobs/{job.id}/events").json()["events"]
    return [(item["data"]["action"], item["data"]["state"]) for item in events if item["attempt"] == 0]


def test_cancel_while_queued(owner: Person) -> None:
    job = queued_job(owner)
    shown = act(owner, job, "cancel")
    assert (shown["state"], shown["queue_position"], shown["waiting_for"]) == ("cancelled", None, None)
    assert shown["finished_at"]
    assert worker().claim(job).status_code == 409
    assert trail(owner, job) == [("submit", "queued"), ("cancel", "cancelled")]


def test_cancel_while_running(owner: Person) -> None:
    job, gpu = running(owner)
    assert gpu.heartbeat(job).json()["directive"] == "continue"
    assert act(owner, job, "cancel")["state"] == "cancelling"
    assert act(owner, job, "cancel")["state"] == "cancelling"
    assert gpu.heartbeat(job).json()["directive"] == "cancel"
    assert gpu.events(job, event(1)).json()["directive"] == "cancel"
    assert gpu.finish(job, {"outcome": "cancelled"}).json() == {"state": "cancelled", "version": None, "commit": None}
    assert trail(owner, job) == [
        ("submit", "queued"),
        ("claim", "running"),
        ("cancel", "cancelling"),
        ("stop", "cancelled"),
    ]


def test_a_success_that_comes_after_the_cancel_publishes_nothing(owner: Person) -> None:
    job, gpu = running(owner)
    body = gpu.success(job)
    act(owner, job, "cancel")
    assert gpu.finish(job, body).json() == {"state": "cancelled", "version": None, "commit": None}
    assert not owner.client.get("/api/v1/jobs?state=succeeded").json()["count"]
    assert Job.objects.get(pk=job.pk).version is None


def test_a_worker_cannot_cancel_by_itself(owner: Person) -> None:
    job, gpu = running(owner)
    answer = gpu.finish(job, {"outcome": "cancelled"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "wrong_state")
    assert gpu.heartbeat(job).status_code == 200


def test_pause_and_resume_while_queued(owner: Person) -> None:
    first, second = queued_job(owner), queued_job(owner)
    assert act(owner, first, "pause")["state"] == "paused"
    assert act(owner, first, "pause")["state"] == "paused"
    assert worker().next() == second.id
    assert act(owner, first, "resume")["queue_position"] == 2


def test_pause_and_resume_while_running(owner: Person) -> None:
    job, gpu = running(owner)
    shown = act(owner, job, "pause")
    assert (shown["state"], shown["pause_requested"]) == ("running", True)
    assert "checkpoint" in shown["message"]
    assert gpu.heartbeat(job).json()["directive"] == "pause"
    gpu.checkpoint(job, b"where it stopped", step=7)
    assert gpu.release(job, "paused").json() == {"state": "paused"}
    assert gpu.heartbeat(job).status_code == 409
    assert act(owner, job, "resume")["state"] == "queued"
    spec = worker("gpu-2").claim(job).json()["spec"]
    assert (spec["attempt"], spec["checkpoint"]["size"]) == (2, len(b"where it stopped"))
    job.refresh_from_db()
    assert (job.attempt, job.failures, job.pause_requested) == (2, 0, False)


def test_a_pause_taken_back_before_it_happened(owner: Person) -> None:
    job, gpu = running(owner)
    act(owner, job, "pause")
    assert act(owner, job, "resume")["pause_requested"] is False
    assert gpu.heartbeat(job).json()["directive"] == "continue"
    # The worker had stopped for the pause all the same: nobody wants the pause now, so the job is queued.
    assert gpu.release(job, "paused").json() == {"state": "queued"}


def test_a_pause_is_no_failed_attempt(owner: Person) -> None:
    job, gpu = running(owner)
    for _ in range(5):
        act(owner, job, "pause")
        gpu.release(job, "paused")
        act(owner, job, "resume")
        assert gpu.claim(job).status_code == 200
    assert gpu.release(job, "shutdown").json() == {"state": "queued"}
    assert gpu.claim(job).status_code == 200
    assert gpu.finish(job, {"outcome": "failed", "error": "Killed.", "retriable": True}).json()["state"] == "queued"
    job.refresh_from_db()
    assert (job.attempt, job.failures, job.max_attempts) == (7, 1, 2)


def test_retry_goes_on_from_the_checkpoint(owner: Person) -> None:
    job, gpu = running(owner)
    gpu.checkpoint(job)
    assert gpu.finish(job, {"outcome": "failed", "error": "The loss is not a number."}).json()["state"] == "failed"
    shown = owner.client.get(f"/api/v1/jobs/{job.id}").json()
    assert (shown["state"], shown["error"]) == ("failed", "The loss is not a number.")
    shown = act(owner, job, "retry")
    assert (shown["state"], shown["error"], shown["finished_at"], shown["max_attempts"]) == ("queued", "", None, 3)
    assert gpu.claim(job).json()["spec"]["checkpoint"] is not None
    assert gpu.finish(job, gpu.success(job)).json()["state"] == "succeeded"


def test_a_job_that_is_tried_again_has_as_many_attempts_as_a_new_one(owner: Person) -> None:
    job, gpu = running(owner)
    death = {"outcome": "failed", "error": "Killed.", "retriable": True}
    for _ in range(2):
        for state in ("queued", "failed"):
            assert gpu.finish(job, death).json()["state"] == state
            if state == "queued":
                gpu.claim(job)
        act(owner, job, "retry")
        gpu.claim(job)
    job.refresh_from_db()
    assert (job.failures, job.max_attempts) == (4, 6)


def test_actions_are_in_the_audit_log(owner: Person) -> None:
    job = queued_job(owner)
    for what in ("pause", "pause", "resume", "cancel"):
        act(owner, job, what)
    log = AuditEvent.objects.filter(object_id=str(job.id)).order_by("id")
    assert [item.action for item in log] == ["job.submitted", "job.paused", "job.resumed", "job.cancelled"]


@pytest.mark.parametrize("what", ["cancel", "pause", "resume", "retry"])
def test_a_viewer_may_not_steer(owner: Person, what: str) -> None:
    job = queued_job(owner)
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    assert viewer.client.post(f"/api/v1/jobs/{job.id}/{what}").status_code == 403
    assert viewer.client.get(f"/api/v1/jobs/{job.id}").json()["state"] == "queued"
    assert viewer.client.get(f"/api/v1/jobs/{job.id}/events").status_code == 200


ENDPOINTS = [
    ("get", ""),
    ("post", "/cancel"),
    ("post", "/pause"),
    ("post", "/resume"),
    ("post", "/retry"),
    ("get", "/events"),
    ("get", "/report"),
]


@pytest.mark.parametrize(("method", "what"), ENDPOINTS)
def test_other_workspaces_get_404(owner: Person, outsider: Person, node_token: str, method: str, what: str) -> None:
    job = queued_job(owner)
    url = f"/api/v1/jobs/{job.id}{what}"
    answer = getattr(outsider.client, method)(url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert getattr(APIClient(), method)(url).status_code == 401
    node = APIClient()
    node.credentials(HTTP_AUTHORIZATION=f"Bearer {node_token}")
    assert getattr(node, method)(url).status_code == 403
    job.refresh_from_db()
    assert (job.state, job.events.count()) == ("queued", 1)


@pytest.mark.parametrize("url", ["jobs", "estimates", "worker/next"])
def test_the_signed_out_get_401(url: str) -> None:
    assert APIClient().post(f"/api/v1/{url}", {}).status_code == 401


def test_the_record_is_paged_by_id_in_order(owner: Person) -> None:
    job, gpu = running(owner)
    other, gpu_2 = queued_job(owner), worker("gpu-2")
    gpu_2.claim(other)
    for seq in range(1, 8):  # two jobs' events interleave in the table
        assert gpu.events(job, event(seq, message=str(seq))).json()["accepted"] == 1
        assert gpu_2.events(other, event(seq, message=str(-seq))).json()["accepted"] == 1
    act(owner, job, "cancel")
    url = f"/api/v1/jobs/{job.id}/events"
    whole = owner.client.get(url).json()
    ids = [item["id"] for item in whole["events"]]
    assert ids == sorted(ids) and whole["last"] == ids[-1]
    assert [item["data"]["message"] for item in whole["events"]] == ["", "", *"1234567", ""]
    collected, after = [], 0
    while page := owner.client.get(f"{url}?after={after}&limit=3").json()["events"]:
        assert len(page) <= 3
        collected += page
        after = page[-1]["id"]
    assert collected == whole["events"]
    end = owner.client.get(f"{url}?after={after}").json()
    assert end == {"events": [], "last": after}
    for query in ("after=-1", "after=x", "limit=2001", f"after={10**30}", "after=%00", "limit="):
        assert owner.client.get(f"{url}?{query}").status_code == 400, query


def test_the_record_cannot_be_changed(owner: Person) -> None:
    """No route, and no line of the product, changes or deletes an entry."""
    job = queued_job(owner)
    url = f"/api/v1/jobs/{job.id}/events"
    for method in ("put", "patch", "delete", "post"):
        assert getattr(owner.client, method)(url, {}).status_code == 405
    entry = JobEvent.objects.get(job=job)
    assert owner.client.delete(f"{url}/{entry.id}").status_code == 404


def test_report(owner: Person) -> None:
    job, gpu = running(owner)
    answer = owner.client.get(f"/api/v1/jobs/{job.id}/report")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_report")
    gpu.finish(job, gpu.success(job) | {"report": (report := whole({"primary": "f1"}))})
    assert owner.client.get(f"/api/v1/jobs/{job.id}").json()["report_available"] is True
    assert owner.client.get(f"/api/v1/jobs/{job.id}/report").json() == report


def test_webhooks_hear_of_the_end(owner: Person) -> None:
    Webhook.objects.create(
        workspace=owner.workspace,
        url="https://hooks.example/jobs",
        events=["job.succeeded", "job.failed", "job.cancelled"],
        secret="s" * 32,
    )
    gpu = worker()
    done, broken, dropped = queued_job(owner), queued_job(owner), queued_job(owner)
    gpu.claim(done)
    gpu.finish(done, gpu.success(done))
    gpu.claim(broken)
    gpu.finish(broken, {"outcome": "failed", "error": "It broke."})
    act(owner, dropped, "cancel")
    heard = {item.event: item.payload for item in WebhookDelivery.objects.all()}
    assert set(heard) == {"job.succeeded", "job.failed", "job.cancelled"}
    assert heard["job.succeeded"]["version"] == "acme/first-try v1"
    assert (heard["job.failed"]["id"], heard["job.failed"]["error"]) == (str(broken.id), "It broke.")


def test_admin_shows_and_changes_nothing(owner: Person) -> None:
    job, gpu = running(owner)
    owner.user.is_staff = owner.user.is_superuser = True
    owner.user.save()
    browser = APIClient()
    browser.force_login(owner.user)
    assert browser.get("/admin/jobs/job/").status_code == 200
    page = browser.get(f"/admin/jobs/job/{job.id}/change/")
    assert page.status_code == 200
    assert Job.objects.get(pk=job.pk).lease_digest not in page.content.decode()
    assert browser.get("/admin/jobs/jobevent/").status_code == 200
    assert browser.post(f"/admin/jobs/job/{job.id}/delete/", {"post": "yes"}).status_code == 403
    assert gpu.heartbeat(job).status_code == 200
