"""The audit log: who sees it, what is in it, and that it cannot be changed."""

from __future__ import annotations

import pytest
from django.test import Client

from hub.accounts.actor import actor_of_user
from hub.accounts.models import AuditEvent, Role, User, Webhook
from hub.accounts.services.audit import record
from tests.factories.accounts import Person, person
from tests.factories.datasets import validated

pytestmark = pytest.mark.django_db
URL = "/api/v1/audit"


def test_owners_see_their_workspaces_events(owner: Person, outsider: Person) -> None:
    token = owner.client.post("/api/v1/tokens", {"name": "laptop"}).json()
    events = owner.client.get(URL, {"workspace": "acme"}).json()["results"]
    assert [(event["action"], event["actor"]) for event in events] == [("token.created", "olga")]
    assert events[0]["object_id"] == token["id"] and events[0]["data"]["name"] == "laptop"
    assert token["token"] not in str(events)
    assert outsider.client.get(URL).json()["count"] == 0
    assert outsider.client.get(URL, {"workspace": "acme"}).status_code == 404
    assert owner.client.get(URL, {"action": "token.revoked"}).json()["count"] == 0
    assert owner.client.get(f"{URL}?action=%00").status_code == 400


def test_editors_do_not_see_it(owner: Person) -> None:
    owner.client.post("/api/v1/tokens", {"name": "laptop"})
    editor = person("edda", workspace="acme", role=Role.EDITOR).client
    assert editor.get(URL).json()["count"] == 0
    assert editor.get(URL, {"workspace": "acme"}).status_code == 403


def test_superusers_see_what_concerns_no_workspace(owner: Person) -> None:
    record(actor=actor_of_user(owner.user), action="user.created", on=owner.user)
    assert owner.client.get(URL).json()["count"] == 0
    root = owner.signed_in(superuser=True)
    assert root.get(URL).json()["results"][0]["workspace"] is None
    assert owner.client.get(URL).json()["count"] == 0, "a token is one workspace's"


def test_nothing_in_the_api_changes_it(owner: Person) -> None:
    for method in ("post", "put", "patch", "delete"):
        assert getattr(owner.client, method)(URL, {}).status_code == 405


@pytest.mark.parametrize("model", ["user", "workspace", "apitoken", "auditevent", "webhook"])
def test_admin_pages_show_no_secret(owner: Person, client: Client, model: str) -> None:
    User.objects.filter(pk=owner.user.pk).update(is_superuser=True, is_staff=True)
    client.force_login(User.objects.get(pk=owner.user.pk))
    owner.client.post("/api/v1/tokens", {"name": "laptop"})
    webhook = Webhook.objects.create(
        workspace=owner.workspace, url="https://example.com", events=["job.failed"], secret="the-webhooks-secret"
    )
    first = {
        "user": owner.user.pk,
        "workspace": owner.workspace.pk,
        "apitoken": owner.user.tokens.first().pk,
        "auditevent": AuditEvent.objects.first().pk,
        "webhook": webhook.pk,
    }[model]
    for path in (f"/admin/accounts/{model}/", f"/admin/accounts/{model}/{first}/change/"):
        page = client.get(path)
        assert page.status_code == 200
        assert b"the-webhooks-secret" not in page.content
        assert owner.user.tokens.first().digest.encode() not in page.content


def test_dataset_admin_is_read_only(owner: Person, client: Client) -> None:
    User.objects.filter(pk=owner.user.pk).update(is_superuser=True, is_staff=True)
    client.force_login(User.objects.get(pk=owner.user.pk))
    dataset = validated(owner)
    assert client.get("/admin/datasets/dataset/").status_code == 200
    assert client.get(f"/admin/datasets/dataset/{dataset.pk}/change/").status_code == 200
    assert client.post(f"/admin/datasets/dataset/{dataset.pk}/delete/").status_code == 403
