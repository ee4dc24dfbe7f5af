"""Nodes, deployments, predictions; and what a node itself tells the platform."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pst.messages import Message
from pst_client.api import API, Json, given
from pst_client.contract import (
    MOST_INPUTS,
    MOST_QUESTION_BYTES,
    PREDICT_PREFIX,
    Caller,
    CallerQuery,
    NodeOrders,
    NodeRegistered,
    NodeRegistration,
    NodeStatus,
)
from pst_client.errors import PlatformError

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

    def caller_token(self, deployment_id: str) -> Json:
        """``{"token", "expires_at"}``: to ask the serving nodes of a deployment with, for some minutes."""
        return self._http.mapping("POST", f"{API}/deployments/{deployment_id}/token", idempotent=True)

    def find_deployment(self, name: str) -> Json:
        """The deployment workspace/name. Raises PlatformError ``not_found``."""
        found = [item for item in self.deployments() if f"{item['workspace']}/{item['name']}" == name]
        if not found:
            message = Message("There is no deployment {name}, or you have no access to it.", name=name)
            raise PlatformError("not_found", message, status=404)
        return found[0]

    def ask(self, name: str, inputs: list[Any], *, top_k: int | None = None, node_url: str | None = None) -> Json:
        """What the deployment workspace/name says to ``inputs``, any number of texts or mappings of ``text`` and
        ``text_pair``: the node's answer, put together where they are sent in parts.

        The nodes that are ready are asked in any order until one answers; ``node_url`` names the one to ask. They are
        shown a token that can ask this deployment and nothing else.
        """
        if node_url is not None and (self._http.token or "").startswith(PREDICT_PREFIX):
            return self._ask_in_parts([node_url], name, inputs, top_k, str(self._http.token))
        deployment = self.find_deployment(name)
        addresses = [node_url] if node_url is not None else _ready(deployment)
        return self._ask_in_parts(addresses, name, inputs, top_k, self.caller_token(deployment["id"])["token"])

    def _ask_in_parts(self, addresses: list[str], name: str, inputs: list[Any], top_k: int | None, token: str) -> Json:
        answer: Json = {}
        for part in parts(inputs):
            more = self._ask_any(addresses, name, part, top_k, token)
            if answer and more["commit"] != answer["commit"]:
                raise PlatformError(
                    "moved",
                    Message(
                        "{name} moved from version {before} to {after} in the midst; ask again.",
                        name=name,
                        before=answer["version"],
                        after=more["version"],
                    ),
                )
            predictions = [*answer.get("predictions", []), *more["predictions"]]
            spent = round(answer.get("milliseconds", 0) + more["milliseconds"], 3)
            answer = {**more, "predictions": predictions, "milliseconds": spent}
        return answer

    def _ask_any(self, addresses: list[str], name: str, inputs: list[Any], top_k: int | None, token: str) -> Json:
        """The first node's answer that can be had; it goes to the front for the next question."""
        trouble: PlatformError | None = None
        for address in list(addresses):
            others = len(addresses) > 1
            try:
                answer = self.predict(address, name, inputs, token=token, top_k=top_k, tries=1 if others else None)
            except PlatformError as error:
                if not error.passing and error.status != 404:  # it is not this node, but the question
                    raise
                trouble = trouble or error
                addresses.remove(address)
                addresses.append(address)
                continue
            return answer
        raise trouble or AssertionError("there was a node to ask")

    def predict(
        self,
        node_url: str,
        name: str,
        inputs: list[Any],
        *,
        token: str,
        top_k: int | None = None,
        tries: int | None = None,
    ) -> Json:
        """Ask the serving node at ``node_url`` once, with a predict token. Returns ``{"model", "version", "commit",
        "predictions", "milliseconds"}``."""
        address = f"{node_url.rstrip('/')}/v1/models/{quote(name)}/predict"
        body = {"inputs": inputs, **given(top_k=top_k)}
        # The same question has the same answer, so it may be asked again.
        answer = self._http.mapping("POST", address, json=body, idempotent=True, token=token, tries=tries)
        predictions = answer.get("predictions")
        if not {"commit", "version", "milliseconds"} <= set(answer) or len(predictions or ()) != len(inputs):
            message = Message("{url} gave no such answer as a serving node does: is it a node's address?", url=node_url)
            raise PlatformError("not_json", message, status=200)
        return answer


def _ready(deployment: Json) -> list[str]:
    """Addresses of the nodes that are ready to answer, in any order, so that callers spread over them."""
    placements = deployment["placements"]
    found = [str(item["url"]) for item in placements if item["state"] == "ready" and item["online"]]
    if not found:
        name = f"{deployment['workspace']}/{deployment['name']}"
        states = "; ".join(f"{item['node']}: {item['message'] or item['state']}" for item in placements)
        message = Message(
            "No node is ready to answer for {name} ({states}).", name=name, states=states or "no node has it"
        )
        raise PlatformError("not_ready", message)
    random.shuffle(found)
    return found


def parts(inputs: list[Any]) -> Iterator[list[Any]]:
    """``inputs`` in parts that a serving node takes at once."""
    part: list[Any] = []
    room = MOST_QUESTION_BYTES // 2
    for item in inputs:
        size = len(json.dumps(item)) + 2  # what is not ASCII is counted with its escapes: more than is sent
        if part and (len(part) == MOST_INPUTS or size > room):
            yield part
            part, room = [], MOST_QUESTION_BYTES // 2
        part.append(item)
        room -= size
    yield part


class Node:
    """Node token. Workers use it too, to be seen as online."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def register(self, registration: NodeRegistration) -> NodeRegistered:
        body = registration.model_dump(mode="json")
        return NodeRegistered.read(self._http.json("POST", f"{API}/node/register", json=body, idempotent=True))

    def heartbeat(self, status: NodeStatus) -> NodeOrders:
        body = status.model_dump(mode="json")
        return NodeOrders.read(self._http.json("POST", f"{API}/node/heartbeat", json=body, idempotent=True))

    def caller(self, token_sha256: str, *, timeout: float) -> Caller:
        """Whose predict token it is; asked once. Serving nodes alone. Raises PlatformError ``unknown_token``."""
        body = CallerQuery(token_sha256=token_sha256).model_dump(mode="json")
        answer = self._http.json("POST", f"{API}/node/caller", json=body, tries=1, timeout=timeout)
        return Caller.read(answer)
