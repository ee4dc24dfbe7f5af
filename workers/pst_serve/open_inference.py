"""The Open Inference Protocol, version 2, over REST (KServe, Triton and MLServer speak it).

GET  /v2, /v2/health/live, /v2/health/ready                 no token
GET  /v2/models/{workspace}/{name}[/ready]                  with a predict token
POST /v2/models/{workspace}/{name}/infer                    BYTES tensors "text" and, for pairs, "text_pair"

A model's name is ``workspace/name``; a client that writes the slash as ``%2F`` reaches the same address.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pst.messages import Message
from pst_client import hardware
from pst_serve.asking import GONE, ApiError, Asker, Question, body_of, counted, json_of, parse, question_of
from pst_serve.engine import Answer, LoadedModel

PREFIX = "/v2"
TEXT, TEXT_PAIR = "text", "text_pair"


Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
"""What is said back to the caller; the bounds also refuse what is no Unicode."""


class Tensor(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    shape: list[Annotated[StrictInt, Field(ge=0)]] = Field(min_length=1, max_length=8)
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] | None = None


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    parameters: dict[str, Any] | None = None


class Inference(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: Name | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=2)
    outputs: list[Wanted] | None = Field(default=None, max_length=8)


def routes(asker: Asker, problem: Callable[[], str | None]) -> list[Route]:
    async def server(request: Request) -> Response:
        return JSONResponse({"name": "sparsewright", "version": hardware.version(), "extensions": []})

    async def live(request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(request: Request) -> Response:
        is_ready = problem() is None
        return JSONResponse({"ready": is_ready}, status_code=200 if is_ready else 503)

    async def model(request: Request) -> Response:
        name, _ = await asker.admit(request)
        version = asker.version(name)
        inputs = [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in (TEXT, TEXT_PAIR)]
        return JSONResponse(
            {
                "name": name,
                "versions": [str(version.number)],
                "platform": "sparsewright",
                "inputs": inputs,
                "outputs": _described(version.batcher.model),
            }
        )

    async def model_ready(request: Request) -> Response:
        name, _ = await asker.admit(request)
        asker.version(name)
        return JSONResponse({"name": name, "ready": True})

    async def infer(request: Request) -> Response:
        name, caller = await asker.admit(request)
        asked = parse(Inference, json_of(await body_of(request)))
        known = [output["name"] for output in _described(asker.version(name).batcher.model)]
        wanted = known if not asked.outputs else [output.name for output in asked.outputs]
        for output in wanted:
            if output not in known:
                message = Message(
                    "{name} has no output {output}; it has {known}.", name=name, output=output, known=", ".join(known)
                )
                raise ApiError(400, "invalid", message)
        found = await asker.answer(request, name, caller, _question(asked.inputs))
        if found is None:
            return Response(status_code=GONE)
        tensors = _outputs(found.version.batcher.model, list(found.rows))
        body: dict[str, Any] = {
            "model_name": name,
            "model_version": str(found.version.number),
            "outputs": [tensor for tensor in tensors if tensor["name"] in wanted],
        }
        if asked.id is not None:
            body["id"] = asked.id
        return JSONResponse(body)

    one = PREFIX + "/models/{workspace}/{name}"
    return [
        Route(PREFIX, server),
        Route(PREFIX + "/health/live", live),
        Route(PREFIX + "/health/ready", ready),
        Route(one, model),
        Route(one + "/ready", model_ready),
        Route(one + "/infer", counted("infer", infer), methods=["POST"]),
    ]


def _question(tensors: list[Tensor]) -> Question:
    """The inputs of the tensors, under the limits of the product's own predict."""
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        if tensor.name not in (TEXT, TEXT_PAIR) or tensor.name in columns:
            message = Message(
                'Send one input "text", and for pairs one "text_pair"; {name} is neither, or comes twice.',
                name=tensor.name,
            )
            raise ApiError(400, "invalid", message)
        columns[tensor.name] = _column(tensor)
    texts = columns.get(TEXT)
    if texts is None:
        raise ApiError(400, "invalid", Message('There is no input "text"; send one of datatype BYTES.'))
    pairs = columns.get(TEXT_PAIR, [None] * len(texts))
    if len(pairs) != len(texts):
        message = Message(
            '"text" has {texts} entries and "text_pair" {pairs}; send as many of each.',
            texts=len(texts),
            pairs=len(pairs),
        )
        raise ApiError(400, "invalid", message)
    # A BYTES tensor has no null: an empty second text is none.
    rows = zip(texts, pairs, strict=True)
    return question_of({"inputs": [{"text": text, "text_pair": None if pair == "" else pair} for text, pair in rows]})


def _column(tensor: Tensor) -> list[Any]:
    """The entries of a tensor of shape [n] or [n, 1], whose data may be nested or flat."""
    if tensor.datatype != "BYTES":
        message = Message("The input {name} has another datatype than BYTES, as which texts come.", name=tensor.name)
        raise ApiError(400, "invalid", message)
    entries = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in tensor.data]
    if tensor.shape[1:] not in ([], [1]) or math.prod(tensor.shape) != len(entries):
        message = Message(
            "The input {name} has {count} entries, which its shape does not say; send the shape [{count}].",
            name=tensor.name,
            count=len(entries),
        )
        raise ApiError(400, "invalid", message)
    return entries


def _described(model: LoadedModel) -> list[dict[str, Any]]:
    """The output tensors; -1 is the number of inputs."""
    if model.task == "generation":
        return [_tensor("text", "BYTES", [-1])]
    if model.task == "regression":
        return [_tensor("score", "FP32", [-1])]
    labels = [
        _tensor("probabilities", "FP32", [-1, len(model.labels)]),
        _tensor("labels", "BYTES", [len(model.labels)]),
    ]
    if model.task == "multilabel":
        return labels
    return [_tensor("label", "BYTES", [-1]), _tensor("score", "FP32", [-1]), *labels]


def _tensor(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _outputs(model: LoadedModel, rows: list[Answer]) -> list[dict[str, Any]]:
    """The tensors of the answers, in the order of their inputs; data is flat, row by row."""
    data: dict[str, list[Any]] = {"text": list(rows)}
    if model.task != "generation":
        numbers = [row for row in rows if not isinstance(row, str)]
        data = {"score": [row[0] if model.task == "regression" else max(row) for row in numbers]}
        if model.task != "regression":
            data["label"] = [model.labels[row.index(max(row))] for row in numbers]
            data["probabilities"] = [chance for row in numbers for chance in row]
            data["labels"] = list(model.labels)
    return [
        tensor
        | {"shape": [len(rows) if size == -1 else size for size in tensor["shape"]], "data": data[tensor["name"]]}
        for tensor in _described(model)
    ]
