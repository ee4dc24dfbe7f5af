"""A serving node before clients that are slow: no number of them keeps it from answering others."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from pst_client import connections
from pst_serve import asking
from pst_serve.__main__ import configuration
from tests.workers.conftest import Start, eventually
from tests.workers.test_serve_faults import Counted, application

CLIENTS = 300
LABELS = 5_000
QUESTION = json.dumps({"inputs": ["x"] * 64}).encode()
ASK = (
    b"POST /v1/models/acme/intents/predict HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sw_p_secret\r\n"
    b"Content-Length: %d\r\n\r\n"
)


class Served:
    def __init__(self) -> None:
        model = Counted()
        model.labels = tuple(f"label-{number}" for number in range(LABELS))  # type: ignore[assignment]
        model.answer = lambda inputs: [[1 / LABELS] * LABELS] * len(inputs)
        self.server = uvicorn.Server(configuration(application(model)))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def connect(self, sent: bytes) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", self.port))
        client.sendall(sent)
        return client

    def lives(self) -> bool:
        return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=20, trust_env=False).is_success

    @property
    def held(self) -> int:
        return len(self.server.server_state.connections)


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    served.thread.start()
    yield served
    served.server.should_exit = True
    served.thread.join(20)
    assert not served.thread.is_alive()


@pytest.mark.parametrize(
    "sent", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: a\r\n"], ids=["nothing", "line", "head"]
)
def test_heads_that_do_not_end_are_cut(served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 2.0)
    with contextlib.ExitStack() as open_ones:
        for _ in range(CLIENTS):
            open_ones.enter_context(served.connect(sent))
        assert served.lives()
        eventually(lambda: served.held == 0)


def test_a_client_that_does_not_read_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 1.0)
    with contextlib.ExitStack() as open_ones:
        for _ in range(4):
            open_ones.enter_context(served.connect(ASK % len(QUESTION) + QUESTION))
        eventually(lambda: served.held == 4)
        assert served.lives()
        eventually(lambda: served.held == 0)


def test_a_body_that_does_not_come_is_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.3)
    with served.connect(ASK % len(QUESTION) + b"half") as client:
        assert client.recv(100).startswith(b"HTTP/1.1 408")
        eventually(lambda: served.held == 0)


def test_a_head_that_is_too_long_is_refused(served: Served) -> None:
    with served.connect(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Long: %s\r\n" % (b"a" * 20_000) * 10) as client:
        head, _, body = received(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"content-type: application/json" in head
    error = json.loads(body)["error"]
    assert (error["code"], error["message"]) == ("invalid", "The request's headers are too long.")


def test_what_is_no_http_is_refused_in_the_error_shape(served: Served) -> None:
    with served.connect(b"GET / HTTQ/9.9\r\n\r\n") as client:
        head, _, body = received(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"content-type: application/json" in head
    assert set(json.loads(body)["error"]) == {"code", "message", "said", "details", "request_id"}


def received(client: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):  # what was sent beyond is not read
        while part := client.recv(10_000):
            found += part
    return found


def test_the_process_has_room_for_many_clients(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, soft), hard))  # as small for what is started now
    try:
        start("pst_serve", "--port", str(port), SPARSEWRIGHT_MEASURE="0")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def lives() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5, trust_env=False).is_success
        except httpx.ConnectError:
            return False

    eventually(lives, seconds=60)
    with contextlib.ExitStack() as open_ones:
        for _ in range(CLIENTS):
            client = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert lives()
