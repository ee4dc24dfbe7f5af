"""How fast a model's folder runs on this machine, by each engine that is here: what ``pst bench`` prints.

All engines read the same random tokens, in turns in one process (:mod:`pst.report.timing`), and their answers are
compared with torch's in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pst_native
import torch
from pst_native import Precision
from torch import Tensor

from pst import tasks
from pst.errors import PSTError
from pst.files.formats import SPARSE_FOLDER
from pst.messages import Message
from pst.model.data import Encoded
from pst.model.loading import load_model, read_config
from pst.native.model import NativeModel, allowed, available, int8, serves
from pst.native.modules import bytes_of, load_compact
from pst.plan.families import ModelDescription
from pst.report import timing

SEED = 0
TORCH, MAPS = "torch float32", "torch, sparse maps"

Logits = Callable[[], Tensor]


def bench(folder: Path, *, rows: Sequence[int], tokens: Sequence[int], threads: int) -> dict[str, Any]:
    """``{"folder", "threads", "instructions", "engines": {name: {"bytes", "serves"}}, "shapes": [..]}``; each shape has
    ``rows``, ``tokens`` and by engine ``p50_ms``, ``p95_ms``, ``speedup`` over torch in float32, its ``interval``, and
    the largest ``difference`` of an answer.

    Raises :class:`PSTError` for a folder without a model, or a text longer than the model takes.
    """
    torch.set_num_threads(threads)
    config = read_config(folder)
    name = tasks.name_of(config)
    labels = [] if name == "generation" else list(config.get("id2label") or {"0": "", "1": ""})
    model = load_model(folder, name, labels, SEED)
    longest = ModelDescription(config, name).max_tokens
    if max(tokens) > longest:
        raise PSTError(
            Message("The model takes {longest} tokens at most, not {asked}.", longest=longest, asked=max(tokens))
        )
    models, served = {TORCH: model, "torch bfloat16": deepcopy(model).bfloat16()}, TORCH
    native = _native(folder, threads)
    if native:
        served = "sparse int8" if Precision.INT8 in allowed(folder) and "sparse int8" in native else "sparse float32"
    elif available() and (folder / SPARSE_FOLDER).is_dir():
        maps, packed = load_compact(folder, ModelDescription(config, name), packs=True)
        if packed:
            models[MAPS], served = maps, MAPS
    sizes = {engine: bytes_of(held) for engine, held in models.items()}
    sizes |= {engine: held.encoder.bytes for engine, held in native.items()}
    engines = {engine: {"bytes": size, "serves": engine == served} for engine, size in sizes.items()}
    vocabulary = model.get_input_embeddings().get_parameter("weight").shape[0]
    result: list[dict[str, Any]] = []
    generator = torch.Generator().manual_seed(SEED)
    for count in rows:
        for length in tokens:
            ids = torch.randint(vocabulary, (count, length), generator=generator)
            if model.config.is_encoder_decoder:
                ids[:, -1] = model.config.eos_token_id  # by which heads of T5 and BART find the end
            calls = {engine: _torch(held, ids) for engine, held in models.items()}
            calls |= {engine: _sparse(held, ids) for engine, held in native.items()}
            result.append({"rows": count, "tokens": length, "engines": _measured(calls)})
    return {
        "folder": str(folder),
        "threads": threads,
        "instructions": pst_native.in_use() if available() else None,
        "engines": engines,
        "shapes": result,
    }


def table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The head and the lines that people read."""
    engines, shapes = found["engines"], found["shapes"]
    lines = []
    for shape in shapes:
        times = [shape["engines"][name] for name in engines]
        cells = [f"{time['p50_ms']:.2f} ({time['speedup']:.1f}x)" for time in times]
        lines.append([f"ms, {shape['rows']} x {shape['tokens']} tokens", *cells])
    lines.append(["MB of weights", *(f"{engine['bytes'] / 1e6:.1f}" for engine in engines.values())])
    largest = (max(shape["engines"][name]["difference"] for shape in shapes) for name in engines)
    lines.append(["largest difference", *(f"{difference:.2g}" for difference in largest)])
    return ["", *(f"{name} *" if engine["serves"] else name for name, engine in engines.items())], lines


def _native(folder: Path, threads: int) -> dict[str, NativeModel]:
    if not available() or not serves(folder):
        return {}
    kinds = [Precision.FLOAT32, Precision.INT8] if int8() else [Precision.FLOAT32]
    return {f"sparse {kind.name.lower()}": NativeModel(folder, threads, frozenset({kind})) for kind in kinds}


def _torch(model: Any, ids: Tensor) -> Logits:
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids

    def run() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(**inputs).logits
            return logits

    return run


def _sparse(model: NativeModel, ids: Tensor) -> Logits:
    rows = [Encoded(row, None) for row in ids.tolist()]
    return lambda: model.logits(rows)


def _measured(calls: Mapping[str, Logits]) -> dict[str, dict[str, Any]]:
    wanted = calls[TORCH]()
    seconds = timing.in_turns(calls)
    return {
        name: timing.milliseconds(seconds[name])
        | timing.speedup(seconds[TORCH], seconds[name], SEED)
        | {"difference": float((call().float() - wanted).abs().max())}
        for name, call in calls.items()
    }
