"""What both interfaces of the node share: who asks, what the body holds, and the answer of a version."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pst.messages import Message
from pst_client.contract import MOST_INPUTS, MOST_QUESTION_BYTES, PREDICT_PREFIX, Caller
from pst_serve import meters
from pst_serve.authentication import AuthenticatorUnavailable, TokenAuthenticator, Unauthorized, WrongTokenKind, bearer
from pst_serve.batching import Overloaded
from pst_serve.cache import ModelCache, Version
from pst_serve.engine import Answer, BadInput, Input

LONGEST_TEXT = 20_000
GONE = 499
"""What nginx calls a caller who has gone away; seen by middleware alone."""
BODY_SECONDS = 30.0
"""In this time a question comes whole."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)]


Shape = TypeVar("Shape", bound=BaseModel)


class Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Text
    text_pair: Text | None = None


def _plain(value: Any) -> Any:
    """A bare text is short for ``{"text": …}``."""
    return {"text": value} if isinstance(value, str) else value


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inputs: list[Annotated[Pair, BeforeValidator(_plain)]] = Field(min_length=1)
    top_k: int | None = Field(default=None, ge=1)


class ApiError(Exception):
    """An answer in the error shape."""

    def __init__(self, status: int, code: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details or []


@dataclass(frozen=True)
class Answered:
    version: Version
    rows: Sequence[Answer]
    milliseconds: float


@dataclass(frozen=True)
class Asker:
    """Asks the loaded versions for callers who may."""

    cache: ModelCache
    authenticator: TokenAuthenticator

    async def admit(self, request: Request) -> tuple[str, Caller]:
        """The name that the address means, and the caller, who may ask it."""
        workspace, name = request.path_params["workspace"], request.path_params["name"]
        caller = await self.caller(request)
        if not caller.may_ask(workspace, name):
            raise _absent(f"{workspace}/{name}")
        return f"{workspace}/{name}", caller

    def version(self, name: str) -> Version:
        version = self.cache.names().get(name)
        if version is None:
            raise _absent(name)
        return version

    async def answer(self, request: Request, name: str, caller: Caller, question: Question) -> Answered | None:
        """None: the caller has gone away."""
        with self.cache.use(name) as version:
            if version is None:
                raise _absent(name)
            begin = time.perf_counter()
            inputs = [Input(item.text, item.text_pair) for item in question.inputs]
            try:
                answer = version.batcher.submit(inputs, caller.caller)
            except Overloaded:
                message = Message("More waits for an answer than this node holds; ask again in a moment.")
                raise ApiError(429, "overloaded", message) from None
            try:
                rows = await _while_there(request, asyncio.wrap_future(answer))
            except BadInput as error:
                raise ApiError(422, "invalid", error.args[0]) from None
            if rows is None:
                return None
            seconds = time.perf_counter() - begin
            meters.ROWS.labels(name).inc(len(rows))
            meters.SECONDS.labels(name).observe(seconds)
            return Answered(version, rows, seconds * 1000)

    async def caller(self, request: Request) -> Caller:
        token = bearer(request.headers)
        if not token:
            message = Message(
                "Send a predict token of the platform: Authorization: Bearer {prefix}...", prefix=PREDICT_PREFIX
            )
            raise ApiError(401, "not_authenticated", message)
        try:
            known = self.authenticator.known(token)
            return known if known is not None else await run_in_threadpool(self.authenticator.caller, token)
        except WrongTokenKind:
            message = Message(
                "A serving node takes predict tokens alone, which begin with {prefix}: make one in the settings of the "
                "platform. What you sent may do more than ask; if you do not trust this node, revoke it.",
                prefix=PREDICT_PREFIX,
            )
            raise ApiError(401, "wrong_token", message) from None
        except Unauthorized:
            raise ApiError(401, "authentication_failed", Message("The token is unknown, expired or revoked.")) from None
        except AuthenticatorUnavailable:
            message = Message("The platform can't be asked about this token now; try again in a moment.")
            raise ApiError(503, "unavailable", message) from None


def _absent(name: str) -> ApiError:
    workspace, _, name = name.partition("/")
    message = Message(
        "This node serves no {workspace}/{name}, or you have no access to it.", workspace=workspace, name=name
    )
    return ApiError(404, "not_found", message)


Endpoint = Callable[[Request], Awaitable[Response]]


def counted(interface: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint, with its answers counted by their status."""

    async def wrapped(request: Request) -> Response:
        status = 500
        try:
            response = await endpoint(request)
            status = response.status_code
            return response
        except ApiError as error:
            status = error.status
            raise
        finally:
            meters.REQUESTS.labels(interface, str(status)).inc()

    return wrapped


async def _while_there(request: Request, answer: asyncio.Future[Sequence[Answer]]) -> Sequence[Answer] | None:
    """The answer, or None once the caller has gone away: what he asked is then cancelled."""
    gone = asyncio.create_task(_disconnected(request))
    either: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return await answer if answer.done() else None
    finally:
        gone.cancel()
        answer.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def body_of(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > MOST_QUESTION_BYTES:
                    message = Message(
                        "The request has more than {most:,} bytes; send fewer texts at once.", most=MOST_QUESTION_BYTES
                    )
                    raise ApiError(413, "too_large", message)
                parts.append(part)
    except TimeoutError:
        message = Message("The body of the request broke off or came too slowly; send it again.")
        raise ApiError(408, "too_slow", message) from None
    return b"".join(parts)


def json_of(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "parse_error", Message("The request's body is not JSON.")) from None


def question_of(value: Any) -> Question:
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if isinstance(inputs, list) and len(inputs) > MOST_INPUTS:
        message = Message(
            "inputs has {count} entries; send at most {most} at once.",
            count=len(inputs),
            most=MOST_INPUTS,
        )
        raise ApiError(413, "too_large", message, [{"field": "inputs", "message": message}])
    return parse(Question, value)


def parse(kind: type[Shape], value: Any) -> Shape:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        details = [_detail(item) for item in error.errors(include_url=False, include_input=False)]
        first = details[0]
        raise ApiError(400, "invalid", Message("{field}: {message}", **first), details) from None


def _detail(item: Any) -> dict[str, str]:
    return {"field": ".".join(str(part) for part in item["loc"]) or "body", "message": item["msg"]}
