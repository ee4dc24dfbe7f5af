"""LoRA: Hu et al. 2021, "Low-Rank Adaptation of Large Language Models", arXiv 2106.09685. It prunes nothing.

    y = x W^T + beta (x V^T) U^T + bias          merged: W + beta U V

Legend: W (n, k) frozen; U (n, r), V (r, k) trained, V from zero; x (..., k); y (..., n).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pst.layers.kernels.reference import compute_dtype
from pst.layers.linear import PrunableLinear
from pst.sparsity.masks import everything


def updated_weight(weight: Tensor, u: Tensor, v: Tensor, beta: float) -> Tensor:
    """D = W + beta U V (n, k), in the dtype of U."""
    return torch.addmm(weight.to(u.dtype), u, v, alpha=beta)


class LowRankLinear(PrunableLinear):
    """A frozen ``weight`` (n, k) of any floating dtype and its trained update beta U V, of U (n, rank) and V (rank, k)
    in float32 (float64 where W is). ``generator`` draws U on the CPU. ``init_scale`` is the standard deviation of U at
    the start; V starts at zero, so that the layer begins as the pretrained one."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        rank: int,
        beta: float,
        init_scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n, k = weight.shape
        rank, dtype = min(rank, n, k), compute_dtype(weight)
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        # Drawn on the CPU: the same seed then gives the same start on every device.
        drawn = torch.randn(n, rank, generator=generator, dtype=dtype) * init_scale
        self.update_u = nn.Parameter(drawn.to(weight.device))
        self.update_v = nn.Parameter(torch.zeros(rank, k, dtype=dtype, device=weight.device))
        self.beta = beta
        self.select(weight.numel())

    def updated(self) -> Tensor:
        """D (n, k), new."""
        return updated_weight(self.weight, self.update_u, self.update_v, self.beta)


class LoRALinear(LowRankLinear):
    """A linear layer with a low-rank update, of which everything stays.

    >>> draw = torch.Generator().manual_seed(0)
    >>> layer = LoRALinear(torch.eye(2), None, rank=1, beta=1.0, init_scale=0.02, generator=draw)
    >>> layer.masked().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    @torch.no_grad()
    def scores(self) -> Tensor:
        """|D| (n, k)."""
        return self.updated().abs_()

    def select(self, kept: int) -> None:
        """Raises :class:`ValueError` for less than all."""
        size = self.weight.numel()
        if kept < size:
            raise ValueError(f"LoRA prunes nothing: it can't keep {kept} of {size} weights")
        self.keep(everything(self.update_u, size))

    @torch.no_grad()
    def masked(self) -> Tensor:
        return self.updated().add_(0.0).to(self.weight.dtype)

    def product(self, x: Tensor) -> Tensor:
        low = F.linear(x, self.update_v.to(x.dtype)) * self.beta
        return F.linear(x, self.weight, self.bias) + F.linear(low, self.update_u.to(x.dtype))
