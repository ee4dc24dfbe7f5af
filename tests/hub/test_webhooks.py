"""Webhooks: a real receiver, signatures, retries, and addresses that must not be called."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from config.background import CONCURRENCY
from hub.accounts.addresses import RefusedAddress, is_public, resolve
from hub.accounts.models import DeliveryState, Role, Webhook, WebhookDelivery, Workspace
from hub.accounts.outbound import TookTooLong, post
from hub.accounts.services import webhooks
from hub.accounts.tasks import deliver, forget, sweep
from hub.core.parts import WEBHOOKS
from tests.factories.accounts import Person, person

pytestmark = pytest.mark.django_db
URL = "/api/v1/webhooks"


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets and answers with the statuses in ``answers``, 200 when there are none left."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver
    dawdles = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for byte in b"HTTP/1.1 2" if self.dawdles else b"":
            try:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
            except ConnectionError:  # the sender has given up, as it should
                return
            time.sleep(0.1)
        self.server.requests.append((self.path, dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.ALLOW_PRIVATE_ADDRESSES = True
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def make(owner: Person, url: str, events: list[str] | None = None) -> dict[str, Any]:
    answer = owner.client.post(URL, {"url": url, "events": events or ["dataset.ready"]})
    assert answer.status_code == 201, answer.json()
    body: dict[str, Any] = answer.json()
    return body


def notify(owner: Person, event: str = "dataset.ready") -> None:
    webhooks.notify(workspace=owner.workspace, event=event, payload={"name": "données"})


def test_a_delivery_is_signed(owner: Person, receiver: Receiver) -> None:
    secret = make(owner, f"{receiver.url}/hook?a=1")["secret"]
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    deliver(str(delivery.id))
    path, headers, body = receiver.requests[0]
    assert path == "/hook?a=1" and headers["Host"] == receiver.url.removeprefix("http://")
    signed = hmac.new(secret.encode(), headers["X-Sparsewright-Timestamp"].encode() + b"." + body, hashlib.sha256)
    assert headers["X-Sparsewright-Signature"] == "sha256=" + signed.hexdigest()
    message = json.loads(body)
    assert message["id"] == str(delivery.id) == headers["X-Sparsewright-Delivery"]
    assert (message["event"], message["workspace"], message["data"]) == ("dataset.ready", "acme", {"name": "données"})
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.status_code) == (DeliveryState.DELIVERED, 1, 200)
    deliver(str(delivery.id))
    assert len(receiver.requests) == 1


def test_only_wanted_events_of_the_same_workspace(owner: Person, outsider: Person, receiver: Receiver) -> None:
    make(owner, receiver.url, ["job.failed", "job.failed"])
    make(outsider, receiver.url)
    notify(owner)
    assert not WebhookDelivery.objects.exists()
    notify(owner, "job.failed")
    assert WebhookDelivery.objects.get().webhook.workspace == owner.workspace
    with pytest.raises(ValueError, match="is not a valid"):
        notify(owner, "no.such")


def test_retries_then_success(owner: Person, receiver: Receiver, django_capture_on_commit_callbacks: Any) -> None:
    make(owner, receiver.url)
    receiver.answers = [500, 302]
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    for status in (500, 302):
        WebhookDelivery.objects.update(due_at=timezone.now())
        deliver(str(delivery.id))
        delivery.refresh_from_db()
        assert delivery.state == DeliveryState.PENDING and delivery.status_code == status
        assert delivery.due_at > timezone.now() + timedelta(seconds=5)
    WebhookDelivery.objects.update(due_at=timezone.now())
    deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.DELIVERED and delivery.attempts == 3 and delivery.error == ""
    assert [path for path, _, _ in receiver.requests] == ["/", "/", "/"]  # no redirect was followed


def test_a_delivery_fails_after_the_last_attempt(owner: Person, receiver: Receiver) -> None:
    body = make(owner, receiver.url)
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(attempts=len(webhooks.WAITS))
    receiver.answers = [503]
    deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED and "503" in delivery.error
    listed = owner.client.get(f"{URL}/{body['id']}/deliveries").json()["results"]
    assert listed[0]["state"] == "failed" and listed[0]["status_code"] == 503


def test_a_receiver_that_dawdles(owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "QUICK", 0.3)
    monkeypatch.setattr(Handler, "dawdles", True)
    make(owner, receiver.url)
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING and "did not answer within" in delivery.error


def test_what_went_wrong_is_said_in_the_readers_language(
    owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "QUICK", 0.3)
    hook = make(owner, receiver.url)["id"]
    receiver.answers = [503]

    def shown() -> tuple[str, str]:
        notify(owner)
        deliver(str(WebhookDelivery.objects.latest("created_at").id))
        url = f"{URL}/{hook}/deliveries"
        answers = (owner.client.get(url, HTTP_ACCEPT_LANGUAGE=language).json() for language in ("en", "zh-CN"))
        english, chinese = (answer["results"][0]["error"] for answer in answers)
        return english, chinese

    assert shown() == ("The receiver answered 503.", "接收方返回了 503。")
    monkeypatch.setattr(Handler, "dawdles", True)
    assert shown() == ("The receiver did not answer within 0.3 seconds.", "接收方在 0.3 秒内没有响应。")
    Webhook.objects.update(url="http://127.0.0.1:9/")
    english, chinese = shown()
    assert english.startswith("The receiver can't be reached: Connect") and chinese.startswith(
        "无法连接接收方：Connect"
    )
    Webhook.objects.update(url="http://169.254.169.254/")
    english, chinese = shown()
    assert "which is never called" in english and english != chinese
    assert shown()[0] == english


def test_attempts_that_died_are_counted(owner: Person, receiver: Receiver) -> None:
    make(owner, receiver.url)
    notify(owner)
    WebhookDelivery.objects.update(attempts=len(webhooks.WAITS) + 1)
    delivery = WebhookDelivery.objects.get()
    deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.FAILED and receiver.requests == []


def test_a_receiver_that_is_gone(owner: Person, settings: Any) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = True
    make(owner, "http://127.0.0.1:9/")
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.PENDING and "Connect" in delivery.error


def test_the_sweep_rings_what_is_due(
    owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    rung: list[Any] = []
    monkeypatch.setattr("hub.core.queue.current_app.send_task", lambda name, kwargs, **_: rung.append((name, kwargs)))
    make(owner, receiver.url)
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(due_at=timezone.now())
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
        sweep()
    assert rung == [("webhooks.deliver", {"delivery_id": str(delivery.id)})]
    forget()
    assert WebhookDelivery.objects.exists()
    WebhookDelivery.objects.update(state=DeliveryState.FAILED, created_at=timezone.now() - timedelta(days=31))
    forget()
    assert not WebhookDelivery.objects.exists()


def test_private_addresses_are_refused_at_creation_and_at_delivery(
    owner: Person, receiver: Receiver, settings: Any
) -> None:
    body = make(owner, receiver.url)
    settings.ALLOW_PRIVATE_ADDRESSES = False
    refused = owner.client.post(URL, {"url": receiver.url, "events": ["job.failed"]})
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "address_refused"
    notify(owner)
    delivery = WebhookDelivery.objects.get(webhook=body["id"])
    deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert "not a public address" in delivery.error and receiver.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://127.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://192.168.0.1:8080/",
        "http://0.0.0.0/",
        "http://[fe80::1]/",
        "http://[fec0::1]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://[3fff::1]/",
        "ftp://93.184.216.34/",
        "file:///etc/passwd",
        "//93.184.216.34/",
        "http://user:secret@93.184.216.34/",
        "http://93.184.216.34/a b",
        "http://93.184.216.34/\r\nX: y",
        "http://93.184.216.34:99999/",
        "http://[::1/",
        "http://" + "a" * 300 + "/",
        "http://no-such-host.invalid/",
        "http:///path",
        "",
    ],
)
def test_refused_addresses(url: str) -> None:
    with pytest.raises(RefusedAddress):
        resolve(url)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("ff0e::1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("::ffff:93.184.216.34", True),
        ("::", False),
        ("fec0::1", False),
        ("feff:ffff::1", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


def test_the_checked_address_is_the_one_called() -> None:
    endpoint = resolve("https://93.184.216.34:8443/hook?x=1")
    assert endpoint.url == "https://93.184.216.34:8443/hook?x=1" and endpoint.authority == "93.184.216.34:8443"
    assert resolve("http://[2606:4700::1111]").url == "http://[2606:4700::1111]:80/"


def test_names_are_looked_up_outside_transactions(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a slow name server holds the database, which on SQLite has one writer."""
    depth = len(connection.savepoint_ids)
    inside = []

    def look(*_: object, **__: object) -> list[str]:
        inside.append(len(connection.savepoint_ids) > depth)
        return ["93.184.216.34"]

    monkeypatch.setattr("hub.accounts.names.addresses", look)
    make(owner, "https://receiver.example/")
    assert inside == [False]


def test_a_workspace_has_two_calls_at_a_time(owner: Person, outsider: Person, receiver: Receiver) -> None:
    """One owner's slow receivers leave the threads to the others."""
    make(owner, receiver.url)
    make(outsider, receiver.url)
    slots = [webhooks._slots(owner.workspace.id) for _ in range(webhooks.CALLS_OF_A_WORKSPACE)]
    assert all(slots) and webhooks._slots(owner.workspace.id) is None
    for someone in (owner, outsider):
        notify(someone)
    held, other = (WebhookDelivery.objects.get(webhook__workspace=who.workspace) for who in (owner, outsider))
    for delivery in (held, other):
        deliver(str(delivery.id))
        delivery.refresh_from_db()
    assert (held.state, held.attempts) == (DeliveryState.PENDING, 0)
    assert held.due_at <= timezone.now() + webhooks.FULL
    assert other.state == DeliveryState.DELIVERED
    cache.delete_many(slots[0] or [])
    WebhookDelivery.objects.update(due_at=timezone.now())
    deliver(str(held.id))
    held.refresh_from_db()
    assert held.state == DeliveryState.DELIVERED


def test_silent_receivers_of_many_workspaces_hold_the_threads_for_half_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reckoned, not waited for: 32 fresh workspaces whose receivers all hang, three deliveries each."""
    took: dict[str, list[float]] = {}

    def hang(url: str, *_: object, seconds: float, **__: object) -> None:
        took.setdefault(url, []).append(seconds)
        raise TookTooLong

    monkeypatch.setattr(webhooks, "post", hang)
    rows = []
    for number in range(32):
        workspace = Workspace.objects.create(slug=f"bad-{number}", name="Bad")
        hook = Webhook.objects.create(workspace=workspace, url=f"http://{number}.example/", events=[], secret="s")
        rows += [WebhookDelivery(webhook=hook, event="job.failed", payload={}, due_at=timezone.now()) for _ in range(3)]
    for row in WebhookDelivery.objects.bulk_create(rows):
        deliver(str(row.pk))
    # The first makes a workspace a slow one, and slow ones have the whole time, in half of the threads.
    assert len(took) == 32 and all(seconds == [3.0, 15.0, 15.0] for seconds in took.values())
    free = CONCURRENCY[WEBHOOKS] - webhooks.SLOW_CALLS
    assert free >= 4
    assert 32 * webhooks.CALLS_OF_A_WORKSPACE * webhooks.QUICK / free <= 30


def test_the_look_up_is_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def look(*_: object, seconds: float, **__: object) -> list[str]:
        given.append(seconds)
        raise TimeoutError

    monkeypatch.setattr("hub.accounts.names.addresses", look)
    with pytest.raises(RefusedAddress):
        post("http://silent.example/", b"", {}, trusted=False, seconds=3)
    assert given == [3]


def test_a_slow_receiver_that_answers_stays_a_slow_one(
    owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(owner, receiver.url)
    monkeypatch.setattr(webhooks, "QUICK", -1.0)
    monkeypatch.setattr(webhooks, "post", lambda *_, **__: (200, b""))
    notify(owner)
    deliver(str(WebhookDelivery.objects.get().id))
    assert webhooks._slow(owner.workspace.id)


def test_owners_alone_have_webhooks(owner: Person, outsider: Person, receiver: Receiver) -> None:
    body = make(owner, receiver.url)
    assert "secret" not in owner.client.get(URL).json()["results"][0]
    editor = person("edda", workspace="acme", role=Role.EDITOR).client
    assert editor.get(URL).json()["count"] == 0 and editor.get(f"{URL}?workspace=acme").status_code == 403
    assert editor.post(URL, {"url": receiver.url, "events": ["job.failed"]}).status_code == 403
    for client in (editor, outsider.client):
        assert client.delete(f"{URL}/{body['id']}").status_code == 404
        assert client.get(f"{URL}/{body['id']}/deliveries").status_code == 404
    wish = {"url": receiver.url, "events": ["job.failed"], "workspace": "acme"}
    assert outsider.client.post(URL, wish).status_code == 404
    assert outsider.client.get(f"{URL}?workspace=acme").status_code == 404
    assert owner.client.delete(f"{URL}/{body['id']}").status_code == 204
    assert not Webhook.objects.filter(pk=body["id"]).exists()


def test_bad_wishes(owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for events in ([], ["nonsense"], "dataset.ready", None):
        assert owner.client.post(URL, {"url": receiver.url, "events": events}).status_code == 400
    monkeypatch.setattr(webhooks, "MOST", 1)
    make(owner, receiver.url)
    assert owner.client.post(URL, {"url": receiver.url, "events": ["job.failed"]}).status_code == 409


@pytest.mark.parametrize(
    "host",
    [
        "[::ffff:100.100.100.200]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[fd20:ce::254]",
        "192.0.0.192",
    ],
)
def test_a_clouds_secrets_are_called_by_nobody(host: str) -> None:
    with pytest.raises(RefusedAddress, match="never called"):
        resolve(f"http://{host}/", trusted=True)


def test_bells_that_piled_up_are_one_attempt(owner: Person, receiver: Receiver) -> None:
    """They came while the process was away; each once was an attempt of its own, past every pause."""
    receiver.answers = [500]
    make(owner, receiver.url)
    notify(owner)
    delivery = WebhookDelivery.objects.get()
    for _ in range(7):
        deliver(str(delivery.id))
    delivery.refresh_from_db()
    assert (delivery.attempts, delivery.state) == (1, DeliveryState.PENDING)
    assert len(receiver.requests) == 1
