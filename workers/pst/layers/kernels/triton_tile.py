# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,no-any-return"
# mypy: disable-error-code="untyped-decorator,no-untyped-call"
"""What every Triton kernel of the PST layer shares: one tile of D, S and M, and scores as sortable integers.

    D = W + beta U V                    S = |D| + (alpha1 A B + alpha2 R 1^T + alpha2 1 C^T)

A threshold that one kernel finds is compared with scores that other kernels compute again, so all of them must round
alike: they call :func:`score_tile`, which adds in a fixed order, and are compiled without contraction of products and
sums (``enable_fp_fusion=False``, see ``LAUNCH``); the fused products are written out.

With EXACT the sums run over the ranks one by one in float32, as a plain float32 matrix product does. Without it the
tensor cores form them from bf16 parts that :func:`split` has made, leading (h) and next (l) 8 bits:

    U' = [h(beta U) | l(beta U)]                                    V' = [h(V); l(V)]
    P  = [h(alpha1 A), three parts of alpha2 R, 1, 1, 1 | l(alpha1 A), 0 ..]
    Q  = [h(B); 1; 1; 1; three parts of alpha2 C | l(B); 0 ..]
    U V ~ l h + h l + h h               S = |D| + P Q likewise: R and C to all of float32's bits

Legend: W (n, k) of any strides, in bf16, fp16, fp32 or int8 with one float32 scale a row; U (n, r1), V (r1, k), A (n,
r2), B (r2, k), R (n), C (k) float32, contiguous; P1, P2 the ranks padded for the tensor cores, W1, W2 the columns of
the left factors as stored: the ranks, or 2 P1 and 2 P2 after :func:`split`. Tiles are (BM, BN) for rows and columns.
All kernels take a batch of matrices of equal shape: the last axis of the grid. PLAIN: S is W itself.
"""

from __future__ import annotations

import triton
import triton.language as tl

LAUNCH = {"enable_fp_fusion": False}
PARTS = 3  # bf16 numbers that hold a float32
ENTRIES, TWO_OF_FOUR, BLOCK_1X4, BLOCK_4X1, MASK = (tl.constexpr(code) for code in range(5))  # which weights stay


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
def bf16_dot(left, right, total, WIDE: tl.constexpr):
    """total + left right of bf16 operands; WIDE for the interpreter, which can't multiply these."""
    if WIDE:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), total)
    return tl.dot(left, right, total)


@triton.jit
def factor_tile(factor, rows, row_ok, RANK: tl.constexpr, PADDED: tl.constexpr):
    """(rows, PADDED) of a factor (n, RANK), zeros beyond both."""
    ranks = tl.arange(0, PADDED)
    there = row_ok[:, None] & ((ranks[None, :] < RANK) | (RANK == PADDED))
    return tl.load(factor + rows[:, None] * RANK + ranks[None, :], mask=there, other=0.0)


@triton.jit
def left_parts(factor, rows, row_ok, PADDED: tl.constexpr):
    """Leading and next parts (rows, PADDED) of a left factor that :func:`split` made."""
    place = factor + rows[:, None] * (2 * PADDED) + tl.arange(0, PADDED)[None, :]
    high = tl.load(place, mask=row_ok[:, None], other=0.0)
    return high, tl.load(place + PADDED, mask=row_ok[:, None], other=0.0)


@triton.jit
def right_parts(factor, cols, col_ok, k, PADDED: tl.constexpr):
    """Leading and next parts (PADDED, cols) of a right factor that :func:`split` made."""
    place = factor + tl.arange(0, PADDED)[:, None] * k + cols[None, :]
    high = tl.load(place, mask=col_ok[None, :], other=0.0)
    return high, tl.load(place + PADDED * k, mask=col_ok[None, :], other=0.0)


@triton.jit
def parts_dot(high_left, low_left, high_right, low_right, WIDE: tl.constexpr):
    """The product of two factors in two parts each, float32."""
    total = tl.zeros((high_left.shape[0], high_right.shape[1]), tl.float32)
    total = bf16_dot(low_left, high_right, total, WIDE)
    total = bf16_dot(high_left, low_right, total, WIDE)
    return bf16_dot(high_left, high_right, total, WIDE)


@triton.jit
def score_tile(
    value, u, v, a, b, r, c, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
    PLAIN: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """(D, S) of a tile from ``value``, its W."""
    if PLAIN:
        updated = value
        score = value
    elif EXACT:
        low = tl.zeros_like(value)
        score = tl.zeros_like(value)
        for rank in range(R1):  # a loop: unrolled, all its loads are held at once
            left = tl.load(u + rows * R1 + rank, mask=row_ok, other=0.0)
            right = tl.load(v + rank * k + cols, mask=col_ok, other=0.0)
            low = tl.fma(left[:, None], right[None, :], low)
        for rank in range(R2):
            left = tl.load(a + rows * R2 + rank, mask=row_ok, other=0.0) * alpha1
            right = tl.load(b + rank * k + cols, mask=col_ok, other=0.0)
            score = tl.fma(left[:, None], right[None, :], score)
        updated = tl.fma(tl.zeros_like(value) + beta, low, value)
        score += (tl.load(r + rows, mask=row_ok, other=0.0) * alpha2)[:, None]
        score += (tl.load(c + cols, mask=col_ok, other=0.0) * alpha2)[None, :]
        score = tl.abs(updated) + score
    else:
        high_left, low_left = left_parts(u, rows, row_ok, P1)
        high_right, low_right = right_parts(v, cols, col_ok, k, P1)
        updated = value + parts_dot(high_left, low_left, high_right, low_right, WIDE)
        high_left, low_left = left_parts(a, rows, row_ok, P2)
        high_right, low_right = right_parts(b, cols, col_ok, k, P2)
        score = tl.abs(updated) + parts_dot(high_left, low_left, high_right, low_right, WIDE)
    return updated, score


@triton.jit
def _high(value):
    return value.to(tl.bfloat16).to(tl.float32)


@triton.jit
def _part_of(value, number):
    """Part 0, 1 or 2 of the three bf16 numbers that add up to a float32."""
    rest = value - _high(value)
    return tl.where(number == 0, _high(value), tl.where(number == 1, _high(rest), rest - _high(rest)))


@triton.jit
def _joined(
    factor, line, factor_at, stride, line_at, scale, line_scale, ok, ranks, low, sum_at, one_at, R: tl.constexpr
):
    """A factor's entries, times ``scale``, beside three parts of ``line`` at ``sum_at`` and ones at ``one_at``."""
    value = tl.load(factor + factor_at + ranks * stride, mask=ok & (ranks < R), other=0.0) * scale
    value = tl.where(low, value - _high(value), _high(value))
    if sum_at >= 0:
        number = ranks - sum_at
        extra = tl.load(line + line_at, mask=ok & (number >= 0) & (number < 3), other=0.0) * line_scale
        value += tl.where(low, 0.0, _part_of(extra, number))
        value += tl.where(ok & (ranks >= one_at) & (ranks < one_at + 3) & ~low, 1.0, 0.0)
    return value.to(tl.bfloat16)


@triton.jit
def _split_left(
    factor, line, out, scale, line_scale, rows, n, sum_at: tl.constexpr, one_at: tl.constexpr, R: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    place, row, ok = tl.arange(0, 2 * P)[None, :], rows[:, None], rows[:, None] < n
    value = _joined(factor, line, row * R, 1, row, scale, line_scale, ok, place % P, place >= P, sum_at, one_at, R)
    tl.store(out + row * (2 * P) + place, value, mask=ok)


@triton.jit
def _split_right(
    factor, line, out, line_scale, cols, k, sum_at: tl.constexpr, one_at: tl.constexpr, R: tl.constexpr,
    P: tl.constexpr,
):  # fmt: skip
    place, col, ok = tl.arange(0, 2 * P)[:, None], cols[None, :], cols[None, :] < k
    value = _joined(factor, line, col, k, col, 1.0, line_scale, ok, place % P, place >= P, sum_at, one_at, R)
    tl.store(out + place * k + col, value, mask=ok)


@triton.jit
def split(
    u, v, a, b, r, c, beta, alpha1, alpha2, n, k, left1, right1, left2, right2,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """U' (batch, n, 2 P1), V' (batch, 2 P1, k), P (batch, n, 2 P2) and Q (batch, 2 P2, k), bf16."""
    batch = tl.program_id(1).to(tl.int64)
    program, row_programs = tl.program_id(0), tl.cdiv(n, BLOCK)
    if program < row_programs:
        rows = program * BLOCK + tl.arange(0, BLOCK)
        _split_left(u + batch * n * R1, r, left1 + batch * n * 2 * P1, beta, alpha2, rows, n, -1, -1, R1, P1)
        _split_left(
            a + batch * n * R2, r + batch * n, left2 + batch * n * 2 * P2, alpha1, alpha2, rows, n, R2, R2 + 3, R2, P2
        )
    else:
        cols = (program - row_programs) * BLOCK + tl.arange(0, BLOCK)
        _split_right(v + batch * k * R1, c, right1 + batch * k * 2 * P1, alpha2, cols, k, -1, -1, R1, P1)
        _split_right(
            b + batch * k * R2, c + batch * k, right2 + batch * k * 2 * P2, alpha2, cols, k, R2 + 3, R2, R2, P2
        )


@triton.jit
def _fours(x, BM: tl.constexpr, BN: tl.constexpr):
    """Entries 0, 1, 2 and 3 (BM, BN / 4 each) of all fours along the rows of a tile."""
    even, odd = tl.split(tl.reshape(x, [BM, BN // 4, 2, 2]))
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def _rejoined(x0, x1, x2, x3, BM: tl.constexpr, BN: tl.constexpr):
    """The inverse of :func:`_fours`."""
    return tl.reshape(tl.join(tl.join(x0, x2), tl.join(x1, x3)), [BM, BN])


@triton.jit
def _pairs(score, inside, col, k, BM: tl.constexpr, BN: tl.constexpr):
    """Which of four stay under 2:4 (four of (BM, BN / 4)), and minus the sum of those that do not. Of r < 4 that are
    left at the end of a row ceil(r / 2) stay."""
    x0, x1, x2, x3 = _fours(tl.where(inside, score, float("-inf")), BM, BN)
    left = k - (col + 4 * tl.arange(0, BN // 4))[None, :]
    most = tl.where(left >= 4, 2, (left + 1) // 2)
    stay0 = (x0 < x1).to(tl.int32) + (x0 < x2).to(tl.int32) + (x0 < x3).to(tl.int32) < most
    stay1 = (x0 >= x1).to(tl.int32) + (x1 < x2).to(tl.int32) + (x1 < x3).to(tl.int32) < most
    stay2 = (x0 >= x2).to(tl.int32) + (x1 >= x2).to(tl.int32) + (x2 < x3).to(tl.int32) < most
    stay3 = (x0 >= x3).to(tl.int32) + (x1 >= x3).to(tl.int32) + (x2 >= x3).to(tl.int32) < most
    lost = tl.where(stay0, 0.0, x0) + tl.where(stay1 | (left < 2), 0.0, x1)
    lost += tl.where(stay2 | (left < 3), 0.0, x2) + tl.where(stay3 | (left < 4), 0.0, x3)
    return stay0, stay1, stay2, stay3, -lost


@triton.jit
def unit_tile(score, inside, col, k, PATTERN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """What the units of a pattern are chosen by: minus the loss of each four (BM, BN / 4), or the sum of each block:
    (BM, BN / 4) or (BM / 4, BN). ``col`` is the tile's first column."""
    if PATTERN == TWO_OF_FOUR:
        _, _, _, _, value = _pairs(score, inside, col, k, BM, BN)
    elif PATTERN == BLOCK_1X4:
        x0, x1, x2, x3 = _fours(tl.where(inside, score, 0.0), BM, BN)
        value = (x0 + x1) + (x2 + x3)
    else:
        x0, x1, x2, x3 = _fours(tl.trans(tl.where(inside, score, 0.0)), BN, BM)
        value = tl.trans((x0 + x1) + (x2 + x3))
    return value


@triton.jit
def _above(value, index, threshold, cut):
    return (value > threshold) | ((value == threshold) & (index <= cut))


@triton.jit
def kept_tile(
    score, inside, rows, cols, row, col, k, threshold, cut, mask, mask_n, mask_k,
    PATTERN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """M of a tile whose first row and column are ``row`` and ``col``; ``threshold`` and ``cut`` speak of entries, fours
    or blocks."""
    if PATTERN == ENTRIES:
        keep = _above(score, rows[:, None] * k + cols[None, :], threshold, cut)
    elif PATTERN == MASK:
        keep = tl.load(mask + rows[:, None] * mask_n + cols[None, :] * mask_k, mask=inside, other=0) != 0
    elif PATTERN == BLOCK_4X1:
        sums = unit_tile(score, inside, col, k, PATTERN, BM, BN)
        index = (row // 4 + tl.arange(0, BM // 4))[:, None] * k + cols[None, :]
        stay = tl.trans(_above(sums, index, threshold, cut).to(tl.int32))
        keep = tl.trans(_rejoined(stay, stay, stay, stay, BN, BM)) != 0
    else:
        index = rows[:, None] * tl.cdiv(k, 4) + (col // 4 + tl.arange(0, BN // 4))[None, :]
        if PATTERN == BLOCK_1X4:
            stay = _above(unit_tile(score, inside, col, k, PATTERN, BM, BN), index, threshold, cut).to(tl.int32)
            keep = _rejoined(stay, stay, stay, stay, BM, BN) != 0
        else:
            stay0, stay1, stay2, stay3, value = _pairs(score, inside, col, k, BM, BN)
            whole = ~_above(value, index, threshold, cut)
            keep = (
                _rejoined(
                    (stay0 | whole).to(tl.int32),
                    (stay1 | whole).to(tl.int32),
                    (stay2 | whole).to(tl.int32),
                    (stay3 | whole).to(tl.int32),
                    BM,
                    BN,
                )
                != 0
            )
    return inside & keep


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
    """(rows, cols, which rows exist, which columns exist, first row, first column) of the tile with this number,
    counted along k first.

    EVEN says that tiles cover the matrix exactly, so that the masks are constants.
    """
    across = tl.cdiv(k, TILE_K)
    row, col = index // across * TILE_N, index % across * TILE_K
    rows, cols = row + tl.arange(0, TILE_N), col + tl.arange(0, TILE_K)
    return rows, cols, (rows < n) | EVEN, (cols < k) | EVEN, row, col
