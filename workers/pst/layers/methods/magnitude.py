"""Gradual magnitude pruning with full fine-tuning: Zhu and Gupta 2018, "To prune, or not to prune", arXiv 1710.01878.

    y = x (M * W)^T + bias,  M = 1[|W| is among the kept largest]          dW = G * M

A pruned weight gets no gradient, but may come back while sparsity still rises, when kept ones shrink below it.

Legend: W (n, k) trained; G = dL/d(M * W) (n, k); x (..., k).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pst.layers.methods.gated import GatedLinear
from pst.sparsity.masks import Selection, mask_


class MagnitudeLinear(GatedLinear):
    """A fully trained linear layer of which the smallest weights are masked. ``weight`` (n, k) and ``bias`` (n) are the
    pretrained ones, of any floating dtype.

    >>> layer = MagnitudeLinear(torch.tensor([[3.0, -1.0], [0.5, -2.0]]), None)
    >>> layer.select(kept=2)
    >>> layer.masked().tolist()
    [[3.0, 0.0], [0.0, -2.0]]
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias, trained=True)
        self.select(weight.numel())

    @torch.no_grad()
    def scores(self) -> Tensor:
        """|W| (n, k)."""
        return self.weight.detach().abs()

    def gate(self, selection: Selection) -> Tensor:
        return mask_(self.scores(), selection)
