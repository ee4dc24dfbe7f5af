"""API tokens: who may make which, what they reach, and how they end."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from hub.accounts.models import ApiToken, AuditEvent, Membership, Role, TokenKind
from hub.accounts.services.tokens import issue_token
from tests.factories.accounts import Person, bearer, person

pytestmark = pytest.mark.django_db
URL = "/api/v1/tokens"


def test_a_token_is_shown_once_and_stored_hashed(owner: Person) -> None:
    answer = owner.client.post(URL, {"name": "laptop"})
    assert answer.status_code == 201
    body = answer.json()
    secret = body["token"]
    assert secret.startswith("sw_u_") and len(secret) > 40 and body["prefix"] == secret[:12]
    assert (body["kind"], body["workspace"], body["role"]) == ("user", "acme", "owner")
    row = ApiToken.objects.get(pk=body["id"])
    assert secret not in str(row.__dict__.values()) and row.digest == ApiToken.hash(secret)
    listed = owner.client.get(URL).json()["results"]
    assert all("token" not in item and "digest" not in item for item in listed)
    assert bearer(secret).get("/api/v1/me").status_code == 200
    assert AuditEvent.objects.filter(action="token.created", object_id=body["id"]).exists()


def test_revoke(owner: Person) -> None:
    body = owner.client.post(URL, {"name": "laptop"}).json()
    assert owner.client.delete(f"{URL}/{body['id']}").status_code == 204
    assert bearer(body["token"]).get("/api/v1/me").status_code == 401
    assert owner.client.delete(f"{URL}/{body['id']}").status_code == 404
    assert body["id"] not in [item["id"] for item in owner.client.get(URL).json()["results"]]


def test_expiry(owner: Person) -> None:
    past = (timezone.now() - timedelta(minutes=1)).isoformat()
    assert owner.client.post(URL, {"name": "x", "expires_at": past}).status_code == 400
    later = (timezone.now() + timedelta(minutes=5)).isoformat()
    body = owner.client.post(URL, {"name": "x", "expires_at": later}).json()
    assert bearer(body["token"]).get("/api/v1/me").status_code == 200
    child = bearer(body["token"]).post(URL, {"name": "child"}).json()
    assert child["expires_at"] == body["expires_at"]
    ApiToken.objects.filter(pk=body["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert bearer(body["token"]).get("/api/v1/me").status_code == 401


def test_a_token_cannot_make_or_end_a_stronger_one(owner: Person) -> None:
    weak = owner.client.post(URL, {"name": "weak", "role": "viewer"}).json()
    client = bearer(weak["token"])
    assert client.get("/api/v1/me").json()["workspaces"][0]["role"] == "viewer"
    assert client.post(URL, {"name": "strong", "role": "owner"}).status_code == 403
    assert client.post(URL, {"name": "same"}).json()["role"] == "viewer"
    assert client.post(URL, {"name": "node", "kind": "worker"}).status_code == 403
    mine = owner.user.tokens.get(name="test")
    assert client.delete(f"{URL}/{mine.id}").status_code == 403
    assert client.delete(f"{URL}/{weak['id']}").status_code == 204


def test_a_token_never_outranks_the_membership(owner: Person) -> None:
    person("bea", workspace="acme")
    body = owner.client.post(URL, {"name": "mine", "role": "owner"}).json()
    Membership.objects.filter(user=owner.user).update(role=Role.VIEWER)
    assert bearer(body["token"]).get("/api/v1/me").json()["workspaces"][0]["role"] == "viewer"
    Membership.objects.filter(user=owner.user).delete()
    assert bearer(body["token"]).get("/api/v1/me").json()["workspaces"] == []
    owner.user.is_active = False
    owner.user.save()
    assert bearer(body["token"]).get("/api/v1/me").status_code == 401


@pytest.mark.parametrize(("kind", "prefix"), [("worker", "sw_w_"), ("serve", "sw_s_")])
def test_node_tokens(owner: Person, outsider: Person, kind: str, prefix: str) -> None:
    body = owner.client.post(URL, {"name": "gpu-1", "kind": kind}).json()
    assert body["token"].startswith(prefix) and body["workspace"] == "acme"
    assert bearer(body["token"]).get("/api/v1/me").json()["kind"] == kind
    assert bearer(body["token"]).get(URL).status_code == 403
    assert (
        person("edda", workspace="acme", role=Role.EDITOR).client.post(URL, {"name": "n", "kind": kind}).status_code
        == 403
    )
    assert body["id"] not in [item["id"] for item in outsider.client.get(URL).json()["results"]]
    assert outsider.client.delete(f"{URL}/{body['id']}").status_code == 404
    assert owner.client.delete(f"{URL}/{body['id']}").status_code == 204


def test_installation_wide_node_tokens_are_for_superusers(owner: Person) -> None:
    wish = {"name": "gpu-1", "kind": "serve", "workspace": None}
    assert owner.client.post(URL, wish).status_code == 403
    root = owner.signed_in(superuser=True)
    assert owner.client.post(URL, wish).status_code == 403, "a token is one workspace's"
    body = root.post(URL, wish).json()
    assert body["workspace"] is None
    assert body["id"] in [item["id"] for item in root.get(URL).json()["results"]]
    weak = bearer(owner.client.post(URL, {"name": "weak", "role": "editor"}).json()["token"])
    assert weak.post(URL, wish).status_code == 403
    assert weak.delete(f"{URL}/{body['id']}").status_code == 404
    assert root.delete(f"{URL}/{body['id']}").status_code == 204
    assert owner.client.post(URL, {"name": "x", "workspace": None}).status_code == 201  # one's only workspace


def test_job_tokens_cannot_be_made_by_people(owner: Person) -> None:
    assert owner.client.post(URL, {"name": "x", "kind": "job"}).status_code == 400


def test_another_workspace_gets_404(owner: Person, outsider: Person) -> None:
    token = owner.user.tokens.get()
    assert outsider.client.delete(f"{URL}/{token.id}").status_code == 404
    assert outsider.client.post(URL, {"name": "x", "workspace": "acme"}).status_code == 404
    # A member of the same workspace neither sees nor ends another one's token.
    colleague = person("carl", workspace="acme").client
    assert colleague.delete(f"{URL}/{token.id}").status_code == 404
    assert str(token.id) not in [item["id"] for item in colleague.get(URL).json()["results"]]


def test_several_workspaces_need_a_name(owner: Person) -> None:
    browser = APIClient()
    browser.force_login(owner.user)
    browser.post("/api/v1/workspaces", {"slug": "second"})
    answer = browser.post(URL, {"name": "x"})
    assert answer.status_code == 400 and answer.json()["error"]["details"] == [
        {"field": "workspace", "message": "required"}
    ]
    assert browser.post(URL, {"name": "x", "workspace": "second"}).json()["workspace"] == "second"
    for odd in (["second"], {"a": 1}, 5, "no such", "x\0y", "second\n"):
        assert browser.post(URL, {"name": "x", "workspace": odd}).status_code in {400, 404}
    assert browser.get(f"{URL}?workspace=%00").status_code in {200, 404}


def test_node_token_command_replaces_the_former(db: None) -> None:
    def make(role: str) -> str:
        out = StringIO()
        call_command("node_token", "--name", "demo", "--role", role, stdout=out)
        return out.getvalue().strip()

    first, second = make("worker"), make("serve")
    assert first != second and first.startswith("sw_w_")
    assert bearer(first).get("/api/v1/me").status_code == 401
    assert bearer(second).get("/api/v1/me").json()["kind"] == "serve"
    with pytest.raises(CommandError, match="--role"):
        call_command("node_token", "--name", "demo")


@pytest.mark.parametrize("kind", [TokenKind.USER, TokenKind.JOB])
def test_the_database_refuses_tokens_that_stand_for_nobody(kind: TokenKind) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        issue_token(kind=kind, name="x", subject=uuid4() if kind == TokenKind.USER else None)


def test_the_list_is_searched_filtered_and_ordered(owner: Person) -> None:
    for name, kind in (("laptop", "user"), ("edge", "serve")):
        assert owner.client.post("/api/v1/tokens", {"name": name, "kind": kind, "workspace": "acme"}).status_code == 201

    def names(query: str) -> list[str]:
        return [item["name"] for item in owner.client.get(f"/api/v1/tokens?{query}").json()["results"]]

    assert names("usable_in=acme&ordering=name") == ["edge", "laptop", "test"]
    assert names("kind=serve") == ["edge"]
    assert names("search=LAP") == ["laptop"]
    assert names("usable_in=elsewhere") == []
