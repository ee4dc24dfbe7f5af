"""The event loop before Django's threads: no client, however slow, keeps another one waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from django.utils.translation import override
from rest_framework.test import APIClient

from config import front
from config.front import Front
from config.server import configuration
from hub.core.language import say
from pst_client import connections

pytestmark = pytest.mark.any_database
CLIENTS = 40
"""More than there are threads."""
LARGE = 8 * front.SMALL_BODY


class Served:
    """A WSGI application behind the front, in a thread; ``seen`` is what it noted."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.threads: list[str] = []
        self.open: set[int] = set()
        self.server = uvicorn.Server(configuration(Front(self.app)))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})

    def app(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        self.threads.append(threading.current_thread().name)
        if path == "/download":
            start("200 OK", [("Content-Length", str(LARGE * 8))])
            return Parts(self)
        if path == "/refuse":
            start("403 Forbidden", [("Content-Length", "2")])
            return [b"no"]
        if path == "/upload":
            try:
                size = 0
                while part := environ["wsgi.input"].read(front.PART):
                    size += len(part)
                self.seen.append(size)
            except OSError as error:
                self.seen.append(str(error))
        if path == "/environ":
            self.seen.append({name: value for name, value in environ.items() if isinstance(value, str)})
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def connect(self, data: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        client.sendall(data)
        return client

    def answers(self) -> bool:
        return all(httpx.get(self.url + path, timeout=20, trust_env=False).text == "ok" for path in ("/", "/healthz"))


class Parts:
    """A download that knows whether it was closed."""

    def __init__(self, served: Served) -> None:
        self.open = served.open
        self.open.add(id(self))
        self.left = LARGE * 8

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            self.left -= front.PART
            yield bytes(front.PART)

    def close(self) -> None:
        self.open.discard(id(self))


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    served.thread.start()
    yield served
    served.server.should_exit = True
    served.thread.join(20)
    assert not served.thread.is_alive()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
        b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n",  # and nothing is read of it
    ],
    ids=["nothing", "line", "headers", "body", "download"],
)
def test_clients_that_wait_keep_nobody_else_waiting(served: Served, sent: bytes) -> None:
    clients = [served.connect(sent) for _ in range(CLIENTS)]
    assert served.answers()
    for client in clients:
        client.close()
    assert served.answers()
    until(lambda: not served.open)  # a download that was left is closed


def test_slow_uploads_keep_only_uploads_waiting(served: Served) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %d\r\nContent-Length: 8000000\r\n\r\nhalf"
    clients = [served.connect(head % number) for number in range(front.UPLOAD_THREADS)]
    assert served.answers()
    for client in clients:
        client.close()
    until(lambda: len(served.seen) == front.UPLOAD_THREADS)


def test_a_caller_has_four_uploads_at_a_time(served: Served) -> None:
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\nContent-Length: 8000000\r\n\r\nhalf"
    clients = [served.connect(head) for _ in range(front.UPLOADS_OF_A_CALLER)]
    time.sleep(0.2)
    content = bytes(LARGE)

    def send(token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{served.url}/upload", content=content, headers=headers, timeout=20, trust_env=False)

    refused = send("one")
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "2"
    assert refused.json()["error"]["code"] == "busy"
    assert send("two").status_code == 200
    for client in clients:
        client.close()
    until(lambda: len(served.seen) == 1 + front.UPLOADS_OF_A_CALLER)
    assert send("one").status_code == 200


@pytest.mark.parametrize("size", [0, 1, front.SMALL_BODY, front.SMALL_BODY + 1, LARGE])
def test_bodies_arrive_whole(served: Served, size: int) -> None:
    assert httpx.post(f"{served.url}/upload", content=bytes(size), trust_env=False).status_code == 200
    assert served.seen == [size]


def test_a_large_body_that_is_refused_is_not_read_first(served: Served) -> None:
    """The answer comes although the client has sent only the head."""
    client = served.connect(b"POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 400000000\r\n\r\n")
    assert client.recv(1000).startswith(b"HTTP/1.1 403")
    client.close()
    answer = httpx.post(f"{served.url}/refuse", content=bytes(LARGE), timeout=20, trust_env=False)
    assert (answer.status_code, answer.text) == (403, "no")


def test_time_limits(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "WRITE_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(connections, name, 0.3)
    monkeypatch.setattr(front, "BODY_SECONDS", 0.3)
    for sent in (b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"):
        client = served.connect(sent)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1000).split(b"\r\n")[0] in {b"", b"HTTP/1.1 408 Request Timeout"}
        client.close()
    kept = served.connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answered = b""
    while not answered.endswith(b"ok"):  # head and body may come apart
        answered += kept.recv(1000)
    assert answered.startswith(b"HTTP/1.1 200")
    kept.sendall(b"GET / HT")
    with contextlib.suppress(ConnectionResetError):
        assert kept.recv(1000) == b""
    slow = served.connect(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\nhalf")
    until(lambda: served.seen == ["the body came too slowly"])
    answered = b""
    with contextlib.suppress(ConnectionResetError):
        while part := slow.recv(1000):  # what it still owes is not waited for
            answered += part
    assert answered.startswith(b"HTTP/1.1 200")
    kept.close()
    slow.close()
    unread = served.connect(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
    until(lambda: len(served.open) == 1)
    until(lambda: not served.open)
    unread.close()


def test_headers_that_are_too_long(served: Served) -> None:
    client = served.connect(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Long: %s\r\n" % (b"a" * 20_000) * 10)
    assert client.recv(1000).startswith(b"HTTP/1.1 400")
    client.close()


def test_what_the_application_is_told(served: Served) -> None:
    client = served.connect(
        b"GET /environ?q=%C3%A9 HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\nCookie: a=1\r\nCookie: b=2\r\n"
        b"X-Forwarded-For: 5.6.7.8\r\nX-Name: \xc3\xa9\r\n\r\n"
    )
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    client.close()
    (environ,) = served.seen
    assert environ["HTTP_X_FORWARDED_FOR"] == "5.6.7.8"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_NAME"] == "\xc3\xa9" and environ["QUERY_STRING"] == "q=%C3%A9"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"


def test_more_requests_than_may_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_WAITING", 0)
    answer = httpx.get(served.url, trust_env=False)
    assert answer.status_code == 503 and json.loads(answer.content)["error"]["code"] == "busy"


def test_a_break_in_a_body_gives_what_came_before() -> None:
    messages = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def ask() -> None:
        body = front.Body(receive, asyncio.get_running_loop())
        assert await asyncio.to_thread(body.read, 100) == b"half"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("sent", "language"),
    [
        (b"", "en"),
        (b"Accept-Language: zh-CN,zh;q=0.9\r\n", "zh-hans"),
        (b"Accept-Language: zh-CN\r\nCookie: a=1; django_language=en\r\n", "en"),
        (b"Cookie: django_language=zh-hans\r\n", "zh-hans"),
        (b"Accept-Language: \xff;q=x,,\r\nCookie: django_language=../../etc; =;\xff\r\n", "en"),
    ],
)
def test_the_fronts_own_answers_speak_the_readers_language(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes, language: str
) -> None:
    refused = {
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n": (front.NO_LENGTH, b"411"),
        b"Content-Length: 100\r\n\r\nhalf": (front.TOO_SLOW, b"408"),
        b"Content-Length: 0\r\n\r\n": (front.BUSY, b"503"),
    }
    monkeypatch.setattr(front, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(front, "MAX_WAITING", 0)
    for rest, (message, status) in refused.items():
        with served.connect(b"POST /upload HTTP/1.1\r\nHost: a\r\n" + sent + rest) as client:
            answer = b""
            while not answer.endswith(b"}}"):
                answer += client.recv(10_000)
        head, _, body = answer.partition(b"\r\n\r\n")
        with override(language):
            said = say(message)
        assert head.split()[1] == status and json.loads(body)["error"]["message"] == said
        assert (said == message) == (language == "en") and b"content-language: " + language.encode() in head


def test_a_body_that_is_too_long_is_refused_in_the_readers_language(api: APIClient) -> None:
    answer = api.post("/api/v1/session", {"username": "x" * 70_000}, HTTP_ACCEPT_LANGUAGE="zh-CN")
    assert answer.status_code == 413 and "字节" in answer.json()["error"]["message"]


def test_a_body_without_a_length_is_refused(served: Served) -> None:
    client = served.connect(
        b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    )
    assert client.recv(1000).startswith(b"HTTP/1.1 411")
    client.close()


def test_bodies_on_their_way_are_bounded_in_all(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_GATHERED", 150_000)
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf"
    first = served.connect(head)
    time.sleep(0.2)
    second = served.connect(head)
    assert second.recv(1000).startswith(b"HTTP/1.1 503")
    assert served.answers()
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("path", "pool"),
    [
        ("/api/v1/worker/jobs/1/heartbeat", "node"),
        ("/api/v1/node/heartbeat", "node"),
        ("/api/v1/deployments/1/predict", "outbound"),
        ("/api/v1/webhooks", "outbound"),
        ("/api/v1/jobs", "request"),
    ],
)
def test_whose_threads_a_request_takes(served: Served, path: str, pool: str) -> None:
    """A slow serving node, asked through the platform, keeps neither people nor workers waiting."""
    assert httpx.post(served.url + path, trust_env=False).text == "ok"
    assert served.threads[-1].startswith(pool)
