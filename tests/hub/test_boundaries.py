"""Every endpoint against every kind of caller, from the table of addresses itself: a new endpoint is in by itself.

The world is one workspace with one of each object. Whoever does not belong to it gets 404 and changes nothing; a
viewer changes nothing either; nobody is answered with a 500. A parameter of an address for which the world has no
object fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.permissions import AllowAny
from rest_framework.test import APIClient
from rest_framework.views import APIView

from hub.accounts.actor import actor_of_user
from hub.accounts.models import ApiToken, Role
from hub.accounts.permissions import IsMember
from hub.datasets.services import uploads
from hub.registry.services import aliases
from jobs.models import Job
from tests.factories.accounts import Person, bearer, node_secret, person, predict_secret
from tests.factories.datasets import validated
from tests.factories.jobs import queued_job, worker
from tests.factories.registry import published
from tests.factories.serving import serving_node

pytestmark = pytest.mark.django_db

METHODS = ("get", "post", "put", "patch", "delete")
VOLATILE = {"last_login", "last_used_at", "last_seen_at", "expires_at", "rung_at", "due_at", "load"}
"""Columns that change by being asked, or with time."""


@dataclass(frozen=True)
class Endpoint:
    route: str
    method: str
    view: type[APIView]

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"<(?:\w+:)?(\w+)>", self.route)

    def open_to_all(self) -> bool:
        view = self.view()
        view.request = type("Request", (), {"method": self.method.upper()})()
        return any(isinstance(permission, AllowAny) for permission in view.get_permissions())

    def for_people(self) -> bool:
        view = self.view()
        view.request = type("Request", (), {"method": self.method.upper()})()
        return any(isinstance(permission, IsMember) for permission in view.get_permissions())

    def address(self, values: dict[str, Any]) -> str:
        missing = [name for name in self.parameters if name not in values]
        assert not missing, f"{self.route}: the world of this test has no {missing}"
        return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), self.route)


def _plain(pattern: str) -> str:
    """The route of a pattern, a regular expression's named groups written as parameters."""
    text = re.sub(r"^\^|\\Z$|\$$", "", pattern)
    text = re.sub(r"\(\?:/\(\?P<(\w+)>[^)]*\)\)\?", r"/<\1>", text)
    return re.sub(r"\(\?P<(\w+)>(?:[^()\[\]]|\[[^\]]*\])*\)", r"<\1>", text)


def _endpoints(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[Endpoint]:
    for pattern in patterns:
        route = before + _plain(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _endpoints(pattern.url_patterns, route)
            continue
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        if view is None or not issubclass(view, APIView):
            assert not route.startswith(("api/v1/", "hf/")), f"{route} is no APIView: nothing here would ask it"
        elif not view.__module__.startswith("drf_spectacular"):
            yield from (Endpoint(route, method, view) for method in METHODS if hasattr(view, method))


ENDPOINTS = list(_endpoints(get_resolver().url_patterns))
OF_OBJECTS = [found for found in ENDPOINTS if found.parameters]


@dataclass
class World:
    owner: Person
    values: dict[str, Any]
    job_token: str


@pytest.fixture
def world(owner: Person) -> World:
    actor = actor_of_user(owner.user)
    version = published(owner.workspace, "sst2")
    aliases.move_alias(actor=actor, model=version.model, name="production", version=version)
    dataset = validated(owner)
    gpu = worker("gpu-1")
    job: Job = queued_job(owner)
    assert gpu.claim(job).status_code == 200
    sha256 = gpu.uploaded(job, "a file of the job", b"content")["sha256"]
    node = serving_node("edge", workspace=owner.workspace)
    body = {"workspace": "acme", "name": "desk", "model": "acme/sst2", "revision": "production"}
    deployment = owner.client.post("/api/v1/deployments", body).json()
    hook = {"url": "https://93.184.216.34/hook", "events": ["job.failed"]}
    webhook = owner.client.post("/api/v1/webhooks", hook).json()
    upload = uploads.begin_upload(actor=actor, workspace=owner.workspace, name="rows.csv", size=10)
    token: ApiToken = ApiToken.objects.get(user=owner.user)
    values = {
        "dataset_id": dataset.id,
        "job_id": job.id,
        "deployment_id": deployment["id"],
        "node_id": node.id,
        "token_id": token.id,
        "upload_id": upload.id,
        "webhook_id": webhook["id"],
        "slug": "acme",
        "username": "olga",
        "namespace": "acme",
        "name": "sst2",
        "alias": "production",
        "number": 1,
        "path": "config.json",
        "revision": "main",
        "rest": "nowhere",
        "sha256": sha256,
        "split": "train",
    }
    return World(owner, values, gpu.job_token)


def rows(*, but: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    """Everything in the database that is ours, without what changes by being asked."""
    found = {}
    for model in apps.get_models():
        if model._meta.app_label in {"accounts", "datasets", "registry", "serving", "jobs"}:
            if model.__name__ in but:
                continue
            columns = [field.attname for field in model._meta.concrete_fields if field.attname not in VOLATILE]
            found[model.__name__] = list(model._base_manager.order_by("pk").values(*columns))
    return found


def ask(client: APIClient, endpoint: Endpoint, world: World) -> int:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}  # without them an upload's address looks no further
    return int(getattr(client, endpoint.method)(endpoint.address(world.values), {}, headers=tus).status_code)


def test_the_table_is_read() -> None:
    assert len(ENDPOINTS) > 80 and len(OF_OBJECTS) > 40
    assert {endpoint.method for endpoint in ENDPOINTS} == set(METHODS)


def test_another_workspace_gets_404_and_changes_nothing(world: World, outsider: Person) -> None:
    before = rows()
    wrong = {}
    for client in (outsider.client, outsider.signed_in()):
        for endpoint in OF_OBJECTS:
            status = ask(client, endpoint, world)
            # The Hub's clients know 401 too, for a repository that may be private.
            allowed = {401, 404} if endpoint.route.startswith("hf/") else {404} if endpoint.for_people() else {403, 404}
            if status not in allowed:
                wrong[f"{endpoint.method} {endpoint.route}"] = status
    assert not wrong
    assert rows() == before


def test_the_anonymous_get_401_and_change_nothing(world: World) -> None:
    before = rows()
    wrong = {}
    for endpoint in ENDPOINTS:
        status = ask(APIClient(), endpoint, world)
        if status != 401 and not (endpoint.open_to_all() and status < 500):
            wrong[f"{endpoint.method} {endpoint.route}"] = status
    assert not wrong
    assert rows() == before


OTHERS: dict[str, Callable[[World, Person], str]] = {
    "a worker's token": lambda world, outsider: node_secret("w", workspace=outsider.workspace),
    "a serving node's token": lambda world, outsider: node_secret("s", workspace=outsider.workspace, kind="serve"),
    "a predict token": lambda world, outsider: predict_secret(world.owner),
    "another job's token": lambda world, outsider: _other_job(outsider),
}


def _other_job(outsider: Person) -> str:
    gpu = worker("gpu-2")
    assert gpu.claim(queued_job(outsider)).status_code == 200
    return gpu.job_token


@pytest.mark.parametrize("kind", OTHERS)
def test_no_other_kind_of_token_reaches_the_world(world: World, outsider: Person, kind: str) -> None:
    client = bearer(OTHERS[kind](world, outsider))
    before = rows()
    wrong = {}
    for endpoint in OF_OBJECTS:
        status = ask(client, endpoint, world)
        # 400: a node's own address that says what is wrong with an empty message, before it looks at any object.
        if status not in {400, 401, 403, 404}:
            wrong[f"{endpoint.method} {endpoint.route}"] = status
    assert not wrong
    assert rows() == before


def test_a_viewer_changes_nothing(world: World) -> None:
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    before = rows(but=("ApiToken", "AuditEvent"))
    wrong = {}
    for endpoint in ENDPOINTS:
        if "session" in endpoint.route:  # it ends the browser's session, which the other requests need
            continue
        for client in (viewer.client, viewer.signed_in()):
            status = ask(client, endpoint, world)
            if status >= 500 and status != 502:  # 502: no serving node runs here that could answer
                wrong[f"{endpoint.method} {endpoint.route}"] = status
    assert not wrong
    assert rows(but=("ApiToken", "AuditEvent")) == before
    assert not ApiToken.objects.filter(user=viewer.user).exclude(role=Role.VIEWER).exists()


def test_an_owner_is_never_answered_with_a_500(world: World) -> None:
    """What is deleted on the way is gone for what comes after, which must say so."""
    browser = world.owner.signed_in()
    wrong = {}
    for endpoint in sorted(ENDPOINTS, key=lambda endpoint: METHODS.index(endpoint.method)):
        if "session" not in endpoint.route and (status := ask(browser, endpoint, world)) >= 500 and status != 502:
            wrong[f"{endpoint.method} {endpoint.route}"] = status
    assert not wrong
