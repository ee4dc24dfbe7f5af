"""The measures of cost: operations, time, trained parameters, size; of the dense model and of the exported one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst.files.formats import SPARSE_FOLDER, Compact
from pst.model.data import Encoded
from pst.model.loading import read_config
from pst.native.model import NativeModel, available, serves
from pst.native.modules import bytes_of, load_compact
from pst.plan import engine
from pst.plan.families import ModelDescription
from pst.report import flops, timing
from pst.tasks import Task

LENGTH = 128
BATCHES = (1, 8)
FORMULA = (
    "2 x tokens x weights of each linear map, plus 2 b m n k of each batched product in attention; "
    "sparse counts the weights that are not zero; biases, norms and activations are left out"
)


def inputs_of(
    task: Task, rows: Sequence[Encoded], batch: int, models: Sequence[PreTrainedModel]
) -> tuple[list[Encoded], dict[str, Tensor], dict[str, int]]:
    """Rows, the inputs that all ``models`` take of them, and their shape: ``batch`` times one row, made from the first
    of ``rows`` by repeating it up to a stated number of tokens. Tokens don't change what is counted or timed, so that
    those which a trimmed vocabulary lacks may stand for others."""
    row, length = rows[0], min(LENGTH, task.max_length)
    if not models[0].config.is_encoder_decoder:
        length = max(2, length - len(row.target))  # source and target stand in one line
    known = min(model.get_input_embeddings().get_parameter("weight").shape[0] for model in models)
    times = -(-length // len(row.input_ids))
    tokens = [token % known for token in (row.input_ids * times)[: length - 1] + row.input_ids[-1:]]
    kinds = None if row.token_type_ids is None else (row.token_type_ids * times)[:length]
    target = tuple(token % known for token in row.target)
    made = [replace(row, input_ids=tokens, token_type_ids=kinds, target=target)] * batch
    inputs, _ = task.collate(made)
    shape = {"rows": batch, "tokens": inputs["input_ids"].shape[1]}
    if "decoder_input_ids" in inputs:
        shape["target_tokens"] = inputs["decoder_input_ids"].shape[1]
    return made, inputs, shape


def operations(task: Task, rows: Sequence[Encoded], dense: PreTrainedModel, sparse: PreTrainedModel) -> dict[str, Any]:
    """FLOPs of one forward pass of one row."""
    _, inputs, shape = inputs_of(task, rows, 1, (dense, sparse))
    full, thin = flops.count(dense, inputs), flops.count(sparse, inputs)
    ours, theirs = thin.kept + thin.attention, full.linear + full.attention
    return {
        "shape": shape,
        "dense": {"linear": full.linear, "attention": full.attention, "total": theirs},
        "sparse": {"linear": thin.kept, "attention": thin.attention, "total": ours},
        "sparse_with_zeros": thin.linear + thin.attention,
        "ratio": ours / theirs,
        "formula": FORMULA,
    }


@dataclass(frozen=True)
class Served:
    """The exported model as a serving node runs it on the CPU: as a whole on the sparse engine, or on torch with
    sparse maps. ``bytes``: of all that it holds. ``note``: how it compares with the dense model."""

    run: Callable[[Sequence[Encoded], Mapping[str, Tensor]], object]
    bytes: int
    engine: str
    note: str


def served(export: Path, task: str) -> Served | None:
    """The folder ``export`` on the sparse engine; None where that has no part in it."""
    if not available():
        return None
    if serves(export):
        native = NativeModel(export, torch.get_num_threads())
        words = f"sparse engine, {native.described}; dense: torch {torch.__version__}, float32; on the CPU"
        note = "The sparse model runs as on a serving node, the dense one on torch."
        return Served(lambda rows, _: native.logits(rows), native.encoder.bytes, words, note)
    model, packed = load_compact(export, ModelDescription(read_config(export), task), packs=True)
    if not packed:
        return None
    words = f"torch {torch.__version__}, float32, on the CPU; {packed} maps of the sparse model on the sparse engine"
    note = "The sparse model runs as on a serving node: its maps multiply their nonzeros alone, the rest is torch's."
    return Served(lambda _, inputs: model(**inputs), bytes_of(model), words, note)


def times(
    task: Task,
    rows: Sequence[Encoded],
    dense: PreTrainedModel,
    sparse: PreTrainedModel,
    served: Served | None,
    seed: int,
) -> dict[str, Any]:
    """Measured times of a forward pass on the CPU, dense and sparse in turns: the dense model by torch, the sparse one
    as ``served``, or by torch too."""
    shapes = []
    for model in (dense, sparse):
        model.train(False)
    for batch in BATCHES:
        made, inputs, shape = inputs_of(task, rows, batch, (dense, sparse))
        ours = partial(sparse, **inputs) if served is None else partial(served.run, made, inputs)
        shapes.append(shape | timing.compare(partial(dense, **inputs), ours, seed))
    if served is None:
        words = f"torch {torch.__version__}, dense kernels, float32, on the CPU"
        note = (
            "The serving node expands the compact file and computes with the same kernels: zeros bring no speed-up "
            "there, removed neurons and heads do."
        )
    else:
        words, note = served.engine, served.note
    note += " The dense model has the base model's shape."
    return {"engine": words, "threads": torch.get_num_threads(), "note": note, "shapes": shapes}


def trainable(trained: int, total: int) -> dict[str, Any]:
    """``trained`` parameters of this method, of ``total`` that full fine-tuning trains."""
    return {"dense": total, "sparse": trained, "share": trained / total}


def size(
    folder: Path,
    models: tuple[PreTrainedModel, PreTrainedModel] | None,
    params: Mapping[str, int],
    served: Served | None,
) -> dict[str, Any]:
    """Bytes of each file that holds weights in the exported ``folder``, bytes in memory, and nonzeros. Without
    ``models`` the nonzeros are the report's (``params``), by which every weight outside the pruned matrices is one."""
    files = sorted(folder.rglob("*.safetensors"))
    if models is None:
        compact = Compact(folder / SPARSE_FOLDER)
        exported = sum(math.prod(compact.shape(name)) for name in compact)
        parameters, nonzeros = {"dense": params["total"], "sparse": exported}, params["nonzero"]
    else:
        dense, sparse = models
        parameters = {"dense": _parameters(dense), "sparse": _parameters(sparse)}
        nonzeros = sum(int(torch.count_nonzero(tensor)) for tensor in sparse.parameters())
    memory = {name: count * engine.ITEM_BYTES + engine.OVERHEAD_BYTES for name, count in parameters.items()}
    note = "when served: parameters in float32, and 32 MiB beside them"
    if served is not None:
        memory["sparse"] = served.bytes + engine.OVERHEAD_BYTES
        note += "; the sparse model's weights as the sparse engine holds them"
    return {
        "files": {file.relative_to(folder).as_posix(): file.stat().st_size for file in files},
        "memory": memory,
        "memory_note": note,
        "parameters": parameters,
        "nonzeros": {"dense": parameters["dense"], "sparse": nonzeros},
    }


def _parameters(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
