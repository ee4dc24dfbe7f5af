"""Workspaces, members, roles and users."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from hub.accounts.models import AuditEvent, Membership, Role, User
from tests.factories.accounts import Person, bearer, person

pytestmark = pytest.mark.django_db
URL = "/api/v1/workspaces"


def test_make_list_and_rename(owner: Person) -> None:
    browser = APIClient()
    browser.force_login(owner.user)
    made = browser.post(URL, {"slug": "lab-2", "name": "Second lab"})
    assert made.status_code == 201 and made.json()["role"] == "owner"
    listed = browser.get(URL).json()
    assert [(item["slug"], item["role"]) for item in listed["results"]] == [("acme", "owner"), ("lab-2", "owner")]
    assert browser.patch(f"{URL}/lab-2", {"name": "Renamed"}).json()["name"] == "Renamed"
    assert browser.patch(f"{URL}/lab-2", {"name": ""}).status_code == 400
    assert browser.post(URL, {"slug": "lab-2"}).status_code == 409
    for slug in ("base", "api", "models"):
        assert browser.post(URL, {"slug": slug}).status_code == 409
    for slug in ("UPPER", "-x", "x" * 40, "", "a/b"):
        assert browser.post(URL, {"slug": slug}).status_code == 400


def test_a_limited_token_stays_in_its_workspace(owner: Person) -> None:
    weak = bearer(owner.client.post("/api/v1/tokens", {"name": "w", "role": "editor"}).json()["token"])
    assert weak.post(URL, {"slug": "mine"}).status_code == 403
    assert weak.patch(f"{URL}/acme", {"name": "x"}).status_code == 403


def test_members(owner: Person, outsider: Person) -> None:
    url = f"{URL}/acme/members"
    added = owner.client.post(url, {"username": "oscar", "role": "editor"})
    assert added.status_code == 201 and added.json()["role"] == "editor"
    assert owner.client.post(url, {"username": "oscar", "role": "viewer"}).status_code == 409
    assert owner.client.post(url, {"username": "nobody", "role": "viewer"}).status_code == 404
    assert owner.client.post(url, {"username": "oscar", "role": "king"}).status_code == 400
    assert [item["username"] for item in owner.client.get(url).json()["results"]] == ["olga", "oscar"]
    assert owner.client.patch(f"{url}/oscar", {"role": "viewer"}).json()["role"] == "viewer"
    assert owner.client.patch(f"{url}/nobody", {"role": "viewer"}).status_code == 404
    assert owner.client.delete(f"{url}/oscar").status_code == 204
    assert AuditEvent.objects.filter(action__startswith="member.").count() == 3


def test_the_last_owner_stays(owner: Person) -> None:
    url = f"{URL}/acme/members"
    assert owner.client.delete(f"{url}/olga").status_code == 409
    assert owner.client.patch(f"{url}/olga", {"role": "editor"}).status_code == 409
    person("bea", workspace="acme")
    assert owner.client.patch(f"{url}/olga", {"role": "editor"}).status_code == 200
    bea = Membership.objects.get(user__username="bea")
    assert bea.role == Role.OWNER


def test_the_members_are_searched_filtered_and_ordered(owner: Person) -> None:
    url = f"{URL}/acme/members"
    for name, role in (("zoe", "editor"), ("carl", "viewer")):
        person(name, workspace=f"{name}s")
        assert owner.client.post(url, {"username": name, "role": role}).status_code == 201

    def names(query: str) -> list[str]:
        return [member["username"] for member in owner.client.get(f"{url}?{query}").json()["results"]]

    assert names("") == sorted(names("")) and len(names("")) == 3
    assert names("ordering=-user__username") == sorted(names(""), reverse=True)
    assert names("ordering=-created_at")[:2] == ["carl", "zoe"]
    assert names("role=editor") == names("search=ZO") == ["zoe"]
    assert owner.client.get(f"{url}?role=king").status_code == 400


def test_roles_of_members(owner: Person) -> None:
    url = f"{URL}/acme/members"
    editor = person("edda", workspace="acme", role=Role.EDITOR)
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    assert viewer.client.get(url).status_code == 200
    assert editor.client.post(url, {"username": "vera", "role": "owner"}).status_code == 403
    assert editor.client.patch(f"{url}/edda", {"role": "owner"}).status_code == 403
    assert editor.client.delete(f"{url}/vera").status_code == 403
    browser = APIClient()
    browser.force_login(viewer.user)
    assert browser.delete(f"{url}/vera").status_code == 204
    assert browser.get(url).status_code == 404


def test_whoever_is_taken_out_loses_the_tokens(owner: Person) -> None:
    editor = person("edda", workspace="acme", role=Role.EDITOR)
    owner.client.delete(f"{URL}/acme/members/edda")
    assert editor.client.get("/api/v1/me").status_code == 401
    owner.client.post(f"{URL}/acme/members", {"username": "edda", "role": "editor"})
    assert editor.client.get("/api/v1/me").status_code == 401


def test_another_workspace_gets_404(owner: Person, outsider: Person) -> None:
    client = outsider.client
    assert client.patch(f"{URL}/acme", {"name": "mine"}).status_code == 404
    assert client.get(f"{URL}/acme/members").status_code == 404
    assert client.post(f"{URL}/acme/members", {"username": "oscar", "role": "owner"}).status_code == 404
    assert client.patch(f"{URL}/acme/members/olga", {"role": "viewer"}).status_code == 404
    assert client.delete(f"{URL}/acme/members/olga").status_code == 404
    assert client.get(f"{URL}/acme/members/%00").status_code == 404


def test_superusers_make_users_but_see_no_foreign_workspace(owner: Person) -> None:
    url = "/api/v1/users"
    new = {"username": "nina", "password": "a long enough phrase", "email": "nina@example.com"}
    assert owner.client.post(url, new).status_code == 403
    root = person("root", workspace="ops")
    browser = root.signed_in(superuser=True)
    assert root.client.post(url, new).status_code == 403, "a token is one workspace's"
    made = browser.post(url, new)
    assert made.status_code == 201 and made.json()["username"] == "nina" and "password" not in made.json()
    assert not User.objects.get(username="nina").is_superuser
    assert browser.post(url, new | {"username": "NINA"}).status_code == 409
    assert browser.post(url, new | {"username": "x", "password": "short"}).status_code == 400
    assert browser.post(url, new | {"username": "x", "email": "not an address"}).status_code == 400
    assert browser.get(f"{URL}/acme/members").status_code == 404
    weak = bearer(root.client.post("/api/v1/tokens", {"name": "w", "role": "viewer"}).json()["token"])
    assert weak.post(url, new | {"username": "y"}).status_code == 403
