"""The serving node's HTTP interface.

Callers send a predict token of the platform (``Authorization: Bearer sw_p_...``).

POST /v1/models/{workspace}/{name}/predict   {"inputs": [text | {"text", "text_pair"}], "top_k"?}
     each prediction: {"label", "score", "probabilities"}; of several labels {"label": [...], "probabilities"};
     of regression {"score"}; of generation {"text"}
GET  /v1/models                              what the caller may ask
GET  /healthz                                the process lives
GET  /readyz                                 every version that this node shall serve is loaded
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pst.messages import Message, said
from pst.native.inference import prediction
from pst_client.contract import MOST_INPUTS, MOST_QUESTION_BYTES, PREDICT_PREFIX, Caller
from pst_serve.authentication import AuthenticatorUnavailable, TokenAuthenticator, Unauthorized, WrongTokenKind
from pst_serve.batching import Overloaded
from pst_serve.cache import ModelCache, Version
from pst_serve.engine import Answer, BadInput, Input

LONGEST_TEXT = 20_000
BODY_SECONDS = 30.0
"""In this time a question comes whole."""
GONE = 499
"""What nginx calls a caller who has gone away; seen by middleware alone."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT)]


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


def make_app(
    cache: ModelCache, authenticator: TokenAuthenticator, problem: Callable[[], str | None], stop: Callable[[], None]
) -> Starlette:
    """``problem`` says why the node is not ready; ``stop`` is called, in a thread, when the server shuts down."""

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        reason = problem()
        if reason is not None:
            raise ApiError(503, "not_ready", reason)
        return JSONResponse({"status": "ready", "models": sorted(cache.names())})

    async def models(request: Request) -> Response:
        caller = await _caller(request, authenticator)
        found = [(name, version) for name, version in cache.names().items() if caller.may_ask(*name.split("/", 1))]
        results = [
            _identity(name, version)
            | {"task": version.batcher.model.task, "labels": list(version.batcher.model.labels)}
            for name, version in found
        ]
        return JSONResponse({"models": sorted(results, key=lambda item: str(item["model"]))})

    async def predict(request: Request) -> Response:
        workspace, name = request.path_params["workspace"], request.path_params["name"]
        caller = await _caller(request, authenticator)
        absent = ApiError(
            404,
            "not_found",
            Message(
                "This node serves no {workspace}/{name}, or you have no access to it.", workspace=workspace, name=name
            ),
        )
        if not caller.may_ask(workspace, name):
            raise absent
        question = _parse(await _body(request))
        with cache.use(f"{workspace}/{name}") as version:
            if version is None:
                raise absent
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
                return Response(status_code=GONE)  # nobody reads it
            milliseconds = (time.perf_counter() - begin) * 1000
            model = version.batcher.model
            return JSONResponse(
                _identity(f"{workspace}/{name}", version)
                | {
                    "predictions": [prediction(model.task, model.labels, row, question.top_k) for row in rows],
                    "milliseconds": round(milliseconds, 3),
                }
            )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(stop)

    return Starlette(
        routes=[
            Route("/v1/models/{workspace}/{name}/predict", predict, methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", live),
            Route("/readyz", ready),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _broken},
        lifespan=lifespan,
    )


async def _caller(request: Request, authenticator: TokenAuthenticator) -> Caller:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        message = Message(
            "Send a predict token of the platform: Authorization: Bearer {prefix}...", prefix=PREDICT_PREFIX
        )
        raise ApiError(401, "not_authenticated", message)
    try:
        known = authenticator.known(token)
        return known if known is not None else await run_in_threadpool(authenticator.caller, token)
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


async def _body(request: Request) -> bytes:
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


def _parse(body: bytes) -> Question:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "parse_error", Message("The request's body is not JSON.")) from None
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if isinstance(inputs, list) and len(inputs) > MOST_INPUTS:
        message = Message(
            "inputs has {count} entries; send at most {most} at once.",
            count=len(inputs),
            most=MOST_INPUTS,
        )
        raise ApiError(413, "too_large", message, [{"field": "inputs", "message": message}])
    try:
        return Question.model_validate(value)
    except ValidationError as error:
        details = [_detail(item) for item in error.errors(include_url=False, include_input=False)]
        first = details[0]
        raise ApiError(400, "invalid", Message("{field}: {message}", **first), details) from None


def _detail(item: Any) -> dict[str, str]:
    return {"field": ".".join(str(part) for part in item["loc"]) or "body", "message": item["msg"]}


def _identity(name: str, version: Version) -> dict[str, Any]:
    return {"model": name, "repo": version.repo, "version": version.number, "commit": version.commit}


def _error(request: Request, status: int, code: str, message: str, details: list[dict[str, Any]]) -> Response:
    identity = request.headers.get("X-Request-ID", "")[:100] or uuid.uuid4().hex
    error = {"code": code, "message": message, "said": said(message), "details": details, "request_id": identity}
    body = {"error": error}
    headers = {"X-Request-ID": identity}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="sparsewright"'
    if status in (429, 503):
        headers["Retry-After"] = "1"
    return JSONResponse(body, status_code=status, headers=headers)


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 (registered for this class alone)
    return _error(request, error.status, error.code, error.message, error.details)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for this class alone)
    message = Message("There is no such address.") if error.status_code == 404 else error.detail
    return _error(request, error.status_code, "not_found" if error.status_code == 404 else "invalid", message, [])


async def _broken(request: Request, error: Exception) -> Response:
    message = Message("Something broke on the serving node; its log has the details.")
    return _error(request, 500, "server_error", message, [])
