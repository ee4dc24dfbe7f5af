"""Serving nodes that speak to the API as the real ones do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from hub.accounts.models import ApiToken, Workspace
from hub.serving.models import Node
from tests.factories.accounts import bearer, node_secret


@dataclass
class FakeNode:
    """A registered node: its id, its token's client, its heartbeat, and what it last said that it holds."""

    id: str
    secret: str
    client: APIClient
    held: tuple[dict[str, Any], ...] = ()

    def beat(self, *held: dict[str, Any]) -> list[dict[str, Any]]:
        """Report ``held`` and return what the node shall hold."""
        self.held = held
        answer = self.client.post("/api/v1/node/heartbeat", {"node_id": self.id, "held": list(held), "load": {}})
        assert answer.status_code == 200, answer.content
        wanted: list[dict[str, Any]] = answer.json()["wanted"]
        return wanted

    def hold(self, state: str = "ready") -> list[dict[str, Any]]:
        """Report every wanted version as held in ``state``; what it was told to hold."""
        wanted = self.beat(*self.held)
        return self.beat(
            *({"deployment_id": item["deployment_id"], "commit": item["commit"], "state": state} for item in wanted)
        )

    def vanish(self, seconds: int = 3600) -> None:
        """Make its last sign of life that old."""
        Node.objects.filter(pk=self.id).update(last_seen_at=timezone.now() - timedelta(seconds=seconds))


def register(client: APIClient, **given: Any) -> Any:
    """What the platform answers to a node that says who it is."""
    body = {"kind": "serve", "version": "1.0", "url": f"http://{given['name']}:9000", "hardware": {"cores": 2}}
    return client.post("/api/v1/node/register", body | given)


def serving_node(
    name: str, *, secret: str | None = None, workspace: Workspace | None = None, kind: str = "serve"
) -> FakeNode:
    """A node with a token of its own unless given; installation-wide unless a workspace is."""
    secret = secret or node_secret(name, workspace=workspace, kind=kind)
    client = bearer(secret)
    answer = register(client, name=name, kind=kind)
    assert answer.status_code == 200, answer.content
    return FakeNode(id=answer.json()["node_id"], secret=secret, client=client)


def profile(gain: float = 1.0) -> dict[str, Any]:
    """What a node may have measured of itself; its engine skips a share ``gain`` of the zeros."""
    shares = [0.0, 0.5, 0.9, 0.99]
    return {
        "measured_at": "2026-11-24T10:00:00Z",
        "sparse": None,
        "times": {
            "engine": "expanding",
            "device": "EPYC",
            "threads": 2,
            "software": "torch 2.13",
            "sparsities": shares,
            "products": [
                {
                    "rows": n,
                    "columns": n,
                    "tokens": tokens,
                    "seconds": [1e-9 * n * n * tokens * (1 - gain * share) for share in shares],
                }
                for n in (16, 256)
                for tokens in (1, 512)
            ],
            "layers": [
                {"width": width, "tokens": tokens, "seconds": 1e-8 * width * tokens}
                for width in (16, 256)
                for tokens in (8, 512)
            ],
            "fixed_seconds": 1e-5,
        },
    }


ANSWER = {
    "model": "acme/desk",
    "version": 1,
    "commit": "0" * 40,
    "predictions": [{"label": "shipping", "score": 0.9, "probabilities": {"shipping": 0.9, "billing": 0.1}}],
    "milliseconds": 3.5,
    "secret_of_the_node": "not passed on",
}


class Answering:
    """A node's HTTP side that answers what it is told to and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(ANSWER).encode()
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: list[ApiToken | None] = []
        self.answer: Callable[[Any], list[Any]] | None = None
        """Makes the predictions, in the place of those of ``body``."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, self.headers["Host"], content))
                outer.tokens.append(self._token())
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                made = outer.answer and json.dumps(ANSWER | {"predictions": outer.answer(content)}).encode()
                self.wfile.write(made or outer.body)

            def _token(self) -> ApiToken | None:
                digest = ApiToken.hash(self.headers["Authorization"].removeprefix("Bearer "))
                found = ApiToken.objects.usable().select_related("user", "workspace").filter(digest=digest).first()
                connection.close()
                return found

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"
