"""Static model pruning: Jiang et al. 2022, "Pruning Pre-trained Language Models Without Fine-Tuning", arXiv 2210.06210.

    y = x (M * W)^T + bias,  M = 1[T is among the kept largest]
    dT = G * W          (straight through the mask; W is frozen)

Only which weights stay is learned: the scores follow as in movement pruning, by first-order information, from zero.

Legend: W (n, k) frozen; T (n, k) score; G = dL/d(M * W) (n, k); x (..., k).
"""

from __future__ import annotations

from torch import Tensor

from pst.layers.methods.movement import MovementLinear


class SMPLinear(MovementLinear):
    """A linear layer of which only the mask is trained. ``weight`` (n, k) and ``bias`` (n) are the pretrained ones, of
    any floating dtype.

    >>> import torch
    >>> layer = SMPLinear(torch.tensor([[3.0, -1.0]]), None)
    >>> [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
    ['score']
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias, trained=False)
