"""The OpenAPI document: complete, without warnings, as committed; and the API holds what it says, whatever is sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings as django_settings
from django.core.management import call_command
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern
from django.utils import translation
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.views import APIView

from config.wsgi import application
from hub.accounts.models import Role, User
from tests.factories.accounts import Person, node_secret, person, predict_secret
from tests.factories.datasets import validated
from tests.factories.jobs import queued_job, worker

SNAPSHOT = Path(django_settings.BASE_DIR) / "frontend" / "openapi.yaml"
# Sessions and passwords end the very sign-in that the other requests need.
APART = {("delete", "/api/v1/session"), ("put", "/api/v1/me/password")}


@cache
def generated() -> str:
    out = StringIO()
    with translation.override("en"):  # a request of another test leaves its language in the thread
        call_command("spectacular", "--validate", "--fail-on-warn", stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(generated())
    return found


def test_the_snapshot_is_up_to_date() -> None:
    assert SNAPSHOT.read_text() == generated(), "Run: make schema"


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    ]


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation.get("description"), f"{where} has no description"
        assert "_" not in operation["operationId"], f"{where} has a generated operationId"
        assert set(operation["tags"]) <= {"accounts", "datasets", "jobs", "registry", "serving", "worker", "node"}, (
            where
        )
        reference = operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
        assert reference == "#/components/schemas/Error", where


def api_views(patterns: list[URLPattern | URLResolver], prefix: str = "") -> set[str]:
    """The routes below /api/v1 that lead to views of ours."""
    found: set[str] = set()
    for pattern in patterns:
        route = prefix + (pattern.pattern._route if isinstance(pattern.pattern, RoutePattern) else str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            found |= api_views(pattern.url_patterns, route)
            continue
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        ours = view is not None and issubclass(view, APIView) and "spectacular" not in view.__module__
        if ours and route.startswith("api/v1/"):
            found.add(route)
    return found


def test_no_endpoint_is_missing(document: dict[str, Any]) -> None:
    routes = api_views(get_resolver().url_patterns)
    assert len(routes) > 20 and len(document["paths"]) == len(routes), sorted(routes)


def send_examples(operation: Any, headers: dict[str, str], known: dict[str, str], examples: int) -> None:
    """Requests that fit the operation's description, half of them to objects that exist."""
    from schemathesis.checks import not_a_server_error

    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def send(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy())
        if data.draw(st.booleans()) and operation.method != "delete":
            case.path_parameters.update({name: value for name, value in known.items() if name in case.path_parameters})
        answer = case.call(headers=headers)
        case.validate_response(answer, checks=[not_a_server_error])
        if answer.status_code >= 400 and case.path.startswith("/api/"):
            where = f"{case.method} {case.path}: {answer.status_code} {answer.text[:200]}"
            assert answer.headers["content-type"] == ["application/json"], where
            assert set(answer.json()) == {"error"}, where

    send()


def _job_secret(owner: Person) -> str:
    gpu = worker("gpu-1")
    assert gpu.claim(queued_job(owner)).status_code == 200
    return gpu.job_token


CALLERS: dict[str, Callable[[Person], str]] = {
    "an owner": lambda owner: owner.token,
    "an editor": lambda owner: person("edith", workspace="acme", role=Role.EDITOR).token,
    "a viewer": lambda owner: person("vera", workspace="acme", role=Role.VIEWER).token,
    "nobody": lambda owner: "",
    "a worker": lambda owner: node_secret("w"),
    "a serving node": lambda owner: node_secret("s", kind="serve"),
    "a job": _job_secret,
    "a caller of models": predict_secret,
}
LONG = 40
"""Examples of each operation and caller in `make test-long`."""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("caller", "examples"),
    [
        *(pytest.param(name, 2 if name == "an owner" else 1, id=name) for name in CALLERS),
        *(pytest.param(name, LONG, id=f"{name}, long", marks=pytest.mark.long) for name in CALLERS),
    ],
)
def test_whatever_is_sent_is_answered(
    transactional_db: None, document: dict[str, Any], caller: str, examples: int
) -> None:
    import schemathesis  # here, since every process of the suite reads this file and one runs this test

    # What tus calls a stream of bytes.
    schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
    olga = person("olga", workspace="acme")
    User.objects.filter(pk=olga.user.pk).update(is_superuser=True)
    secret = CALLERS[caller](olga)
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    known = {"slug": "acme", "namespace": "acme", "username": "olga"}
    schema = schemathesis.openapi.from_dict(document)
    schema.app = application
    seen = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method, operation.path) in APART:
            continue
        if "{dataset_id}" in operation.path:  # what was asked before may have changed the last one
            known["dataset_id"] = str(validated(olga).id)
        seen += 1
        send_examples(operation, headers, known, examples)
    assert seen > 20
