"""Export to a folder that plain transformers loads, with the compact file beside it.

model.safetensors      dense layout, pruned weights are zeros, tied tensors once; a large model has several such files
                       and their index (pst.files.shards), and may be published without (``dense_file``)
config.json            of the original architecture, with id2label and label2id; no sparsity or quantization key
generation_config.json of a model that generates
tokenizer files
sparse/                the compact format (pst.files.formats), from which model.safetensors can be rebuilt byte for byte
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst.files.formats import DENSE_FILE, SPARSE_FOLDER, Storing, write_sparse
from pst.files.shards import write_shards
from pst.model.loading import described, load_tokenizer, state_of

FOREIGN_KEYS = ("_name_or_path", "sparsity_config", "quantization_config", "compression_config")


@dataclass(frozen=True)
class Exported:
    """Sizes of the written files in bytes; None where there is no dense file."""

    expanded: int | None
    sparse: int


class _Stored(Mapping[str, Tensor]):
    """The tensors of a state in the dtype in which they are published, each made when it is asked for."""

    def __init__(self, state: Mapping[str, Tensor], storage: torch.dtype) -> None:
        self.state, self.storage = state, storage

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.state[name].detach()
        return tensor.to(self.storage) if tensor.is_floating_point() else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


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
    dense_file: bool = True,
) -> Exported:
    """Write the merged and rounded ``model`` as ``folder``, which is replaced as a whole.

    ``max_length`` becomes the tokenizer's limit, so that whoever loads the folder cuts texts as training did.
    ``labels`` are the names of the head's outputs; none for generation. ``storing`` is what
    :func:`pst.export.quantize.quantize` gave. Without ``dense_file`` the folder holds the compact model alone.

    Tensors leave the device one at a time; the host holds those of one file.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    state = _Stored(state_of(model, described(model, task)), storage)
    expanded = write_shards(state, partial / DENSE_FILE) if dense_file else None
    sparse = write_sparse(state, partial / SPARSE_FOLDER, storing)
    _write_config(model, labels, storage, partial)
    tokenizer = load_tokenizer(base)
    tokenizer.model_max_length = min(max_length, int(tokenizer.model_max_length))
    tokenizer.chat_template = None  # no template of the base model's is what was trained
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
    # Sorted by hand: json would sort the indices of labels as text, 0, 1, 10, 11, 2, and many read them in order.
    content = json.dumps({name: config[name] for name in sorted(config)}, indent=2)
    (folder / "config.json").write_text(content + "\n", "utf-8")
