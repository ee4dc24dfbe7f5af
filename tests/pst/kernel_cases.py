"""Weights, factors and tolerances for the tests of the Triton kernels.

The "grid" cases draw all values from a coarse grid: every sum is then exact in float32 in whatever order, and equal
scores abound, so that masks must be identical to the reference's, ties included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pst.layers.kernels.reference import Factors, Scales

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SCALES = Scales(beta=0.5, alpha1=2.0, alpha2=0.25)
SHAPES = [(1, 1), (7, 5), (1, 300), (65, 129), (257, 300)]  # the last is larger than WHOLE: it takes the sample


def make(
    n: int,
    k: int,
    *,
    ranks: tuple[int, int] = (5, 3),
    dtype: torch.dtype = torch.float32,
    grid: bool = False,
    batch: tuple[int, ...] = (),
    seed: int = 1,
) -> tuple[Tensor, Factors]:
    """W and factors. On a grid all are small multiples of 1/4."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, spread: float = 0.4) -> Tensor:
        values = torch.randn(*batch, *shape, generator=generator)
        values = values.mul(3).round().clamp(-8, 8) / 4 if grid else values * spread
        return values.to(DEVICE)

    rank1, rank2 = ranks
    factors = Factors(draw(n, rank1), draw(rank1, k), draw(n, rank2), draw(rank2, k), draw(n), draw(k))
    return draw(n, k, spread=1.0).to(dtype), factors


def close(got: Tensor, wanted: Tensor, tolerance: float, scale: float = 0.0) -> None:
    """``scale``: what the norm of a sum would be were its terms independent; sums that cancel are measured by that."""
    error = float((got.double() - wanted.double()).norm())
    scale = max(scale, float(wanted.double().norm()))
    assert error <= tolerance * scale + 1e-12, f"relative error {error / scale:.2e}"


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)).to(DEVICE)
