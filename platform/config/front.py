"""An ASGI application that runs a WSGI one, Django's, in threads that no client can hold (docs/adr/0001)."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

from django.http import HttpRequest, parse_cookie
from django.utils.translation import get_language_from_request, override

from hub.core.language import say
from pst.messages import Message

THREADS = 8
UPLOAD_THREADS = 16
UPLOADS_OF_A_CALLER = 4
MAX_WAITING = 256
"""Requests in a pool, at work or waiting for a thread; the next one is told to come again."""
SMALL_BODY = 1024 * 1024
BODY_SECONDS = 30.0
"""In this time a small body comes whole, and a large one :data:`LEAST_PART` further."""
LEAST_PART = 64 * 1024
PART = 256 * 1024
EVERYTHING = 2**62
MAX_GATHERED = 64 * 1024 * 1024
"""Of all small bodies that are on their way at once, but for the smallest."""
PROBES = {"/healthz", "/readyz"}
NO_LENGTH = Message("Say how long the body is, in the header Content-Length.")
TOO_SLOW = Message("The body of the request broke off or came too slowly; send it again.")
BUSY = Message("The server is busy; try again in a moment.")
UPLOADING = Message("You have {most} uploads under way; wait for one of them.", most=UPLOADS_OF_A_CALLER)
OF_NODES = ("/api/v1/worker/", "/api/v1/node/")
OUTBOUND = re.compile(r"/api/v1/(?:deployments/[^/]+/predict|webhooks)")
"""What waits for somebody else's machine."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gone(OSError):
    """The client is away, or too slow with its body. An OSError, which Django knows from its input."""


class Body:
    """The rest of a request's body, read by the event loop and asked for by a thread: a WSGI input."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive, self._loop = receive, loop
        self._buffer, self._more = bytearray(), True

    async def fill(self, size: int) -> None:
        """Have ``size`` bytes at hand, or all that come. Raises :class:`Gone`."""
        while self._more and len(self._buffer) < size:
            wanted = min(size, len(self._buffer) + LEAST_PART)
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    while self._more and len(self._buffer) < wanted:
                        message = await self._receive()
                        if message["type"] == "http.disconnect":
                            raise Gone("the client closed the connection")
                        self._buffer += message.get("body", b"")
                        self._more = message.get("more_body", False)
            except TimeoutError:
                raise Gone("the body came too slowly") from None

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer at the end and before a break. Raises :class:`Gone` at a break."""
        wanted = size if size >= 0 else EVERYTHING
        try:
            asyncio.run_coroutine_threadsafe(self.fill(wanted), self._loop).result()
        except Gone:
            if not self._buffer:
                raise
        taken = bytes(self._buffer[:wanted])
        del self._buffer[: len(taken)]
        return taken

    def readline(self, size: int = -1) -> bytes:
        raise io.UnsupportedOperation("a body is read in blocks")  # Django's own reader makes lines of blocks

    async def whole(self) -> io.BytesIO:
        await self.fill(EVERYTHING)
        return io.BytesIO(self._buffer)


class Answer:
    """What the application answered: its body in parts, each pulled by a thread when the client wants it."""

    def __init__(self) -> None:
        self.status, self.headers = 500, list[tuple[bytes, bytes]]()
        self.parts: Iterator[bytes] = iter(())
        self.close: Callable[[], None] = lambda: None
        self.first, self.last = b"", True

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
        self.status = int(status.split(" ", 1)[0])
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return lambda data: None  # the old write() of WSGI, which Django does not call

    def next_part(self) -> tuple[bytes, bool]:
        """Some hundred kB, and whether they are the last."""
        got = bytearray()
        for part in self.parts:
            got += part
            if len(got) >= PART:
                return bytes(got), False
        return bytes(got), True


class Pool:
    """Threads, and how many requests run in them or wait for one."""

    def __init__(self, name: str, size: int) -> None:
        self.threads = ThreadPoolExecutor(size, name)
        self.waiting = 0


class Front:
    """``app`` is a WSGI application; pools of threads run it."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self.requests = Pool("request", THREADS)
        self.nodes = Pool("node", THREADS)
        self.outbound = Pool("outbound", THREADS)
        self.uploads = Pool("upload", UPLOAD_THREADS)
        self.reads = ThreadPoolExecutor(4, "read")
        self.probes = {path: Pool("probe", 1) for path in PROBES}
        self.gathered = 0
        self.uploading: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        headers = _headers(scope)
        body = Body(receive, asyncio.get_running_loop())
        try:
            if scope["path"] in PROBES:
                await self._answer(scope, headers, io.BytesIO(), self.probes[scope["path"]], receive, send)
            elif "transfer-encoding" in headers and "content-length" not in headers:
                await _refuse(send, headers, 411, "length_required", NO_LENGTH)
            elif (length := int(headers.get("content-length", "0"))) <= SMALL_BODY:
                await self._request(scope, headers, body, length, receive, send)
            else:
                await self._upload(scope, headers, body, receive, send)
        except Gone:
            await _refuse(send, headers, 408, "too_slow", TOO_SLOW)

    async def _request(
        self, scope: Scope, headers: dict[str, str], body: Body, length: int, receive: Receive, send: Send
    ) -> None:
        counted = length if length > LEAST_PART else 0
        if self.gathered + counted > MAX_GATHERED:
            await _refuse(send, headers, 503, "busy", BUSY)
            return
        self.gathered += counted
        try:
            whole = await body.whole() if length else io.BytesIO()
        finally:
            self.gathered -= counted
        await self._answer(scope, headers, whole, self._pool(scope), receive, send)

    def _pool(self, scope: Scope) -> Pool:
        """Whose threads: no person's requests keep a worker from its lease, and no call to elsewhere keeps people."""
        path = scope["path"]
        if path.startswith(OF_NODES):
            return self.nodes
        return self.outbound if OUTBOUND.fullmatch(path) and scope["method"] == "POST" else self.requests

    async def _upload(self, scope: Scope, headers: dict[str, str], body: Body, receive: Receive, send: Send) -> None:
        caller = _caller(scope, headers)
        if self.uploading[caller] >= UPLOADS_OF_A_CALLER:
            await _refuse(send, headers, 503, "busy", UPLOADING)
            return
        self.uploading[caller] += 1
        try:
            await self._answer(scope, headers, body, self.uploads, receive, send)
        finally:
            self.uploading[caller] -= 1
            if not self.uploading[caller]:
                del self.uploading[caller]

    async def _answer(
        self, scope: Scope, headers: dict[str, str], body: Any, pool: Pool, receive: Receive, send: Send
    ) -> None:
        if pool.waiting >= MAX_WAITING:
            await _refuse(send, headers, 503, "busy", BUSY)
            return
        loop = asyncio.get_running_loop()
        pool.waiting += 1
        try:
            answer = await loop.run_in_executor(pool.threads, self._run, _environ(scope, headers, body))
        finally:
            pool.waiting -= 1
        leaving: asyncio.Task[None] | None = None
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            part, last = answer.first, answer.last
            if not last:
                leaving = asyncio.ensure_future(_left(receive))
            while True:
                await send({"type": "http.response.body", "body": part, "more_body": not last})
                if last or (leaving is not None and leaving.done()):
                    return
                part, last = await loop.run_in_executor(self.reads, answer.next_part)
        finally:
            if leaving is not None:
                leaving.cancel()
            if not answer.last:
                await loop.run_in_executor(self.reads, answer.close)

    def _run(self, environ: dict[str, Any]) -> Answer:
        """In a thread: the whole of a short answer, or the beginning of a long one."""
        answer = Answer()
        result = self.app(environ, answer.start)
        answer.parts, answer.close = iter(result), getattr(result, "close", answer.close)
        try:
            answer.first, answer.last = answer.next_part()
        except BaseException:
            answer.close()
            raise
        if answer.last:
            answer.close()
        return answer


def _headers(scope: Scope) -> dict[str, str]:
    """By lower-case name, repeated ones joined. One with an underscore is left out: it could pose as another."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1"), value.decode("latin-1")
        if "_" not in name:
            joint = "; " if name == "cookie" else ","
            found[name] = f"{found[name]}{joint}{text}" if name in found else text
    return found


def _environ(scope: Scope, headers: dict[str, str], body: Any) -> dict[str, Any]:
    server, client = scope.get("server") or ("localhost", 80), scope.get("client") or ("", 0)
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 0),
        "REMOTE_ADDR": client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.errors": io.StringIO(),  # Django logs
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    own = {"content-length": "CONTENT_LENGTH", "content-type": "CONTENT_TYPE"}
    for name, value in headers.items():
        environ[own.get(name) or f"HTTP_{name.upper().replace('-', '_')}"] = value
    return environ


def _caller(scope: Scope, headers: dict[str, str]) -> str:
    """Whose upload it is: a token, a browser, an address."""
    credentials = headers.get("authorization") or headers.get("cookie")
    if credentials is None:
        return str((scope.get("client") or ("",))[0])
    return hashlib.sha256(credentials.encode()).hexdigest()


def _language(headers: dict[str, str]) -> str:
    """As Django's middleware chooses it: by the cookie, then by what the browser says."""
    request = HttpRequest()
    request.COOKIES = parse_cookie(headers.get("cookie", ""))
    request.META["HTTP_ACCEPT_LANGUAGE"] = headers.get("accept-language", "")
    return get_language_from_request(request)


async def _left(receive: Receive) -> None:
    """Ends when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, headers: dict[str, str], status: int, code: str, message: Message) -> None:
    """An answer in the API's one shape and the reader's language, before Django saw the request."""
    language = _language(headers)
    with override(language):
        error: dict[str, Any] = {"code": code, "message": say(message), "details": [], "request_id": None}
    body = json.dumps({"error": error}, ensure_ascii=False).encode()
    answered = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    answered.append((b"content-language", language.encode()))
    if status == 503:
        answered.append((b"retry-after", b"2"))
    await send({"type": "http.response.start", "status": status, "headers": answered})
    await send({"type": "http.response.body", "body": body, "more_body": False})
