"""Sparse maps within a model of transformers: what the sparse engine does for families that it does not run as a whole.

A map that keeps few of its weights holds and multiplies those alone; the rest of the model is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pst_native import Form, Precision, Weight
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pst.errors import FormatError
from pst.files.formats import SPARSE_FOLDER, Compact
from pst.messages import Message
from pst.model.loading import model_class, skeleton, state_of
from pst.plan import engine
from pst.plan.families import ModelDescription

CPU = torch.device("cpu")


class SparseLinear(nn.Module):
    """y = x W^T + b for a pruned W (n, k), of which only the nonzeros are held (:mod:`pst_native`). Inference alone, on
    the CPU; x is computed in float32 and y has its dtype."""

    def __init__(self, matrix: Tensor, bias: nn.Parameter | None) -> None:
        """Packs ``matrix`` (n, k) float32."""
        super().__init__()
        held = matrix.contiguous()
        self.out_features, self.in_features = n, k = held.shape
        self.packed = Weight(Form.CELLS, Precision.FLOAT32, n, k, held.data_ptr())
        self.register_parameter("weight", None)  # some models ask for its dtype if it is a tensor
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, n) of x (…, k). Raises :class:`pst.errors.FormatError` on another device than the CPU."""
        if x.device.type != "cpu":
            raise FormatError(
                Message(
                    "A sparse model runs on the CPU alone: load it again with device_map={device}.",
                    device=repr(str(x.device)),
                )
            )
        rows = x.reshape(-1, self.in_features).float().contiguous()
        out = torch.empty(len(rows), self.out_features)
        bias = None if self.bias is None else self.bias.float().contiguous()
        address = None if bias is None else bias.data_ptr()
        self.packed.product(rows.data_ptr(), len(rows), out.data_ptr(), bias=address, threads=torch.get_num_threads())
        return out.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bytes={self.packed.bytes}"


def load_compact(folder: Path, description: ModelDescription, *, packs: bool) -> tuple[PreTrainedModel, int]:
    """The model of a published folder by its compact file, in float32 on the CPU, and how many of its maps are
    :class:`SparseLinear`. One tensor at a time is expanded, and packed if it is to be.

    Raises :class:`pst.errors.FormatError` where the file does not hold what config.json describes.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model = skeleton(model_class(description.task, config.is_encoder_decoder).from_config, config)
    # The files of a version are checked against its manifest; hashing the tensors once more would only cost time.
    compact, wanted = Compact(folder / SPARSE_FOLDER, check=False), state_of(model, description)
    for name in sorted(wanted.keys() ^ compact.keys()):
        raise FormatError(Message("the tensor {name} is missing.", name=name))
    for name, tensor in wanted.items():
        if tensor.shape != compact.shape(name):
            raise FormatError(
                Message(
                    "the tensor {name} has the shape {found}, not {shape}.",
                    name=name,
                    found=list(compact.shape(name)),
                    shape=list(tensor.shape),
                )
            )
    packed = fill(model, compact, list(wanted), packs=packs)
    for name, source in description.tied.items():
        path, _, key = name.rpartition(".")
        setattr(model.get_submodule(path), key, model.get_parameter(source))
    if model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model, packed


def fill(model: nn.Module, compact: Compact, names: Sequence[str], *, packs: bool) -> int:
    """Give ``model`` the tensors ``names`` of ``compact``, one at a time: with ``packs`` maps that keep few of their
    weights become :class:`SparseLinear`, and all else is expanded. Returns how many maps did."""
    packed = 0
    for name in names:
        path, _, kind = name.rpartition(".")
        module, tensor = model.get_submodule(path), compact[name]
        own: Tensor = getattr(module, kind)  # a parameter or a buffer
        if packs and kind == "weight" and isinstance(module, nn.Linear | Conv1D) and _sparse(tensor):
            parent, _, last = path.rpartition(".")
            matrix = tensor.T if isinstance(module, Conv1D) else tensor
            bias: nn.Parameter | None = module.bias
            setattr(model.get_submodule(parent), last, SparseLinear(matrix.float(), bias))
            packed += 1
        elif own.is_meta:
            setattr(module, kind, nn.Parameter(tensor.to(CPU, own.dtype), requires_grad=False))
        else:
            own.data = tensor.to(own.device, own.dtype)
    return packed


def bytes_of(model: nn.Module) -> int:
    """Of all parameters, and of what sparse maps hold."""
    maps = sum(module.packed.bytes for module in model.modules() if isinstance(module, SparseLinear))
    return maps + sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def _sparse(tensor: Tensor) -> bool:
    return engine.packs(tensor.numel(), int(tensor.count_nonzero()))
