"""What full fine-tuning with a mask, and a score for every weight, have in common: a gate on each weight.

    y = x (W * z)^T + bias
    dW = G * z          dT = G * W * dz/dT          dx = dy (W * z),  with G = dL/d(W * z) = dy^T x

z is a mask (then dz/dT := 1, straight through: Bengio et al. 2013, arXiv 1308.3432) or a number between 0 and 1.
Neither z nor W * z is kept for backward where z can be computed again.

Legend: W (n, k) weight; T (n, k) score of each weight; z (n, k) gate; x (..., k); y (..., n).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pst.layers.kernels.reference import compute_dtype
from pst.layers.linear import PrunableLinear
from pst.sparsity.masks import Selection


class _GatedProduct(torch.autograd.Function):
    """x (W * z)^T + bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, score: Tensor | None, bias: Tensor | None, layer: GatedLinear
    ) -> Tensor:
        ctx.layer, ctx.selection, ctx.random = layer, layer.selection, layer.random
        gate = layer.gate(ctx.selection)
        ctx.save_for_backward(x, weight, score, gate if ctx.random else None)
        return F.linear(x, gate.mul(weight).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, weight, _, gate = ctx.saved_tensors
        layer: GatedLinear = ctx.layer
        if gate is None:
            gate = layer.gate(ctx.selection)
        dx = dweight = dscore = dbias = None
        if ctx.needs_input_grad[0]:
            dx = dy @ gate.mul(weight).to(dy.dtype)
        flat_dy = dy.reshape(-1, dy.shape[-1])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad = (flat_dy.T @ x.reshape(-1, x.shape[-1])).to(gate.dtype)
            if ctx.needs_input_grad[2]:
                dscore = grad * weight
                slope = layer.slope(gate, ctx.random)
                if slope is not None:
                    dscore.mul_(slope)
            if ctx.needs_input_grad[1]:
                dweight = grad.mul_(gate)
        if ctx.needs_input_grad[3]:
            dbias = flat_dy.sum(0)
        return dx, dweight, dscore, dbias, None


class GatedLinear(PrunableLinear):
    """y = x (W * z)^T + bias. ``score`` holds one trained number a weight, where the method has that.

    ``random``: z is drawn anew in each forward pass.
    """

    score: nn.Parameter | None

    def __init__(self, weight: Tensor, bias: Tensor | None, *, trained: bool) -> None:
        super().__init__()
        self.register_parameter("score", None)
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=trained)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=trained)

    @property
    def random(self) -> bool:
        return False

    def gate(self, selection: Selection) -> Tensor:
        """z (n, k), new, without gradient."""
        raise NotImplementedError

    def slope(self, gate: Tensor, random: bool) -> Tensor | None:
        """dz/dT (n, k) where z is ``gate``, drawn at random or not; None is 1 everywhere."""
        return None

    @torch.no_grad()
    def masked(self) -> Tensor:
        return self.gate(self.selection).mul_(self.weight).add_(0.0).to(self.weight.dtype)

    def product(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        y: Tensor = _GatedProduct.apply(x, self.weight, self.score, self.bias, self)  # type: ignore[no-untyped-call]
        return y


def zero_scores(weight: Tensor) -> nn.Parameter:
    """T (n, k) = 0."""
    return nn.Parameter(torch.zeros_like(weight, dtype=compute_dtype(weight)))
