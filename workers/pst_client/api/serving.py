"""Nodes, deployments, predictions; and what a node itself tells the platform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pst_client.api import API, Json, given
from pst_client.contract import NodeOrders, NodeRegistered, NodeRegistration, NodeStatus

if TYPE_CHECKING:
    from pst_client.client import Http


class Serving:
    def __init__(self, http: Http) -> None:
        self._http = http

    def nodes(self, **filters: str | int | None) -> Iterator[Json]:
        """Every node that one can see: workers and serving nodes."""
        return self._http.pages(f"{API}/nodes", given(**filters))

    def deployments(self, **filters: str | int | None) -> Iterator[Json]:
        return self._http.pages(f"{API}/deployments", given(**filters))

    def deployment(self, deployment_id: str) -> Json:
        return self._http.mapping("GET", f"{API}/deployments/{deployment_id}")

    def deploy(
        self,
        *,
        model: str,
        revision: str,
        workspace: str | None = None,
        name: str | None = None,
        replicas: int | None = None,
    ) -> Json:
        body = given(model=model, revision=revision, workspace=workspace, name=name, replicas=replicas)
        return self._http.mapping("POST", f"{API}/deployments", json=body)

    def change(self, deployment_id: str, *, revision: str | None = None, replicas: int | None = None) -> Json:
        body = given(revision=revision, replicas=replicas)
        return self._http.mapping("PATCH", f"{API}/deployments/{deployment_id}", json=body, idempotent=True)

    def undeploy(self, deployment_id: str) -> None:
        self._http.json("DELETE", f"{API}/deployments/{deployment_id}")

    def predict(self, node_url: str, name: str, inputs: list[Any], *, top_k: int | None = None) -> Json:
        """Ask the serving node at ``node_url``; ``name`` is workspace/deployment, ``inputs`` texts or mappings of
        ``text`` and ``text_pair``. Returns ``{"model", "version", "commit", "predictions", "milliseconds"}``."""
        address = f"{node_url.rstrip('/')}/v1/models/{quote(name)}/predict"
        # The same question has the same answer, so it may be asked again.
        return self._http.mapping("POST", address, json={"inputs": inputs, **given(top_k=top_k)}, idempotent=True)


class Node:
    """Node token. Workers use it too, to be seen as online."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def register(self, registration: NodeRegistration) -> NodeRegistered:
        body = registration.model_dump(mode="json")
        return NodeRegistered.model_validate(
            self._http.json("POST", f"{API}/node/register", json=body, idempotent=True)
        )

    def heartbeat(self, status: NodeStatus) -> NodeOrders:
        body = status.model_dump(mode="json")
        return NodeOrders.model_validate(self._http.json("POST", f"{API}/node/heartbeat", json=body, idempotent=True))
