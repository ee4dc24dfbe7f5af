"""Floating-point operations of one forward pass, counted from a real pass at a stated shape and the stored weights.

    linear maps          sum over maps of 2 t z        a multiplication and an addition for each weight and token
    attention products   2 b m n k for each batched product of (m, k) by (k, n): Q K^T, and the probabilities by V

t is the number of tokens that a map sees, z its weights: n k for the dense model, those that are not zero for the
sparse one. Biases, normalisations, softmax and activations are left out, as is usual: they are below one percent.
"Sparse" is thus what an engine that skips every zero would compute; an engine of dense products computes what the dense
model needs, unless whole neurons or heads have been removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Flops:
    """Operations of one forward pass. ``zeros`` says what would be saved by skipping zeros: linear - kept."""

    linear: int  # every weight counted
    kept: int  # weights that are not zero counted
    attention: int


@torch.no_grad()
def count(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Flops:
    """Count one forward pass of ``model`` on ``inputs`` (tensors on the model's device)."""
    linear = kept = 0
    nonzeros: dict[int, int] = {}

    def see(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        nonlocal linear, kept
        weight = module.get_parameter("weight")
        tokens = arguments[0].numel() // arguments[0].shape[-1]
        if id(weight) not in nonzeros:
            nonzeros[id(weight)] = int(torch.count_nonzero(weight))
        linear += 2 * tokens * weight.numel()
        kept += 2 * tokens * nonzeros[id(weight)]

    hooks = [part.register_forward_hook(see) for part in model.modules() if isinstance(part, (nn.Linear, Conv1D))]
    training = model.training
    model.train(False)
    try:
        with _plain_attention(model), FlopCounterMode(display=False) as counter:
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    products = counter.get_flop_counts()["Global"]
    attention = sum(value for kind, value in products.items() if str(kind) in {"aten.bmm", "aten.baddbmm"})
    return Flops(linear, kept, attention)


@contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention as plain products: torch's counter knows no fused attention on a CPU."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
