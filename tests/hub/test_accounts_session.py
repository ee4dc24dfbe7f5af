"""Set-up, sign-in, sign-out and who one is."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from hub.accounts.models import AuditEvent, User, Workspace
from hub.accounts.services.tokens import issue_token
from hub.accounts.throttles import SignInThrottle
from tests.factories.accounts import Person, bearer

pytestmark = pytest.mark.django_db

FIRST = {"code": "let-me-in", "username": "ada", "password": "a long enough phrase", "workspace": "lab"}


def test_setup_makes_the_first_owner_and_signs_in(api: APIClient) -> None:
    assert api.get("/api/v1/setup").json() == {"needed": True, "enabled": True}
    answer = api.post("/api/v1/setup", FIRST | {"workspace_name": "The Lab"})
    assert answer.status_code == 201, answer.json()
    me = answer.json()
    assert me["user"]["username"] == "ada" and me["user"]["is_superuser"] and me["kind"] == "user"
    assert me["workspaces"] == [{"slug": "lab", "name": "The Lab", "role": "owner"}]
    assert api.get("/api/v1/setup").json()["needed"] is False
    assert api.get("/api/v1/me").json()["user"]["username"] == "ada"
    assert AuditEvent.objects.filter(action="installation.set_up", actor="ada").count() == 1


def test_setup_happens_once(api: APIClient) -> None:
    api.post("/api/v1/setup", FIRST)
    again = APIClient().post("/api/v1/setup", FIRST | {"username": "eve", "workspace": "evil"})
    assert again.status_code == 409 and again.json()["error"]["code"] == "conflict"
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"code": "wrong"}, 403, "code is wrong"),
        ({"code": "wröng"}, 403, "code is wrong"),
        ({"password": "short"}, 400, "password"),
        ({"workspace": "Not A Slug"}, 400, "workspace"),
        ({"workspace": "base"}, 409, "taken"),
        ({"username": "no spaces please"}, 400, "username"),
        ({"username": "nul\0"}, 400, "NUL"),
    ],
)
def test_setup_refuses(api: APIClient, change: dict[str, str], status: int, words: str) -> None:
    answer = api.post("/api/v1/setup", FIRST | change)
    assert answer.status_code == status and words in answer.json()["error"]["message"]
    assert not User.objects.exists() and not Workspace.objects.exists()


def test_setup_can_be_switched_off(api: APIClient, settings) -> None:
    settings.SETUP_CODE = ""
    assert api.get("/api/v1/setup").json() == {"needed": True, "enabled": False}
    assert api.post("/api/v1/setup", FIRST | {"code": " "}).status_code == 400
    assert api.post("/api/v1/setup", FIRST).status_code == 403


def test_a_session_from_sign_in_to_sign_out(owner: Person) -> None:
    browser = APIClient(enforce_csrf_checks=True)
    assert browser.get("/api/v1/me").status_code == 401
    answer = browser.post("/api/v1/session", {"username": "olga", "password": "correct horse battery"})
    assert answer.status_code == 200
    csrf = answer.json()["csrf_token"]
    refused = browser.post("/api/v1/tokens", {"name": "x"})
    assert refused.status_code == 403 and "CSRF" in refused.json()["error"]["message"]
    assert browser.post("/api/v1/tokens", {"name": "x"}, HTTP_X_CSRFTOKEN=csrf).status_code == 201
    assert browser.delete("/api/v1/session").status_code == 403
    assert browser.delete("/api/v1/session", HTTP_X_CSRFTOKEN=csrf).status_code == 204
    assert browser.get("/api/v1/me").status_code == 401


def test_sign_in_refuses_a_wrong_password_and_forms(api: APIClient, owner: Person) -> None:
    wrong = api.post("/api/v1/session", {"username": "olga", "password": "wrong"})
    assert wrong.status_code == 401 and "wrong" in wrong.json()["error"]["message"]
    form = api.post("/api/v1/session", {"username": "olga", "password": "correct horse battery"}, format="multipart")
    assert form.status_code == 415
    owner.user.is_active = False
    owner.user.save()
    assert api.post("/api/v1/session", {"username": "olga", "password": "correct horse battery"}).status_code == 401


def test_sign_in_is_throttled(api: APIClient, owner: Person, monkeypatch) -> None:
    from hub.accounts.throttles import SignInThrottle

    monkeypatch.setattr(SignInThrottle, "THROTTLE_RATES", {"sign_in": "2/min"})
    codes = []
    for _ in range(3):
        answer = api.post("/api/v1/session", {"username": "olga", "password": "?"}, REMOTE_ADDR="203.0.113.77")
        codes.append(answer.status_code)
    assert codes == [401, 401, 429] and int(answer["Retry-After"]) > 0
    assert answer.json()["error"]["code"] == "throttled"


def test_me_for_tokens(owner: Person, node_token: str) -> None:
    me = owner.client.get("/api/v1/me").json()
    assert me["csrf_token"] is None and me["workspaces"] == [{"slug": "acme", "name": "Acme", "role": "owner"}]
    node = bearer(node_token).get("/api/v1/me").json()
    assert node == {"user": None, "kind": "worker", "workspaces": [], "csrf_token": None}


def test_change_password(owner: Person) -> None:
    browser = APIClient()
    browser.force_login(owner.user)
    body = {"current_password": "correct horse battery", "new_password": "another long phrase"}
    assert browser.put("/api/v1/me/password", body | {"current_password": "no"}).status_code == 403
    assert browser.put("/api/v1/me/password", body | {"new_password": "123"}).status_code == 400
    assert owner.client.put("/api/v1/me/password", body).status_code == 403
    assert browser.put("/api/v1/me/password", body).status_code == 204
    assert browser.get("/api/v1/me").status_code == 200
    owner.user.refresh_from_db()
    assert owner.user.check_password("another long phrase")


def test_token_use_is_noted(owner: Person) -> None:
    token = owner.user.tokens.get()
    assert token.last_used_at is None
    owner.client.get("/api/v1/me")
    token.refresh_from_db()
    assert token.last_used_at is not None


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Bearer sw_u_unknown", "Bearer \xff"])
def test_bad_authorization_headers(api: APIClient, header: str) -> None:
    answer = api.get("/api/v1/me", HTTP_AUTHORIZATION=header)
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "authentication_failed"
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_job_tokens_are_not_people(owner: Person, db: None) -> None:
    import uuid

    _, secret = issue_token(kind="job", name="j", workspace=owner.workspace, subject=uuid.uuid4())  # type: ignore[arg-type]
    assert bearer(secret).get("/api/v1/me").json()["kind"] == "job"
    assert bearer(secret).get("/api/v1/tokens").status_code == 403


def test_the_admins_sign_in_is_throttled_with_the_apis(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignInThrottle, "THROTTLE_RATES", {"sign_in": "3/min"})
    guess = {"username": "olga", "password": "guess"}
    api, page = APIClient(REMOTE_ADDR="198.51.100.7"), Client(REMOTE_ADDR="198.51.100.7")
    for client, path, status in ((api, "/api/v1/session", 401), (page, "/admin/login/", 200)) * 2:
        answer: Any = client.post(path, guess)
        if client is page and answer.status_code == 429:
            break
        assert answer.status_code == status
    else:
        pytest.fail("the fourth attempt was let through")
    assert api.post("/api/v1/session", guess).status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert page.get("/admin/login/").status_code == 200


@pytest.mark.parametrize("path", ["session", "setup"])
def test_what_anybody_may_send_is_small(api: APIClient, path: str) -> None:
    """Refused by its length alone: else made-up callers hold a thread each with bodies that never come."""
    answer = api.post(f"/api/v1/{path}", {"username": "x" * 70_000, "password": "y"})
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
