"""Whether the config and the weights of a base model belong together, as far as their headers tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.core.errors import UserError
from pst.messages import Message
from pst.plan.families import ModelDescription, TensorSpec
from pst.plan.foreign import names_code
from pst.plan.planner import BudgetError

CONFIG = "config.json"
TASK = "classification"
"""Every family can do it; the head is no matter, since each job draws its own."""
LABELS = 2
MOST_LABELS = 10_000
MOST_INTEGER = 2**31
MOST_FLOAT = 1e12
Shapes = Mapping[str, tuple[int, ...]]


def check_config(config: Mapping[str, Any]) -> None:
    """Raise UserError for a family that is unknown, and for a size that is missing or beyond all bounds."""
    try:
        _check_numbers(config)
        ModelDescription(config, TASK, LABELS).check()
    except BudgetError as error:
        raise UserError(
            Message("config.json does not describe a base model: {why}.", why=error.message),
            details=[{"file": CONFIG, "message": error.message}],
        ) from None


def _check_numbers(config: Mapping[str, Any]) -> None:
    """Raise BudgetError for a number that no model has: a library makes tables and lists of some that are no size."""
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, (dict, list)):
            if key in ("id2label", "label2id") and len(value) > MOST_LABELS:
                raise BudgetError("base_model", Message("it has more than {most} labels", most=MOST_LABELS))
            waiting.extend(value.items() if isinstance(value, dict) else ((key, item) for item in value))
        elif isinstance(value, (int, float)):
            most = MOST_LABELS if key == "num_labels" else MOST_INTEGER if isinstance(value, int) else MOST_FLOAT
            if not -most <= value <= most:
                message = Message("it gives {key} as {value}", key=key, value=str(value)[:20])
                raise BudgetError("base_model", message)


def check_no_code(content: object, *, name: str) -> None:
    """Raise UserError where a JSON file has a key that makes a library fetch or run code."""
    if key := names_code(content):
        raise UserError(
            Message("{name} has the key {key}, which can make a library load code; remove it.", name=name, key=key),
            code="unsafe_file",
            details=[{"file": name, "message": Message("has the key {key}", key=key)}],
        )


def check_shapes(config: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise UserError where the weights are not those that config.json describes: a matrix or a table is missing, or a
    tensor has other sizes. The rest a job may draw anew, as the head."""
    held, model = _by_name(shapes), ModelDescription(config, TASK, LABELS)
    others: dict[str, list[str]] = {}
    for name, kept in model.tied.items():
        others.setdefault(kept, []).append(name)
    for spec in model.tensors:
        if spec.head:
            continue
        names = [spec.name, *others.get(spec.name, [])]
        found = next((held[name] for each in names for name in (each, each.partition(".")[2]) if name in held), None)
        if found is None and (spec.group is not None or spec.embedding):
            message = Message(
                "The weights have no tensor {tensor}, which config.json asks for; do both belong to one model?",
                tensor=spec.name,
            )
        elif found is not None and found != spec.shape:
            message = _other_shape(spec, found)
        else:
            continue
        raise UserError(message, code="bad_weights", details=[{"file": CONFIG, "message": message}])
    for block in {block.group: block for block in model.blocks}.values():  # the last of each group
        for spec in block.tensors():
            beyond = spec.name.replace(f".{block.layer}.", f".{block.layer + 1}.", 1)
            if beyond != spec.name and (beyond in held or beyond.partition(".")[2] in held):
                message = Message(
                    "The weights have the tensor {tensor}: config.json gives too few layers.", tensor=beyond
                )
                raise UserError(message, code="bad_weights", details=[{"file": CONFIG, "message": message}])


def _by_name(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """As the models name their tensors; old checkpoints name a LayerNorm's gamma and beta."""
    return {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): shape
        for name, shape in shapes.items()
    }


def _other_shape(spec: TensorSpec, found: tuple[int, ...]) -> Message:
    return Message(
        "The tensor {tensor} of the weights has the shape {found}, but config.json asks for {expected}.",
        tensor=spec.name,
        found=" x ".join(map(str, found)),
        expected=" x ".join(map(str, spec.shape)),
    )
