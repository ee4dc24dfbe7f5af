"""One error shape for everything that can go wrong, and bodies that must not break the server."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db import DataError, IntegrityError, OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from rest_framework.request import Request
from rest_framework.test import APIClient

from hub.accounts.models import Workspace
from hub.core import errors
from tests.factories.accounts import Person

pytestmark = pytest.mark.django_db


def shape_of(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "details", "request_id"}
    assert body["error"]["message"] and isinstance(body["error"]["details"], list)
    error: dict[str, Any] = body["error"]
    return error


def test_every_kind_of_failure_has_the_shape(api: APIClient, owner: Person) -> None:
    assert shape_of(api.get("/api/v1/me"))["code"] == "not_authenticated"
    assert shape_of(api.get("/api/v1/nowhere"))["code"] == "not_found"
    assert shape_of(owner.client.get("/api/v1/datasets/00000000-0000-0000-0000-000000000000"))["code"] == "not_found"
    assert shape_of(owner.client.put("/api/v1/me"))["code"] == "method_not_allowed"
    invalid = shape_of(owner.client.post("/api/v1/tokens", {"kind": "?"}))
    assert {item["field"] for item in invalid["details"]} == {"name", "kind"} and invalid["request_id"]
    assert shape_of(owner.client.get("/api/v1/datasets?page=0"))["code"] == "not_found"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not valid JSON"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (b'{"name": NaN}', 400, "NaN"),
        (b'{"name": "\\ud800"}', 400, "surrogate"),
        (b'{"name": "\\u0000"}', 400, "NUL"),
        (b'{"name": "\xff"}', 400, "not valid JSON"),
        (b'{"name": ' + b"9" * 5000 + b"}", 400, "not valid JSON"),
        (b"[]", 400, "dictionary"),
        (b"null", 400, ""),
        (b'"text"', 400, "dictionary"),
    ],
)
def test_bodies_that_are_no_good(owner: Person, body: bytes, status: int, words: str) -> None:
    answer = owner.client.post("/api/v1/tokens", body, content_type="application/json")
    assert answer.status_code == status and words in shape_of(answer)["message"]


def test_escapes_that_are_fine(owner: Person) -> None:
    body = b'{"name": "\\ud83d\\ude00 \\\\u0000"}'
    answer = owner.client.post("/api/v1/tokens", body, content_type="application/json")
    assert answer.status_code == 201 and answer.json()["name"] == "\U0001f600 \\u0000"


def test_a_body_may_be_so_long(owner: Person, settings: Any) -> None:
    settings.JSON_MAX_BYTES = 20
    answer = owner.client.post("/api/v1/tokens", {"name": "x" * 20})
    assert answer.status_code == 413 and shape_of(answer)["code"] == "too_large"


def test_multipart_with_too_many_fields(owner: Person, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 3
    answer = owner.client.post("/api/v1/datasets", {f"f{n}": "x" for n in range(5)}, format="multipart")
    assert answer.status_code == 400 and shape_of(answer)["code"] == "invalid"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Conflict("No."), 409, "conflict"),
        (errors.TooLarge("No.", code="own"), 413, "own"),
        (IntegrityError("UNIQUE"), 409, "conflict"),
        (OperationalError("locked"), 503, "unavailable"),
        (RedisConnectionError("refused"), 503, "unavailable"),
        (DataError("out of range"), 400, "invalid"),
        (SuspiciousOperation("odd"), 400, "invalid"),
        (ValidationError({"name": ["Too long."], "__all__": ["Clash."]}), 400, "invalid"),
        (ValidationError("Clash."), 400, "invalid"),
    ],
)
def test_exceptions_become_answers(owner: Person, monkeypatch: Any, error: Exception, status: int, code: str) -> None:
    from hub.accounts.api.session import MeView

    def fail(self: MeView, request: Request) -> None:
        raise error

    monkeypatch.setattr(MeView, "get", fail)
    answer = owner.client.get("/api/v1/me")
    assert answer.status_code == status and shape_of(answer)["code"] == code


def test_the_unexpected_shows_nothing_of_itself(owner: Person, monkeypatch: Any) -> None:
    from hub.accounts.api.session import MeView

    def fail(self: MeView, request: Request) -> None:
        raise RuntimeError("the database password is hunter2")

    monkeypatch.setattr(MeView, "get", fail)
    owner.client.raise_request_exception = False
    answer = owner.client.get("/api/v1/me")
    assert answer.status_code == 500 and "hunter2" not in answer.content.decode()
    assert shape_of(answer)["code"] == "server_error"


def test_an_error_rolls_back(owner: Person, monkeypatch: Any) -> None:
    from hub.accounts.services import workspaces

    def fail(**_: Any) -> None:
        raise errors.Conflict("No.")

    monkeypatch.setattr(workspaces, "record", fail)
    owner.client.post("/api/v1/workspaces", {"slug": "half-made"})
    assert not Workspace.objects.filter(slug="half-made").exists()
