"""Round a merged model to exactly what will be published, before it is evaluated for the last time.

    prunable matrices    int8 with a scale for each row of (n, k), where ``quantize`` is set
    embedding tables     as they are, bfloat16, or int8 with a scale for each row (``embedding_storage``)
    everything           the storage dtype

The dense file holds the dequantised values, rounded once more to the storage dtype: plain transformers then predicts
what the compact file predicts. A value that rounds to zero, here or there, is a zero everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.families import TensorSpec
from pst.formats import Storing, widened
from pst.kernels.int8 import quantize_rows


@torch.no_grad()
def round_(
    model: nn.Module, specs: Sequence[TensorSpec], settings: TrainSettings, storage: torch.dtype
) -> dict[str, Storing]:
    """Round every tensor of ``model`` in place; computing stays in the dtype it had. ``specs`` names the tensors.

    Returns how the compact file shall hold those that it does not hold element by element, on the CPU.
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
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(storage))
    return storing


def _stored(spec: TensorSpec, matrix: Tensor, settings: TrainSettings, storage: torch.dtype) -> Storing | None:
    embeddings = settings.embedding_storage if spec.embedding else "same"
    if (spec.group is not None and settings.quantize) or embeddings == "int8":
        packed = quantize_rows(matrix)
        values, scales = packed.values.cpu(), packed.row_scales.cpu()
        values[widened(values, scales, storage) == 0] = 0  # a small scale may vanish in float16
        return Storing(values, scales, spec.conv1d)
    if embeddings == "bfloat16" and storage.itemsize > torch.bfloat16.itemsize:
        return Storing(matrix.to(torch.bfloat16).cpu())
    return Storing(transposed=True) if spec.conv1d else None
