"""One-shot pruning by weights and activations, then a low-rank update under the fixed mask.

Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695:

    S_ij = |W_ij| ||x_j||_2         M keeps the largest of each row (thresholds over a group: "global")

after which the weights that stay are adapted as LoRA does (Hu et al. 2021, arXiv 2106.09685), without filling a gap:

    D = W + beta U V                y = x (M * D)^T + bias
    dU = beta (G * M) V^T           dV = beta U^T (G * M)

Legend: W (n, k) frozen; U (n, r), V (r, k) trained, V from zero; S, M, D and G = dL/d(M * D) (n, k); x_j all values
that input j has over the tokens of the calibration rows; x (..., k); y (..., n).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pst.layers.methods.lora import LowRankLinear, updated_weight
from pst.sparsity.masks import Selection, explicit, mask_of


def largest_by_row(scores: Tensor, kept: int) -> Tensor:
    """The mask (n, k) bool of the largest ``scores`` (n, k) of each row: ``kept`` in all, as evenly as possible, the
    first rows one more; ties go to the lower index."""
    n, k = scores.shape
    order = scores.argsort(dim=1, descending=True, stable=True)
    counts = torch.full((n, 1), kept // n, device=scores.device)
    counts[: kept % n] += 1
    taken = torch.arange(k, device=scores.device) < counts
    return torch.zeros_like(taken).scatter_(1, order, taken)


class _MaskedUpdate(torch.autograd.Function):
    """x (M * D)^T + bias; D is computed again in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, v: Tensor, bias: Tensor | None, layer: WandaLinear) -> Tensor:
        ctx.layer, ctx.mask = layer, layer.mask
        ctx.save_for_backward(x, u, v)
        return F.linear(x, layer.masked().to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, u, v = ctx.saved_tensors
        layer: WandaLinear = ctx.layer
        dx = du = dv = dbias = None
        if ctx.needs_input_grad[0]:
            dx = dy @ (updated_weight(layer.weight, u, v, layer.beta) * ctx.mask).to(dy.dtype)
        flat_dy = dy.reshape(-1, dy.shape[-1])
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad = (flat_dy.T @ x.reshape(-1, x.shape[-1])).to(u.dtype).mul_(ctx.mask)
            du, dv = (grad @ v.T).mul_(layer.beta), (u.T @ grad).mul_(layer.beta)
        if ctx.needs_input_grad[3]:
            dbias = flat_dy.sum(0)
        return dx, du, dv, dbias, None


class WandaLinear(LowRankLinear):
    """A linear layer with frozen ``weight`` (n, k), a mask from calibration, and trained U, V.

    It must be calibrated before anything is pruned, with the sums of squares (k) of its inputs.

    >>> weight = torch.tensor([[3.0, 1.0], [3.0, 1.0]])
    >>> draw = torch.Generator().manual_seed(0)
    >>> layer = WandaLinear(weight, None, rank=1, beta=1.0, init_scale=0.02, generator=draw)
    >>> layer.calibrated(torch.tensor([1.0, 100.0]))
    >>> layer.select(kept=2)
    >>> layer.masked().tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """

    calibrates = True
    squares: Tensor | None = None
    """Sums of squares (k) of the inputs that were seen."""

    _kept = -1  # of the present mask, where :meth:`select` chose it

    def calibrated(self, squares: Tensor) -> None:
        self.squares, self._kept = squares, -1

    @torch.no_grad()
    def scores(self) -> Tensor:
        """|W_ij| ||x_j|| (n, k). Raises :class:`RuntimeError` before calibration."""
        if self.squares is None:
            raise RuntimeError("the inputs of this layer have not been seen; call calibrate first")
        return self.weight.abs() * self.squares.sqrt()

    def keep(self, chosen: Selection) -> None:
        self.selection, self._kept = chosen, -1
        self.mask = mask_of(self.scores(), chosen) if chosen.mask is None else chosen.mask

    def select(self, kept: int) -> None:
        """The ``kept`` largest, compared within rows; the same number again changes nothing."""
        if kept == self._kept:
            return
        whole = kept >= self.weight.numel()
        everything = torch.ones_like(self.weight, dtype=torch.bool)
        self.keep(explicit(everything if whole else largest_by_row(self.scores(), kept)))
        self._kept = kept

    @torch.no_grad()
    def masked(self) -> Tensor:
        return self.updated().mul_(self.mask).add_(0.0).to(self.weight.dtype)

    def product(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        y: Tensor = _MaskedUpdate.apply(x, self.update_u, self.update_v, self.bias, self)  # type: ignore[no-untyped-call]
        return y
