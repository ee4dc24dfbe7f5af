# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,misc,no-any-return"
"""What every Triton kernel of the PST layer shares: one tile of D and S, and scores as sortable integers.

    D = W + beta U V                    S = |D| + (alpha1 A B + alpha2 R 1^T + alpha2 1 C^T)

A threshold that one kernel finds is compared with scores that other kernels compute again, so all of them must round
alike: they call :func:`score_tile`, which adds in a fixed order, and are compiled without contraction of products and
sums (``enable_fp_fusion=False``, see ``LAUNCH``); the fused products are written out. With EXACT the sums run over
the ranks one by one in float32, as a plain float32 matrix product does. Without it the tensor cores form them from
float32 values split in three (tf32x3): as precise, but rounded differently in the last place.

Legend: W (n, k) of any strides, in bf16, fp16, fp32 or int8 with one float32 scale a row; U (n, r1), V (r1, k), A (n, r2),
B (r2, k), R (n), C (k) float32, contiguous; P1, P2 the ranks padded for the tensor cores. Tiles are (BM, BN) for rows and
columns. All kernels take a batch of matrices of equal shape: the last axis of the grid.
"""

from __future__ import annotations

import triton
import triton.language as tl

BM, BN, WARPS = 64, 128, 8
LAUNCH = {"num_warps": WARPS, "enable_fp_fusion": False}


@triton.jit
def load_weight(w, scale, rows, cols, inside, n, stride_n, stride_k, QUANTIZED: tl.constexpr):
    """A tile of W as float32, zeros outside the matrix."""
    value = tl.load(w + rows[:, None] * stride_n + cols[None, :] * stride_k, mask=inside, other=0).to(tl.float32)
    if QUANTIZED:
        value *= tl.load(scale + rows, mask=rows < n, other=0.0)[:, None]
    return value


@triton.jit
def score_tile(
    value, u, v, a, b, r, c, beta, alpha1, alpha2, rows, cols, n, k,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """(D, S) of a tile from ``value``, its W."""
    low = tl.zeros_like(value)
    score = tl.zeros_like(value)
    if EXACT:
        for rank in tl.static_range(R1):
            left = tl.load(u + rows * R1 + rank, mask=rows < n, other=0.0)
            right = tl.load(v + rank * k + cols, mask=cols < k, other=0.0)
            low = tl.fma(left[:, None], right[None, :], low)
        for rank in tl.static_range(R2):
            left = tl.load(a + rows * R2 + rank, mask=rows < n, other=0.0) * alpha1
            right = tl.load(b + rank * k + cols, mask=cols < k, other=0.0)
            score = tl.fma(left[:, None], right[None, :], score)
    else:
        ranks = tl.arange(0, P1)
        left = tl.load(
            u + rows[:, None] * R1 + ranks[None, :], mask=(rows[:, None] < n) & (ranks[None, :] < R1), other=0.0
        )
        right = tl.load(
            v + ranks[:, None] * k + cols[None, :], mask=(ranks[:, None] < R1) & (cols[None, :] < k), other=0.0
        )
        low = tl.dot(left, right, low, input_precision="tf32x3")
        ranks = tl.arange(0, P2)
        left = tl.load(
            a + rows[:, None] * R2 + ranks[None, :], mask=(rows[:, None] < n) & (ranks[None, :] < R2), other=0.0
        )
        right = tl.load(
            b + ranks[:, None] * k + cols[None, :], mask=(ranks[:, None] < R2) & (cols[None, :] < k), other=0.0
        )
        score = tl.dot(left * alpha1, right, score, input_precision="tf32x3")
    updated = tl.fma(tl.zeros_like(value) + beta, low, value)
    score += (tl.load(r + rows, mask=rows < n, other=0.0) * alpha2)[:, None]
    score += (tl.load(c + cols, mask=cols < k, other=0.0) * alpha2)[None, :]
    return updated, tl.abs(updated) + score


@triton.jit
def sort_key(score):
    """int32 that orders as the float32 does; -0.0 and +0.0 are equal."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def key_score(key):
    """The inverse of :func:`sort_key`, for an int32."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def tile_of(index, n, k, TILE_N: tl.constexpr, TILE_K: tl.constexpr):
    """(rows, cols, inside) of the tile with this number, tiles counted along k first."""
    across = tl.cdiv(k, TILE_K)
    rows = index // across * TILE_N + tl.arange(0, TILE_N)
    cols = index % across * TILE_K + tl.arange(0, TILE_K)
    return rows, cols, (rows[:, None] < n) & (cols[None, :] < k)
