"""Linear layers that prune while they learn. The maths and its legend are in :mod:`pst.kernels.reference`.

    PSTLinear        y = x (M * (W + beta U V))^T + bias     W frozen, six small tensors trained
    MagnitudeLinear  y = x (M * W)^T + bias, M from |W|      W trained (Zhu and Gupta 2018): a pruned weight gets no
                                                             gradient, but may come back while sparsity still rises

Both hold a :class:`pst.masks.Selection` that the trainer renews once for each optimiser step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pst.kernels.reference import Factors, Scales, compute_dtype, gradients, masked_weight, scores
from pst.masks import Selection, mask_, select


class _MaskedProduct(torch.autograd.Function):
    """x (M * D)^T + bias. Saves x, W and small tensors only: D, S and M are recomputed in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scales: Scales,
        cut: int,
        threshold: Tensor,
        *factors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, threshold, *factors)
        ctx.scales, ctx.cut = scales, cut
        masked = masked_weight(weight, Factors(*factors), scales, Selection(threshold, cut))
        return F.linear(x, masked.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, weight, threshold, *factors = ctx.saved_tensors
        flat_dy = dy.reshape(-1, dy.shape[-1])
        grad = flat_dy.T @ x.reshape(-1, x.shape[-1])
        result, masked = gradients(grad, weight, Factors(*factors), ctx.scales, Selection(threshold, ctx.cut))
        dx = dy @ masked.to(dy.dtype) if ctx.needs_input_grad[0] else None
        dbias = flat_dy.sum(0) if ctx.needs_input_grad[2] else None
        return dx, None, dbias, None, None, None, *result


class PrunableLinear(nn.Module):
    """What training, evaluation and merging need of a layer.

    ``frozen`` holds M * D while many forward passes run with the same weights, else None.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    selection: Selection
    frozen: Tensor | None = None

    def scores(self) -> Tensor:
        """S (n, k) as it stands, without gradient."""
        raise NotImplementedError

    def masked(self) -> Tensor:
        """The weight (n, k) that the layer applies, in the dtype of ``weight``; a pruned weight is +0.0."""
        raise NotImplementedError

    def product(self, x: Tensor) -> Tensor:
        """y (..., n) from x (..., k), with gradients."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x) if self.frozen is None else F.linear(x, self.frozen, self.bias)


class PSTLinear(PrunableLinear):
    """A linear layer with frozen ``weight`` (n, k) and trained U, V, A, B, R, C.

    ``init_scale`` is the standard deviation of U and A at the start; V, B, R and C start at zero, so that the layer
    begins as the pretrained one. The published unit variance makes the first steps of V and B a hundred times larger
    than these.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        update_rank: int,
        score_rank: int,
        scales: Scales,
        init_scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n, k = weight.shape
        update_rank, score_rank = min(update_rank, n, k), min(score_rank, n, k)
        dtype = compute_dtype(weight)
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

        def gaussian(rank: int) -> nn.Parameter:
            # Drawn on the CPU: the same seed then gives the same start on every device.
            drawn = torch.randn(n, rank, generator=generator, dtype=dtype) * init_scale
            return nn.Parameter(drawn.to(weight.device))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape, dtype=dtype, device=weight.device))

        self.update_u, self.update_v = gaussian(update_rank), zeros(update_rank, k)
        self.score_a, self.score_b = gaussian(score_rank), zeros(score_rank, k)
        self.score_r, self.score_c = zeros(n), zeros(k)
        self.scales = scales
        self.selection = select(self.scores(), weight.numel())

    def factors(self) -> Factors:
        return Factors(self.update_u, self.update_v, self.score_a, self.score_b, self.score_r, self.score_c)

    @torch.no_grad()
    def scores(self) -> Tensor:
        return scores(self.weight, self.factors(), self.scales)

    @torch.no_grad()
    def masked(self) -> Tensor:
        return masked_weight(self.weight, self.factors(), self.scales, self.selection)

    def product(self, x: Tensor) -> Tensor:
        chosen = self.selection
        y: Tensor = _MaskedProduct.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self.bias, self.scales, chosen.cut, chosen.threshold, *self.factors()
        )
        return y


class MagnitudeLinear(PrunableLinear):
    """A fully trained linear layer of which the smallest weights are masked."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.selection = select(self.scores(), weight.numel())

    @torch.no_grad()
    def scores(self) -> Tensor:
        """|W| (n, k)."""
        return self.weight.detach().abs()

    @torch.no_grad()
    def masked(self) -> Tensor:
        return self.weight.mul(mask_(self.scores(), self.selection)).add_(0.0)

    def product(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * mask_(self.scores(), self.selection), self.bias)
