"""Export to a folder that plain transformers loads, with the compact file beside it.

model.safetensors      dense layout, pruned weights are zeros, tied tensors once
config.json            of the original architecture, with id2label and label2id; no sparsity or quantization key
generation_config.json of a model that generates
tokenizer files
sparse/                the compact format (pst.formats), from which model.safetensors can be rebuilt byte for byte
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from pst.base import load_tokenizer, state_of
from pst.formats import DENSE_FILE, Storing, write_dense, write_sparse

FOREIGN_KEYS = ("_name_or_path", "sparsity_config", "quantization_config", "compression_config")


@dataclass(frozen=True)
class Exported:
    """Sizes of the written files in bytes."""

    expanded: int
    sparse: int


def export(
    model: PreTrainedModel,
    base: Path,
    labels: Sequence[str],
    storage: torch.dtype,
    max_length: int,
    folder: Path,
    *,
    task: str = "classification",
    storing: Mapping[str, Storing] | None = None,
) -> Exported:
    """Write the merged and rounded ``model`` as ``folder``, which is replaced as a whole.

    ``max_length`` becomes the tokenizer's limit, so that whoever loads the folder cuts texts as training did.
    ``labels`` are the names of the head's outputs; none for generation. ``storing`` is what
    :func:`pst.rounding.round_` gave.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    state = {
        name: tensor.detach().cpu().to(storage if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in state_of(model, model.config.to_dict(), task).items()
    }
    expanded = write_dense(state, partial / DENSE_FILE)
    sparse = write_sparse(state, partial / "sparse", storing)
    _write_config(model, labels, storage, partial)
    tokenizer = load_tokenizer(base)
    tokenizer.model_max_length = min(max_length, int(tokenizer.model_max_length))
    tokenizer.save_pretrained(partial)
    if task == "generation" and model.generation_config is not None:
        model.generation_config.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Exported(expanded, sparse)


def _write_config(model: PreTrainedModel, labels: Sequence[str], storage: torch.dtype, folder: Path) -> None:
    config = model.config.to_dict()
    for key in FOREIGN_KEYS:
        config.pop(key, None)
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(storage).removeprefix("torch.")
    if labels:
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
