"""Asking a deployment through the platform, for those whose browser cannot reach the serving nodes.

The node is asked as anybody asks it: with a predict token, made for this one question. Whoever runs the node can do
nothing with it but ask the same deployment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import structlog
from django.core.cache import cache
from pydantic import BaseModel, ValidationError

from hub.accounts.actor import Actor
from hub.accounts.addresses import RefusedAddress, TookLong
from hub.accounts.outbound import CallFailed, TookTooLong, post
from hub.accounts.services.tokens import delete_token
from hub.core.errors import Conflict, UserError
from hub.core.slots import slot
from hub.serving.models import Deployment, HeldState, Placement
from hub.serving.services import callers
from pst.messages import Message, recall

log = structlog.get_logger(__name__)

DEADLINE = 30.0
"""Seconds for the whole answer."""
QUESTIONS_OF_A_WORKSPACE = 2
"""At a time, of the threads of the web tier that wait for others (config.front)."""
SLOW_QUESTIONS = 4
"""At a time, of all workspaces together whose nodes were silent lately: half of those threads."""
SLOW = timedelta(minutes=10)
MOST_BYTES = 1024 * 1024
"""Of an answer."""
TOKEN_LIVES = timedelta(seconds=60)
MAX_MESSAGE = 500


class NodeTrouble(UserError):
    """The node can't be reached, or its answer can't be understood."""

    status = 502
    code = "node_unreachable"


class SilentNode(NodeTrouble):
    """No other is asked instead: the time is over."""


class Busy(UserError):
    status = 429
    code = "busy"


class Prediction(BaseModel):
    """Of one input: a label with its score and every label's probability, or what the model wrote."""

    label: str | list[str] | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    text: str | None = None


class NodeAnswer(BaseModel):
    """What of a node's answer is passed on."""

    version: int | None
    commit: str
    predictions: list[Prediction]
    milliseconds: float


class Answer(NodeAnswer):
    deployment: str
    node: str
    round_trip_milliseconds: float


def ask(*, actor: Actor, deployment: Deployment, question: dict[str, Any]) -> Answer:
    """The deployment's answer to ``question``, a predict body of a serving node, from a node that is ready.

    Raises Conflict when none is, UserError where the node refuses the question, NodeTrouble when none can be reached.
    """
    placements = [
        item
        for item in Placement.objects.filter(deployment=deployment, state=HeldState.READY).select_related("node")
        if item.node.online
    ]
    if not placements:
        raise Conflict(
            Message("No node is ready to answer for {deployment} yet.", deployment=deployment), code="not_ready"
        )
    with _asking(deployment):
        return _ask(actor, deployment, placements, question)


@contextmanager
def _asking(deployment: Deployment) -> Iterator[None]:
    """Few questions of a workspace at a time, and few of all those whose nodes were silent lately: one that waits for
    a node holds a thread, and all workspaces share them. Raises :class:`Busy`."""
    workspace = deployment.workspace_id
    with ExitStack() as held:
        taken = held.enter_context(slot(f"asking:{workspace}", QUESTIONS_OF_A_WORKSPACE, seconds=2 * DEADLINE))
        if taken and cache.get(f"asking-slow:{workspace}"):
            taken = held.enter_context(slot("asking-slow", SLOW_QUESTIONS, seconds=2 * DEADLINE))
        if not taken:
            raise Busy(
                Message("{deployment} has enough questions under way; ask again in a moment.", deployment=deployment)
            )
        yield


def _ask(actor: Actor, deployment: Deployment, placements: list[Placement], question: dict[str, Any]) -> Answer:
    token, secret = callers.issue(actor=actor, deployment=deployment, name="playground", lives=TOKEN_LIVES)
    trouble: NodeTrouble | None = None
    ends = time.monotonic() + DEADLINE
    try:
        for placement in placements:
            try:
                return _ask_node(placement, str(deployment), question, secret, ends - time.monotonic())
            except SilentNode:
                cache.set(f"asking-slow:{deployment.workspace_id}", 1, timeout=SLOW.total_seconds())
                raise
            except NodeTrouble as error:
                log.warning("node_unreachable", node=placement.node.name, error=error.message)
                trouble = error
    finally:
        delete_token(token=token)
    raise trouble or AssertionError("there was a placement to ask")


def _ask_node(placement: Placement, name: str, question: dict[str, Any], secret: str, seconds: float) -> Answer:
    node = placement.node
    began = time.perf_counter()
    # A node of the whole installation was named by whoever runs it; one of a workspace, by its owners.
    trusted = node.workspace_id is None
    headers = {"Authorization": f"Bearer {secret}"}
    url = f"{(node.inner_url or node.url).rstrip('/')}/v1/models/{name}/predict"
    try:
        status, body = post(
            url, json.dumps(question).encode(), headers, trusted=trusted, seconds=seconds, max_bytes=MOST_BYTES
        )
    except RefusedAddress as error:
        kind = SilentNode if isinstance(error, TookLong) else NodeTrouble
        raise kind(Message("The node {node} can't be asked: {why}", node=node.name, why=error.message)) from None
    except TookTooLong:
        raise SilentNode(
            Message("The node {node} did not answer within {deadline:g} seconds.", node=node.name, deadline=DEADLINE)
        ) from None
    except CallFailed:
        raise NodeTrouble(Message("The node {node} can't be reached at {url}.", node=node.name, url=node.url)) from None
    elapsed = (time.perf_counter() - began) * 1000
    if status == 400:
        raise UserError(_message(body) or Message("The node {node} does not take these inputs.", node=node.name))
    if status != 200:
        raise NodeTrouble(
            _message(body) or Message("The node {node} answered {status}.", node=node.name, status=status),
            code="node_failed",
        )
    try:
        answer = NodeAnswer.model_validate_json(body)
    except ValidationError:
        raise NodeTrouble(
            Message(
                "The node {node} answered what this platform does not understand; is it of the same version?",
                node=node.name,
            ),
            code="node_failed",
        ) from None
    return Answer(**answer.model_dump(), deployment=name, node=node.name, round_trip_milliseconds=round(elapsed, 3))


def _message(body: bytes) -> str:
    """The sentence of an answer in the product's error shape."""
    try:
        error = json.loads(body)["error"]
        message, how = error["message"], error.get("said")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    if not isinstance(message, str):
        return ""
    return recall(message, how) if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE]
