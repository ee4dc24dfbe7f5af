# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,no-any-return"
# mypy: disable-error-code="untyped-decorator,no-untyped-call"
"""What every Triton kernel of the PST layer shares: one tile of D and S, and scores as sortable integers.

    D = W + beta U V                    S = |D| + (alpha1 A B + alpha2 R 1^T + alpha2 1 C^T)

A threshold that one kernel finds is compared with scores that other kernels compute again, so all of them must round
alike: they call :func:`score_tile`, which adds in a fixed order, and are compiled without contraction of products and
sums (``enable_fp_fusion=False``, see ``LAUNCH``); the fused products are written out. With EXACT the sums run over
the ranks one by one in float32, as a plain float32 matrix product does. Without it the tensor cores form them from
float32 values in two tf32 parts: nearly as precise, but rounded differently.

Legend: W (n, k) of any strides, in bf16, fp16, fp32 or int8 with one float32 scale a row; U (n, r1), V (r1, k), A (n,
r2), B (r2, k), R (n), C (k) float32, contiguous; P1, P2 the ranks padded for the tensor cores. Tiles are (BM, BN) for
rows
and columns. All kernels take a batch of matrices of equal shape: the last axis of the grid.
"""

from __future__ import annotations

import triton
import triton.language as tl

LAUNCH = {"enable_fp_fusion": False}


@triton.jit
def load_weight(w, scale, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED: tl.constexpr):
    """A tile of W as float32, zeros outside the matrix."""
    value = tl.load(w + rows[:, None] * stride_n + cols[None, :] * stride_k, mask=inside, other=0).to(tl.float32)
    if QUANTIZED:
        value *= tl.load(scale + rows, mask=row_ok, other=0.0)[:, None]
    return value


@triton.jit
def split_dot(left, right, total):
    """total + left right by the tensor cores, to about float32's precision: each side is its leading 11 bits and a
    rest."""
    high_left = (left.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    high_right = (right.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    total = tl.dot(left - high_left, high_right, total, input_precision="tf32")
    total = tl.dot(high_left, right - high_right, total, input_precision="tf32")
    return tl.dot(high_left, high_right, total, input_precision="tf32")


@triton.jit
def factor_tile(factor, rows, row_ok, RANK: tl.constexpr, PADDED: tl.constexpr):
    """(rows, PADDED) of a factor (n, RANK), zeros beyond both."""
    ranks = tl.arange(0, PADDED)
    there = row_ok[:, None] & ((ranks[None, :] < RANK) | (RANK == PADDED))
    return tl.load(factor + rows[:, None] * RANK + ranks[None, :], mask=there, other=0.0)


@triton.jit
def score_tile(
    value, u, v, a, b, r, c, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """(D, S) of a tile from ``value``, its W."""
    low = tl.zeros_like(value)
    score = tl.zeros_like(value)
    if EXACT:
        for rank in tl.static_range(R1):
            left = tl.load(u + rows * R1 + rank, mask=row_ok, other=0.0)
            right = tl.load(v + rank * k + cols, mask=col_ok, other=0.0)
            low = tl.fma(left[:, None], right[None, :], low)
        for rank in tl.static_range(R2):
            left = tl.load(a + rows * R2 + rank, mask=row_ok, other=0.0) * alpha1
            right = tl.load(b + rank * k + cols, mask=col_ok, other=0.0)
            score = tl.fma(left[:, None], right[None, :], score)
    else:
        ranks = tl.arange(0, P1)
        there = ((ranks[:, None] < R1) | (R1 == P1)) & col_ok[None, :]
        right = tl.load(v + ranks[:, None] * k + cols[None, :], mask=there, other=0.0)
        low = split_dot(factor_tile(u, rows, row_ok, R1, P1), right, low)
        ranks = tl.arange(0, P2)
        there = ((ranks[:, None] < R2) | (R2 == P2)) & col_ok[None, :]
        right = tl.load(b + ranks[:, None] * k + cols[None, :], mask=there, other=0.0)
        score = split_dot(factor_tile(a, rows, row_ok, R2, P2) * alpha1, right, score)
    updated = tl.fma(tl.zeros_like(value) + beta, low, value)
    score += (tl.load(r + rows, mask=row_ok, other=0.0) * alpha2)[:, None]
    score += (tl.load(c + cols, mask=col_ok, other=0.0) * alpha2)[None, :]
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
def tile_of(index, n, k, TILE_N: tl.constexpr, TILE_K: tl.constexpr, EVEN: tl.constexpr):
    """(rows, cols, which rows exist, which columns exist) of the tile with this number, counted along k first.

    EVEN says that tiles cover the matrix exactly, so that the masks are constants.
    """
    across = tl.cdiv(k, TILE_K)
    rows = index // across * TILE_N + tl.arange(0, TILE_N)
    cols = index % across * TILE_K + tl.arange(0, TILE_K)
    return rows, cols, (rows < n) | EVEN, (cols < k) | EVEN
