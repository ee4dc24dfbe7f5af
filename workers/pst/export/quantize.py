"""Round a merged model to exactly what will be published, before it is evaluated for the last time.

    prunable matrices    int8 with a scale for each row of (n, k), where ``quantize`` is set
    embedding tables     as they are, bfloat16, or int8 with a scale for each row (``embedding_storage``)
    everything           the storage dtype

The dense file holds the dequantised values, rounded once more to the storage dtype: plain transformers then predicts
what the compact file predicts. A value that rounds to zero, here or there, is a zero everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.files.formats import Storing, narrowed, widened
from pst.layers.kernels.int8 import quantize_rows
from pst.plan.families import TensorSpec


@torch.no_grad()
def quantize(
    model: nn.Module, specs: Sequence[TensorSpec], settings: TrainSettings, storage: torch.dtype
) -> dict[str, Storing]:
    """Round every tensor of ``model`` in place, one after the other. ``specs`` names the tensors.

    Computing stays in float32, or where the frozen weights were held in fewer bits, goes on in the storage dtype: such
    a model may be too large for float32. Returns how the compact file shall hold those tensors that it does not hold
    element by element.
    """
    state = model.state_dict()
    storing = {}
    for spec in specs:
        tensor = state[spec.name]
        matrix = tensor.T if spec.conv1d else tensor
        how = _stored(spec, matrix, settings, storage)
        if how is not None:
            storing[spec.name] = how
            if how.values is not None:
                matrix.copy_(widened(how.values, how.scales, storage))
                if torch.equal(narrowed(matrix.to(storage), how.scales, torch.int8), how.values):
                    storing[spec.name] = replace(how, values=None)  # the matrix tells them
            elif how.dtype is not None:
                matrix.copy_(matrix.to(how.dtype))
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(storage))
    if settings.frozen_weights != "float32":
        _narrow(model, state.keys(), storage)
    return storing


def _narrow(model: nn.Module, names: Iterable[str], storage: torch.dtype) -> None:
    """Hold the tensors of these names in ``storage``."""
    held = set(names)
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(storage)
            parameter.grad = None
        for name, tensor in list(module.named_buffers(recurse=False)):
            if f"{path}.{name}".removeprefix(".") in held and tensor.is_floating_point():
                setattr(module, name, tensor.to(storage))


def _stored(spec: TensorSpec, matrix: Tensor, settings: TrainSettings, storage: torch.dtype) -> Storing | None:
    embeddings = settings.embedding_storage if spec.embedding else "same"
    if (spec.group is not None and settings.quantize) or embeddings == "int8":
        values, scales, _ = quantize_rows(matrix)
        values[widened(values, scales, storage) == 0] = 0  # a small scale may vanish in float16
        return Storing(torch.int8, scales, values, spec.conv1d)
    if embeddings == "bfloat16" and storage.itemsize > torch.bfloat16.itemsize:
        return Storing(torch.bfloat16)
    return Storing(transposed=True) if spec.conv1d else None
