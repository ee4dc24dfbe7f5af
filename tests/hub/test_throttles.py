"""Request rates: however many requests come at once, no more pass than may."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from hub.accounts.actor import Actor, actor_of_user
from hub.accounts.models import Webhook
from hub.accounts.services import webhooks
from hub.accounts.throttles import (
    AnonymousThrottle,
    CountedThrottle,
    SignInThrottle,
    UserThrottle,
    throttled_sign_in,
)
from hub.core.errors import Conflict
from hub.datasets.models import Upload
from hub.datasets.services import uploads
from tests.factories.accounts import Person

MAY, TRIES = 20, 60
ADDRESS = "198.51.100.20"


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (AnonymousThrottle, SignInThrottle, UserThrottle):
        scope = f"{kind.scope}-{uuid.uuid4()}"  # a count that no other test has
        monkeypatch.setattr(kind, "scope", scope)
        monkeypatch.setattr(kind, "THROTTLE_RATES", {scope: f"{MAY}/min"})


def at_once(ask: Callable[[], Any]) -> list[Any]:
    barrier = Barrier(TRIES)

    def one(_: int) -> Any:
        barrier.wait(30)
        return ask()

    with ThreadPoolExecutor(TRIES) as threads:
        return list(threads.map(one, range(TRIES)))


def request() -> Request:
    return Request(RequestFactory().post("/", REMOTE_ADDR=ADDRESS))


@pytest.mark.parametrize("kind", [AnonymousThrottle, SignInThrottle, UserThrottle])
def test_of_many_at_once_as_many_pass_as_may(kind: type[CountedThrottle]) -> None:
    user: Any = SimpleNamespace(pk=7) if kind is UserThrottle else None

    def ask() -> bool:
        asked = request()
        asked._actor = Actor(label="somebody", user=user)
        return kind().allow_request(asked, APIView())

    assert at_once(ask).count(True) == MAY


def test_of_many_at_once_as_many_sign_in_to_the_admin_as_may() -> None:
    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse("the page")

    view = throttled_sign_in(page)
    answers = at_once(lambda: view(RequestFactory().post("/admin/login/", REMOTE_ADDR=ADDRESS)))
    assert [answer.status_code for answer in answers].count(200) == MAY
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert 0 < int(refused["Retry-After"]) <= 61


def test_the_wait_ends_when_the_first_request_is_a_minute_old() -> None:
    first = SignInThrottle()
    assert first.allow_request(request(), APIView())
    assert all(SignInThrottle().allow_request(request(), APIView()) for _ in range(MAY - 1))
    last = SignInThrottle()
    assert not last.allow_request(request(), APIView())
    assert 50 < last.wait() <= 60


def test_every_throttle_counts_in_one_step() -> None:
    def below(kind: type) -> set[type]:
        return {kind}.union(*(below(inner) for inner in kind.__subclasses__()))

    own = {kind for kind in below(BaseThrottle) if kind.__module__.startswith(("hub.", "jobs.", "config."))}
    assert own and all(issubclass(kind, CountedThrottle) for kind in own)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_no_more_are_made_than_may(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other limits, held by the database: of two at once the second counts the first."""
    monkeypatch.setattr(webhooks, "MOST", 2)
    monkeypatch.setattr(uploads, "MOST", 2)
    actor = actor_of_user(owner.user)

    def make(_: int) -> None:
        try:
            with contextlib.suppress(Conflict):
                url = "https://93.184.216.34/"
                webhooks.create_webhook(actor=actor, workspace=owner.workspace, url=url, events=["job.failed"])
            with contextlib.suppress(Conflict):
                uploads.begin_upload(actor=actor, workspace=owner.workspace, name="rows.csv", size=1)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make, range(16)))
    assert (Webhook.objects.count(), Upload.objects.count()) == (2, 2)
