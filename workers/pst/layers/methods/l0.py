"""L0 regularisation by hard concrete gates: Louizos, Welling and Kingma 2018, arXiv 1712.01312, with full fine-tuning.

    y = x (z * W)^T + bias
    z = min(1, max(0, (zeta - gamma) s + gamma))
    s = sigmoid((log u - log(1 - u) + T - b) / BETA),  u ~ Uniform(0, 1)                while training
    s = sigmoid(T - b)                                                                 else
    P(z > 0) = sigmoid(T - b - BETA log(-gamma / zeta))                                and E[L0] = the sum of it
    dz/dT = (zeta - gamma) s (1 - s) / BETA where 0 < z < 1, else 0                    (without BETA in the last case)

A sparsity is given here, so E[L0] is bound, not weighed against the loss: after every step E[L0] <= kept must hold
for each matrix. Wang, Wohlwend and Lei 2020 (arXiv 1910.04732) learn a Lagrange multiplier for that; few-shot runs are
too short for one to settle, so the shift b >= 0 is solved for instead: the least one with which the bound holds, that
is, a projection along the gradient that the multiplier would add to every gate alike. It needs no rate and no weight.

In the last phase, and in every evaluation, exactly ``kept`` weights stay, those with the largest T, under the
deterministic gates: in the last phase this network is trained, as CoFi does (Xia et al. 2022, arXiv 2204.00408). So
that none of the kept gates is zero, b is there at most the smallest kept T: such a gate is half open.

Legend: W (n, k) trained; T = log alpha (n, k) trained; z, u, s (n, k); b one number for each matrix; x (..., k).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pst.layers.kernels.reference import compute_dtype
from pst.layers.methods.gated import GatedLinear
from pst.sparsity.masks import Selection, explicit, mask_, mask_of, select

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
OPENING = -BETA * math.log(-GAMMA / ZETA)  # P(z > 0) = sigmoid(log alpha + OPENING)
ITERATIONS = 24
INITIAL, SPREAD = 2.5, 0.01  # a deterministic gate is 1 from log(11) = 2.398 on


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z > 0)."""
    return torch.sigmoid(log_alpha + OPENING)


def random_gates(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """z from u."""
    s = torch.sigmoid((torch.logit(uniform, eps=1e-6) + log_alpha) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp_(0, 1)


def fixed_gates(log_alpha: Tensor) -> Tensor:
    """z without noise."""
    return (torch.sigmoid(log_alpha) * (ZETA - GAMMA) + GAMMA).clamp_(0, 1)


def slopes(gate: Tensor, random: bool) -> Tensor:
    """dz/d log alpha from z."""
    s = (gate - GAMMA) / (ZETA - GAMMA)
    slope = s.mul_(1 - s).mul_((ZETA - GAMMA) / (BETA if random else 1))
    return slope.mul_((gate > 0) & (gate < 1))


def shift_for(log_alpha: Tensor, kept: int | Tensor, guess: Tensor) -> Tensor:
    """The least b >= 0 (0-dim) with which the expected number of open gates is at most ``kept`` (1..numel).

    Newton's method, with bisection where it leaves the bracket; ``guess`` is a likely b. Nothing waits for a GPU.
    """
    share, flat = torch.as_tensor(kept / log_alpha.numel()), log_alpha.reshape(-1) + OPENING
    share = share.to(flat)
    slack = torch.sigmoid(flat).mean() <= share
    low, high = flat.min() - torch.logit(share), flat.max() - torch.logit(share)
    shift = torch.clamp(guess.to(flat), low, high)
    for _ in range(ITERATIONS):
        p = torch.sigmoid(flat - shift)
        mean = p.mean()
        excess = mean - share
        if not flat.is_cuda and abs(float(excess)) <= 1e-5 * float(share):
            break
        low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
        newton = shift + excess / (mean - p.square().mean())
        shift = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
    return torch.where(slack, 0.0, shift.clamp(min=0))


def largest(scores: Tensor, kept: Tensor) -> Tensor:
    """The mask (n, k) of the ``kept`` (0-dim, int64) largest, ties to the lower index, without waiting for a GPU."""
    order = scores.reshape(-1).argsort(descending=True, stable=True)
    taken = torch.arange(order.numel(), device=order.device) < kept
    return torch.zeros_like(taken).scatter_(0, order, taken).view_as(scores)


class L0Linear(GatedLinear):
    """A linear layer with ``weight`` and log alpha, its ``score`` (n, k). Evaluation and the last phase are exact.
    ``weight`` and ``bias`` (n) are the pretrained ones, of any floating dtype; ``generator`` draws on the CPU.

    >>> layer = L0Linear(torch.ones(4, 4), None, generator=torch.Generator().manual_seed(0)).eval()
    >>> layer.select(kept=4)
    >>> int((layer.masked() != 0).sum())
    4
    """

    device_select = True
    differs_at_the_end = True
    from_selection = ("shift", "final_shift")
    score: nn.Parameter

    def __init__(self, weight: Tensor, bias: Tensor | None, *, generator: torch.Generator) -> None:
        super().__init__(weight, bias, trained=True)
        # Drawn on the CPU: the same seed then gives the same start on every device.
        drawn = torch.randn(weight.shape, generator=generator, dtype=compute_dtype(weight))
        self.score = nn.Parameter(drawn.mul_(SPREAD).add_(INITIAL).to(weight.device))
        self.select(weight.numel())

    @property
    def random(self) -> bool:
        return self.training and not self.final

    def keep(self, chosen: Selection) -> None:
        """As the base's; the number of weights that stay bounds the expected L0 norm."""
        self.selection, scores = chosen, self.scores()
        mask = mask_of(scores, chosen)
        least = scores.masked_fill(~mask, math.inf).min()
        self.shift = shift_for(scores, mask.sum(), least + OPENING)
        self.final_shift = torch.minimum(self.shift, least)

    def select(self, kept: int | Tensor) -> None:
        """As the base's. Within a CUDA graph ``kept`` is a number on the device."""
        scores = self.scores()
        self.keep(explicit(largest(scores, kept)) if isinstance(kept, Tensor) else select(scores, kept))

    @torch.no_grad()
    def scores(self) -> Tensor:
        """T (n, k)."""
        return self.score.detach().clone()

    def gate(self, selection: Selection) -> Tensor:
        if self.random:
            scores = self.scores()
            return random_gates(scores.sub_(self.shift), torch.rand_like(scores))
        return self.fixed(selection)

    def fixed(self, selection: Selection) -> Tensor:
        """M * z (n, k) without noise."""
        scores = self.scores()
        gate = fixed_gates(scores - self.final_shift)
        return gate.mul_(mask_(scores, selection))

    def slope(self, gate: Tensor, random: bool) -> Tensor | None:
        return slopes(gate, random)

    @torch.no_grad()
    def masked(self) -> Tensor:
        return self.fixed(self.selection).mul_(self.weight).add_(0.0).to(self.weight.dtype)
