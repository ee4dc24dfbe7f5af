"""Time limits and size limits of a connection, in the web tier and in a serving node: uvicorn has one for idle
connections alone.

Head: all of a request's line and headers. Rest: what is still to come of a body whose request is answered. Writing:
how long a client may leave what it asked for unread. A connection that breaks a limit is cut.
"""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pst.messages import Message, said

MAX_FILES = 65_536
HEAD_SECONDS = 15.0
MAX_HEAD_BYTES = 64 * 1024
WRITE_SECONDS = 60.0
LINGER_SECONDS = 15.0
"""How long the rest of a body is read and thrown away once its request was answered. Cutting at once would lose the
answer on its way."""


TOO_LONG = Message("The request's headers are too long.")
MALFORMED = Message("This is not a valid HTTP request.")


def allow_many() -> None:
    """Let this process have many connections: one that waits costs a file handle and little else, and the usual 1,024
    would be the first to run out."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MAX_FILES), most))


class LimitedConnection(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._in_head, self._head_bytes = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cut_after("head", HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        for what in list(self._timers):
            self._in_time(what)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if "head" not in self._timers:  # a kept connection begins its next request
                self._cut_after("head", HEAD_SECONDS)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response(TOO_LONG)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn itself refuses, and what is too long, in the error shape of all that answers here."""
        sentence = msg if isinstance(msg, Message) else MALFORMED
        error: dict[str, Any] = {
            "code": "invalid",
            "message": sentence,
            "said": said(sentence),
            "details": [],
            "request_id": None,
        }
        body = json.dumps({"error": error}).encode()
        headers = [*self.server_state.default_headers, (b"content-type", b"application/json")]
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([b"HTTP/1.1 400 Bad Request\r\n", *lines, b"\r\n", body]))
        self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._in_time("head")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._in_time("rest")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body:
            self._cut_after("rest", LINGER_SECONDS)

    def pause_writing(self) -> None:
        self._cut_after("writing", WRITE_SECONDS)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._in_time("writing")
        super().resume_writing()

    def _cut_after(self, what: str, seconds: float) -> None:
        self._in_time(what)
        self._timers[what] = self.loop.call_later(seconds, self.transport.abort)

    def _in_time(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()
