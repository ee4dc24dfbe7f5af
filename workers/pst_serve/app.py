"""The serving node's HTTP interface.

Callers send a predict token of the platform (``Authorization: Bearer sw_p_...``).

POST /v1/models/{workspace}/{name}/predict   {"inputs": [text | {"text", "text_pair"}], "top_k"?}
     each prediction: {"label", "score", "probabilities"}; of several labels {"label": [...], "probabilities"};
     of regression {"score"}; of generation {"text"}
GET  /v1/models                              what the caller may ask
GET  /healthz                                the process lives
GET  /readyz                                 every version that this node shall serve is loaded
GET  /metrics                                for Prometheus, with the token that the node's settings hold
/v2/...                                      the Open Inference Protocol (:mod:`pst_serve.open_inference`)
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pst.messages import Message, said
from pst.native.inference import prediction
from pst_serve import meters, open_inference
from pst_serve.asking import GONE, ApiError, Asker, body_of, counted, json_of, question_of
from pst_serve.authentication import TokenAuthenticator, bearer
from pst_serve.cache import ModelCache, Version


def make_app(
    cache: ModelCache,
    authenticator: TokenAuthenticator,
    problem: Callable[[], str | None],
    stop: Callable[[], None],
    *,
    metrics_token: str | None = None,
) -> Starlette:
    """``problem`` says why the node is not ready; ``stop`` is called, in a thread, when the server shuts down. Without
    a ``metrics_token`` nobody reads the metrics: they name the deployments of every workspace."""
    asker = Asker(cache, authenticator)

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        reason = problem()
        if reason is not None:
            raise ApiError(503, "not_ready", reason)
        return JSONResponse({"status": "ready", "models": sorted(cache.names())})

    async def models(request: Request) -> Response:
        caller = await asker.caller(request)
        found = [(name, version) for name, version in cache.names().items() if caller.may_ask(*name.split("/", 1))]
        results = [
            _identity(name, version)
            | {"task": version.batcher.model.task, "labels": list(version.batcher.model.labels)}
            for name, version in found
        ]
        return JSONResponse({"models": sorted(results, key=lambda item: str(item["model"]))})

    async def predict(request: Request) -> Response:
        name, caller = await asker.admit(request)
        question = question_of(json_of(await body_of(request)))
        found = await asker.answer(request, name, caller, question)
        if found is None:
            return Response(status_code=GONE)  # nobody reads it
        model = found.version.batcher.model
        return JSONResponse(
            _identity(name, found.version)
            | {
                "predictions": [prediction(model.task, model.labels, row, question.top_k) for row in found.rows],
                "milliseconds": round(found.milliseconds, 3),
            }
        )

    async def metrics(request: Request) -> Response:
        if metrics_token is None:
            raise HTTPException(404)
        if not hmac.compare_digest(bearer(request.headers).encode(), metrics_token.encode()):
            message = Message("Send the token that SPARSEWRIGHT_METRICS_TOKEN of this node holds.")
            raise ApiError(401, "not_authenticated", message)
        meters.look(cache)
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(stop)

    return Starlette(
        routes=[
            Route("/v1/models/{workspace}/{name}/predict", counted("predict", predict), methods=["POST"]),
            Route("/v1/models", models),
            Route("/healthz", live),
            Route("/readyz", ready),
            Route("/metrics", metrics),
            *open_inference.routes(asker, problem),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _broken},
        lifespan=lifespan,
    )


def _identity(name: str, version: Version) -> dict[str, Any]:
    return {"model": name, "repo": version.repo, "version": version.number, "commit": version.commit}


def _error(request: Request, status: int, code: str, message: str, details: list[dict[str, Any]]) -> Response:
    identity = request.headers.get("X-Request-ID", "")[:100] or uuid.uuid4().hex
    error = {"code": code, "message": message, "said": said(message), "details": details, "request_id": identity}
    body: dict[str, Any] = {"error": error}
    if request.url.path.startswith(open_inference.PREFIX + "/"):
        body = {"error": message}  # as the protocol has it
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
