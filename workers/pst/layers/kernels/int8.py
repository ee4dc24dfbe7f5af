"""Frozen weights in 8 bits: W = q * scale of its row, q in -127..127. Half the memory of bf16.

Legend: q (..., n, k) int8, scale (..., n) float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Int8Weight(NamedTuple):
    """``values`` q, ``row_scales``, and the dtype in which M * D is applied."""

    values: Tensor
    row_scales: Tensor
    dtype: torch.dtype

    def dequantized(self) -> Tensor:
        """W (..., n, k) in float32."""
        return self.values.float() * self.row_scales.unsqueeze(-1)


def quantize_rows(weight: Tensor) -> Int8Weight:
    """Round each row of ``weight`` (..., n, k) to 8 bits by its largest magnitude; an error of at most 1/254 of
    that."""
    wide = weight.detach().float()
    row_scales = wide.abs().amax(-1) / 127
    divisor = torch.where(row_scales > 0, row_scales, torch.ones_like(row_scales)).unsqueeze(-1)
    return Int8Weight((wide / divisor).round_().to(torch.int8), row_scales, weight.dtype)
