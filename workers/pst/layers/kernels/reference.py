"""The PST layer's maths, in plain torch: the definition that every kernel is tested against.

"Parameter-Efficient Sparsity for Large Language Models Fine-Tuning", IJCAI 2022, arXiv 2205.11005, section 3:

    D = W + beta U V
    S = |D| + alpha1 A B + alpha2 (R 1^T + 1 C^T)
    M = 1[S is among the numel - floor(numel s) largest]
    y = x (M * D)^T + bias

Backward with G = dL/d(M * D), straight through the mask (dL/dS := dL/dM):

    dS = G * D          dD = G * M + dS * sign(D) = G * (M + |D|)
    dU = beta dD V^T    dV = beta U^T dD
    dA = alpha1 dS B^T  dB = alpha1 A^T dS    dR = alpha2 dS 1    dC = alpha2 1^T dS

A, R and a column of ones are joined to one factor P = [alpha1 A, alpha2 R, 1] (n, r2 + 2), B, ones and C to
Q = [B; 1; alpha2 C] (r2 + 2, k): then S = |D| + P Q takes one pass, and dS Q^T and P^T dS give all four gradients.

Legend: W (n, k) frozen; U (n, r1), V (r1, k); A (n, r2), B (r2, k); R (n), C (k); G, D, S, M (n, k);
x (..., k); y (..., n). All maths runs in W's dtype, or in float32 where that is a 16-bit one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pst.sparsity.masks import Selection, mask_, select


class Factors(NamedTuple):
    """The six trained tensors of a layer, or their gradients."""

    u: Tensor
    v: Tensor
    a: Tensor
    b: Tensor
    r: Tensor
    c: Tensor


class Scales(NamedTuple):
    """beta, alpha1, alpha2."""

    beta: float
    alpha1: float
    alpha2: float


def compute_dtype(weight: Tensor) -> torch.dtype:
    """float64 stays, everything else is computed in float32."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def updated_weight(weight: Tensor, f: Factors, scales: Scales) -> Tensor:
    """D (n, k)."""
    return torch.addmm(weight.to(compute_dtype(weight)), f.u, f.v, alpha=scales.beta)


def _joined(f: Factors, scales: Scales) -> tuple[Tensor, Tensor]:
    """P (n, r2 + 2) and Q (r2 + 2, k)."""
    left = torch.cat(
        [f.a * scales.alpha1, (f.r * scales.alpha2).unsqueeze(1), torch.ones_like(f.r).unsqueeze(1)], dim=1
    )
    right = torch.cat([f.b, torch.ones_like(f.c).unsqueeze(0), (f.c * scales.alpha2).unsqueeze(0)])
    return left, right


def importance(updated: Tensor, f: Factors, scales: Scales) -> Tensor:
    """S (n, k) from D."""
    left, right = _joined(f, scales)
    return updated.abs().addmm_(left, right)


def scores(weight: Tensor, f: Factors, scales: Scales) -> Tensor:
    """S (n, k)."""
    return importance(updated_weight(weight, f, scales), f, scales)


def applied(weight: Tensor, f: Factors, scales: Scales, chosen: Selection | int) -> tuple[Selection, Tensor, Tensor]:
    """The selection, searched for where ``chosen`` is a count; M * D (n, k) in W's dtype, where a pruned weight is
    +0.0; and M as ones and zeros in D's dtype. D and S are computed once."""
    updated = updated_weight(weight, f, scales)
    if isinstance(chosen, Selection) and chosen.mask is not None:  # no score is needed
        mask = mask_(torch.empty_like(updated), chosen)
    else:
        values = importance(updated, f, scales)
        chosen = chosen if isinstance(chosen, Selection) else select(values, chosen)
        mask = mask_(values, chosen)
    masked = torch.addcmul(updated.new_zeros(()), updated, mask, out=updated)  # 0.0 + -0.0 is +0.0
    return chosen, masked.to(weight.dtype), mask


def masked_weight(weight: Tensor, f: Factors, scales: Scales, selection: Selection) -> Tensor:
    """M * D (n, k), in W's dtype; a pruned weight is +0.0."""
    return applied(weight, f, scales, selection)[1]


def gradients(grad: Tensor, weight: Tensor, f: Factors, scales: Scales, selection: Selection) -> tuple[Factors, Tensor]:
    """The six gradients from G (n, k), and M * D recomputed on the way; S too, unless the selection holds M."""
    updated = updated_weight(weight, f, scales)
    left, right = _joined(f, scales)
    magnitude = updated.abs()
    held = selection.mask is not None
    mask = mask_(torch.empty_like(updated) if held else torch.addmm(magnitude, left, right), selection)
    grad_updated = magnitude.add_(mask).mul_(grad := grad.to(updated.dtype))
    masked = mask.mul_(updated).to(weight.dtype)
    grad_scores = updated.mul_(grad)
    grad_left = grad_scores @ right.T
    grad_right = left.T @ grad_scores
    rank = f.b.shape[0]
    result = Factors(
        u=(grad_updated @ f.v.T).mul_(scales.beta),
        v=(f.u.T @ grad_updated).mul_(scales.beta),
        a=grad_left[:, :rank] * scales.alpha1,
        b=grad_right[:rank],  # P already carries alpha1
        r=grad_left[:, rank] * scales.alpha2,
        c=grad_right[rank + 1] * scales.alpha2,
    )
    return result, masked
