"""Look-ups of names that workspaces chose, before name servers that are silent: a real one of the test's own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.resolver
import dns.rrset
import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from config.background import CONCURRENCY
from hub.accounts import names
from hub.accounts.actor import actor_of_user
from hub.accounts.addresses import RefusedAddress, resolve
from hub.accounts.models import DeliveryState, Webhook, WebhookDelivery, Workspace
from hub.accounts.services import webhooks
from hub.core.parts import WEBHOOKS
from tests.factories.accounts import Person

BAD = 32
"""Workspaces whose name server is silent."""


class NameServer:
    """Answers for ``good.example`` and its kind at once, for ``silent`` names never."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.asked: list[str] = []
        self.known = {"good.example.": "127.0.0.1", "public.example.": "93.184.216.34"}
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = self.socket.recvfrom(4096)
                question = dns.message.from_wire(data)
                asked = question.question[0]
                name = str(asked.name)
                self.asked.append(name)
                if "silent" in name:
                    continue
                answer = dns.message.make_response(question)
                if name not in self.known:
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                elif asked.rdtype == dns.rdatatype.A:
                    answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "A", self.known[name]))
                self.socket.sendto(answer.to_wire(), client)

    def resolver(self) -> dns.resolver.Resolver:
        made = dns.resolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], self.socket.getsockname()[1]
        return made


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(names, "resolver", server.resolver)
    yield server
    server.socket.close()


def test_names_are_asked_of_the_name_servers(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("https://public.example/hook").url == "https://93.184.216.34:443/hook"
    with pytest.raises(RefusedAddress, match=r"cannot be found"):
        resolve("http://unknown.example/")
    with pytest.raises(RefusedAddress, match=r"not a public address"):
        resolve("http://good.example/")
    monkeypatch.setattr(names, "SECONDS", 0.3)
    with pytest.raises(RefusedAddress, match="could not be looked up in time"):
        resolve("http://silent.example/")


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "2130706433", "0x7f.1", "-", "a_b.example", "x" * 300])
def test_what_is_no_name_is_not_found(server: NameServer, host: str) -> None:
    with pytest.raises(RefusedAddress):
        resolve(f"http://{host}/")


def test_the_hosts_file_comes_first(server: NameServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(names, "HOSTS", tmp_path / "hosts")
    (tmp_path / "hosts").write_text("# 192.0.2.1 inner\n93.184.216.35\tOuter inner  # a comment\n\n::1\n")
    assert resolve("http://inner/").ip == resolve("http://outer/").ip == "93.184.216.35"
    assert not server.asked


def test_an_address_that_can_be_reached_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_hosts", lambda host: ["2606:4700::1111", "93.184.216.34"])
    monkeypatch.setattr(names, "_routed", lambda address, port: ":" not in address)
    assert resolve("http://both.example/").ip == "93.184.216.34"


def test_silent_name_servers_delay_nobody_elses_look_up(server: NameServer) -> None:
    """Those of 32 workspaces with two calls each; before, they held all the threads there were."""

    def hang(number: int) -> None:
        with contextlib.suppress(RefusedAddress):
            resolve(f"http://silent-{number}.example/")

    with ThreadPoolExecutor(2 * BAD) as threads:
        hanging = [threads.submit(hang, number) for number in range(2 * BAD)]
        time.sleep(0.5)
        began = time.monotonic()
        assert resolve("http://public.example/").ip == "93.184.216.34"
        assert time.monotonic() - began < 2
        for one in hanging:
            one.result(30)


@pytest.mark.django_db(transaction=True)
def test_workspaces_whose_receivers_are_silent_leave_half_of_the_threads(
    owner: Person, server: NameServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery of another workspace waits for the first silent attempts alone, once, and later for none."""
    settings.ALLOW_PRIVATE_ADDRESSES = True
    monkeypatch.setattr(names, "SECONDS", 1.0)
    monkeypatch.setattr(webhooks, "post", lambda url, *_, **__: resolve(url) and (200, b""))

    def delivery(workspace: Workspace, host: str) -> uuid.UUID:
        webhook = Webhook.objects.create(workspace=workspace, url=f"http://{host}/", events=["job.failed"], secret="s")
        due = timezone.now()
        return WebhookDelivery.objects.create(webhook=webhook, event="job.failed", payload={}, due_at=due).pk

    bad = [Workspace.objects.create(slug=f"bad-{number}", name="Bad") for number in range(BAD)]
    for workspace in bad:  # as after their first attempts
        cache.set(f"webhook-slow:{workspace.id}", 1, timeout=60)
    queue = [delivery(workspace, "silent.example") for workspace in bad for _ in range(3)]
    good = delivery(owner.workspace, "good.example")

    def deliver(pk: uuid.UUID) -> None:
        try:
            webhooks.deliver(delivery_id=pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(CONCURRENCY[WEBHOOKS]) as threads:
        began = time.monotonic()
        bells = [threads.submit(deliver, pk) for pk in (*queue, good)]
        bells[-1].result(60)
        took = time.monotonic() - began
    assert WebhookDelivery.objects.get(pk=good).state == DeliveryState.DELIVERED
    assert took < 2.5 * names.SECONDS, took  # 96 silent ones with all threads would take twelve times as long
    assert WebhookDelivery.objects.filter(attempts=1).exclude(pk=good).count() >= webhooks.SLOW_CALLS


@pytest.mark.django_db
def test_a_workspace_whose_receiver_was_silent_is_a_slow_one(
    owner: Person, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "SECONDS", 0.2)
    webhook = Webhook.objects.create(
        workspace=owner.workspace, url="http://silent.example/", events=["job.failed"], secret="s"
    )
    row = WebhookDelivery.objects.create(webhook=webhook, event="job.failed", payload={}, due_at=timezone.now())
    webhooks.deliver(delivery_id=row.pk)
    slots = webhooks._slots(owner.workspace.id)
    assert slots is not None and len(slots) == 2
    cache.delete_many(slots)


@pytest.mark.django_db(transaction=True)
def test_of_addresses_that_are_given_few_are_looked_up_at_a_time(
    owner: Person, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "SECONDS", 1.0)
    actor = actor_of_user(owner.user)

    def give(_: int) -> str:
        try:
            webhooks.create_webhook(
                actor=actor, workspace=owner.workspace, url="http://silent.example/", events=["job.failed"]
            )
        except (RefusedAddress, webhooks.Busy) as error:
            return error.code
        finally:
            connection.close()
        return ""

    with ThreadPoolExecutor(6) as threads:
        codes = list(threads.map(give, range(6)))
    assert sorted(codes) == ["address_refused", *["busy"] * 5]
