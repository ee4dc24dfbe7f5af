"""Movement pruning: Sanh, Wolf and Rush 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", arXiv 2005.07683.

    y = x (M * W)^T + bias,  M = 1[T is among the kept largest]
    dW = G * M          dT = G * W                                 (straight through the mask)

T starts at zero, so that plain descent gives T = -rate * sum over the steps of W * G: the weights that have moved away
from zero stay. W and everything else is trained too. The gradient reaches T of pruned weights, which may come back.

Legend: W (n, k) trained; T (n, k) score; G = dL/d(M * W) (n, k); x (..., k).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pst.layers.methods.gated import GatedLinear, zero_scores
from pst.sparsity.masks import Selection, mask_


class MovementLinear(GatedLinear):
    """A linear layer with ``weight`` and ``score`` (n, k); ``trained`` says whether the weight and bias are. ``weight``
    and ``bias`` (n) are the pretrained ones, of any floating dtype; the score is float32 (float64 where W is).

    The weight that plain descent moves away from zero gains in score:

    >>> layer = MovementLinear(torch.tensor([[1.0, 1.0]]), None)
    >>> layer(torch.tensor([[1.0, -1.0]])).sum().backward()
    >>> torch.optim.SGD([layer.score], lr=0.1).step()
    >>> layer.select(kept=1)
    >>> layer.masked().tolist()
    [[0.0, 1.0]]
    """

    score: nn.Parameter

    def __init__(self, weight: Tensor, bias: Tensor | None, *, trained: bool = True) -> None:
        super().__init__(weight, bias, trained=trained)
        self.score = zero_scores(self.weight)
        self.select(weight.numel())

    @torch.no_grad()
    def scores(self) -> Tensor:
        """T (n, k)."""
        return self.score.detach().clone()

    def gate(self, selection: Selection) -> Tensor:
        return mask_(self.scores(), selection)
