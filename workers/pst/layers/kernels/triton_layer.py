# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,no-any-return"
# mypy: disable-error-code="untyped-decorator,no-untyped-call"
"""The passes over W of a PST layer: S, M * D, and all six gradients from one reading of (W, G).

    M   = 1[S > t, or S = t and index <= cut]
    dS  = G * D                        dD  = G * (M + |D|)
    dU  = beta dD V^T                  dV  = beta U^T dD
    dA | dR = (alpha1 | alpha2) dS [B; 1]^T       dB | dC = (alpha1 | alpha2) [A, 1]^T dS

A program of :func:`gradient` owns a strip of BN columns in a chunk of rows. Its share of dV, dB and dC stays in
registers until the chunk ends; its share of dU, dA and dR is written per strip. :func:`reduce` adds the shares in a
fixed
order: no atomic addition of floats, so that the same input gives the same bits.

Legend as in :mod:`pst.layers.kernels.triton_tile`; G has strides of its own. Shares of rows: (batch, strips, n (r1 + r2
+ 1)), a strip's dU, dA and dR one after the other; of columns: (batch, chunks, (r1 + r2 + 1) k), dV, dB and dC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pst.layers.kernels.triton_tile import (
    BLOCK_4X1,
    bf16_dot,
    factor_tile,
    kept_tile,
    left_parts,
    load_weight,
    parts_dot,
    right_parts,
    score_tile,
    split_dot,
    tile_of,
    unit_tile,
)


@triton.jit
def write_scores(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k, out,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr, EVEN: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """S (batch, n, k) float32, contiguous."""
    batch = tl.program_id(1).to(tl.int64)
    rows, cols, row_ok, col_ok, _, _ = tile_of(tl.program_id(0), n, k, BM, BN, EVEN)
    inside = row_ok[:, None] & col_ok[None, :]
    value = load_weight(
        w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
    )
    _, score = score_tile(
        value, u + batch * n * W1, v + batch * k * W1, a + batch * n * W2, b + batch * k * W2, r + batch * n, c +
        batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT, PLAIN, WIDE,
    )  # fmt: skip
    tl.store(out + batch * n * k + rows[:, None] * k + cols[None, :], score, mask=inside)


@triton.jit
def write_units(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k, out,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr, EVEN: tl.constexpr,
    PATTERN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """What the units of a pattern are chosen by, into ``out``: (batch, n, ceil(k / 4)), or (batch, ceil(n / 4), k)."""
    batch = tl.program_id(1).to(tl.int64)
    rows, cols, row_ok, col_ok, row, col = tile_of(tl.program_id(0), n, k, BM, BN, EVEN)
    inside = row_ok[:, None] & col_ok[None, :]
    value = load_weight(
        w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
    )
    _, score = score_tile(
        value, u + batch * n * W1, v + batch * k * W1, a + batch * n * W2, b + batch * k * W2, r + batch * n, c +
        batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT, PLAIN, WIDE,
    )  # fmt: skip
    found = unit_tile(score, inside, col, k, PATTERN, BM, BN)
    if PATTERN == BLOCK_4X1:
        down = (row // 4 + tl.arange(0, BM // 4))[:, None]
        place = batch * tl.cdiv(n, 4) * k + down * k + cols[None, :]
        tl.store(out + place, found, mask=(down < tl.cdiv(n, 4)) & col_ok[None, :])
    else:
        width = tl.cdiv(k, 4)
        across = (col // 4 + tl.arange(0, BN // 4))[None, :]
        place = batch * n * width + rows[:, None] * width + across
        tl.store(out + place, found, mask=row_ok[:, None] & (across < width))


@triton.jit
def write_lines(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k, out,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr, EVEN: tl.constexpr,
    AXIS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Shares of the sums of S for each row, (batch, tiles across, n), or with AXIS 1 for each column, (batch, tiles
    down, k)."""
    batch, tile = tl.program_id(1).to(tl.int64), tl.program_id(0)
    rows, cols, row_ok, col_ok, _, _ = tile_of(tile, n, k, BM, BN, EVEN)
    inside = row_ok[:, None] & col_ok[None, :]
    value = load_weight(
        w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
    )
    _, score = score_tile(
        value, u + batch * n * W1, v + batch * k * W1, a + batch * n * W2, b + batch * k * W2, r + batch * n, c +
        batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT, PLAIN, WIDE,
    )  # fmt: skip
    score = tl.where(inside, score, 0.0)
    across, down = tl.cdiv(k, BN), tl.cdiv(n, BM)
    if AXIS == 0:
        tl.store(out + (batch * across + tile % across) * n + rows, tl.sum(score, 1), mask=row_ok)
    else:
        tl.store(out + (batch * down + tile // across) * k + cols, tl.sum(score, 0), mask=col_ok)


@triton.jit
def write_masked(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    thresholds, cuts, mask, mask_b, mask_n, mask_k, masked, needed, needed_stride,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr, EVEN: tl.constexpr,
    PATTERN: tl.constexpr, CONDITIONAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """M * D into ``masked``, which has W's strides. With CONDITIONAL only of matrices whose ``needed`` is not 0: few
    programs that loop, because it hardly ever is."""
    batch = tl.program_id(1).to(tl.int64)
    go = True
    if CONDITIONAL:
        go = tl.load(needed + batch * needed_stride) != 0
    if go:
        threshold, cut = tl.load(thresholds + batch), tl.load(cuts + batch).to(tl.int32)
        for tile in range(tl.program_id(0), tl.cdiv(n, BM) * tl.cdiv(k, BN), tl.num_programs(0)):
            rows, cols, row_ok, col_ok, row, col = tile_of(tile, n, k, BM, BN, EVEN)
            inside = row_ok[:, None] & col_ok[None, :]
            value = load_weight(
                w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
            )
            updated, score = score_tile(
                value, u + batch * n * W1, v + batch * k * W1, a + batch * n * W2, b + batch * k * W2, r + batch * n,
                c + batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT, PLAIN, WIDE,
            )  # fmt: skip
            keep = kept_tile(
                score, inside, rows, cols, row, col, k, threshold, cut, mask + batch * mask_b, mask_n, mask_k, PATTERN,
                BM, BN,
            )  # fmt: skip
            target = masked + batch * stride_b + rows[:, None] * stride_n + cols[None, :] * stride_k
            tl.store(target, tl.where(keep, updated + 0.0, 0.0).to(masked.dtype.element_ty), mask=inside)


@triton.jit
def gradient(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    grad, grad_b, grad_n, grad_k, thresholds, cuts, mask, mask_b, mask_n, mask_k, masked, row_shares, col_shares,
    chunk_rows,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr, EVEN: tl.constexpr,
    PATTERN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Shares of the six gradients, without the factors beta, alpha1 and alpha2 (those of V and B have theirs unless
    EXACT); and M * D. ``masked`` may be ``grad``."""
    strip, chunk, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    w += batch * stride_b
    mask += batch * mask_b
    masked += batch * stride_b
    grad += batch * grad_b
    u += batch * n * W1
    v += batch * k * W1
    a += batch * n * W2
    b += batch * k * W2
    row_shares += (batch * tl.num_programs(0) + strip) * n * (R1 + R2 + 1)
    col_shares += (batch * tl.num_programs(1) + chunk) * k * (R1 + R2 + 1)
    threshold, cut = tl.load(thresholds + batch), tl.load(cuts + batch).to(tl.int32)
    cols = strip * BN + tl.arange(0, BN)
    col_ok = (cols < k) | EVEN
    first, second = tl.arange(0, P1)[None, :], tl.arange(0, P2)[None, :]
    in_first = (first < R1) | (R1 == P1)
    if EXACT:
        v_right = tl.load(v + first * k + cols[:, None], mask=in_first & col_ok[:, None], other=0.0)
        b_right = tl.load(b + second * k + cols[:, None], mask=(second < R2) & col_ok[:, None], other=0.0)
        b_right = tl.where(second == R2, 1.0, b_right)
    else:
        v_high, v_low = right_parts(v, cols, col_ok, k, P1)
        b_high, b_low = right_parts(b, cols, col_ok, k, P2)
    col_v = tl.zeros((BN, P1), tl.float32)
    col_b = tl.zeros((BN, P2), tl.float32)
    for begin in range(chunk * chunk_rows, tl.minimum(n, (chunk + 1) * chunk_rows), BM):
        rows = begin + tl.arange(0, BM)
        row_ok = (rows < n) | EVEN
        inside = row_ok[:, None] & col_ok[None, :]
        g = tl.load(grad + rows[:, None] * grad_n + cols[None, :] * grad_k, mask=inside, other=0.0).to(tl.float32)
        value = load_weight(w, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED)
        if EXACT:
            updated, score = score_tile(
                value, u, v, a, b, r + batch * n, c + batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k,
                R1, R2, P1, P2, EXACT, PLAIN, WIDE,
            )  # fmt: skip
        else:
            u_high, u_low = left_parts(u, rows, row_ok, P1)
            a_high, a_low = left_parts(a, rows, row_ok, P2)
            updated = value + parts_dot(u_high, u_low, v_high, v_low, WIDE)
            score = tl.abs(updated) + parts_dot(a_high, a_low, b_high, b_low, WIDE)
        keep = kept_tile(
            score, inside, rows, cols, begin, strip * BN, k, threshold, cut, mask, mask_n, mask_k, PATTERN, BM, BN
        )
        target = masked + rows[:, None] * stride_n + cols[None, :] * stride_k
        tl.store(target, tl.where(keep, updated + 0.0, 0.0).to(masked.dtype.element_ty), mask=inside)
        d_score = g * updated
        d_updated = tl.where(keep, g, 0.0) + g * tl.abs(updated)
        row_u = tl.zeros((BM, P1), tl.float32)
        row_a = tl.zeros((BM, P2), tl.float32)
        if EXACT:
            u_left = factor_tile(u, rows, row_ok, R1, P1)
            a_left = tl.where(second == R2, 1.0, factor_tile(a, rows, row_ok, R2, P2))
            row_u = split_dot(d_updated, v_right, row_u)
            row_a = split_dot(d_score, b_right, row_a)
            col_v = split_dot(tl.trans(d_updated), u_left, col_v)
            col_b = split_dot(tl.trans(d_score), a_left, col_b)
        else:
            short_updated, short_score = d_updated.to(tl.bfloat16), d_score.to(tl.bfloat16)
            row_u = bf16_dot(short_updated, tl.trans(v_high), row_u, WIDE)
            row_a = bf16_dot(short_score, tl.trans(b_high), row_a, WIDE)
            col_v = bf16_dot(tl.trans(short_updated), u_high, col_v, WIDE)
            col_b = bf16_dot(tl.trans(short_score), a_high, col_b, WIDE)
        tl.store(row_shares + rows[:, None] * R1 + first, row_u, mask=row_ok[:, None] & in_first)
        place = tl.where(second < R2, n * R1 + rows[:, None] * R2 + second, n * (R1 + R2) + rows[:, None])
        tl.store(row_shares + place, row_a, mask=row_ok[:, None] & (second <= R2))
    tl.store(col_shares + first * k + cols[:, None], col_v, mask=col_ok[:, None] & in_first)
    ones: tl.constexpr = R2 if EXACT else R2 + 3  # the column of ones in A's place
    place = tl.where(second < R2, R1 + second, R1 + R2) * k + cols[:, None]
    tl.store(col_shares + place, col_b, mask=col_ok[:, None] & ((second < R2) | (second == ones)))


@triton.jit
def _reduce(
    shares, out, count, length, end1, end2, factor1, factor2, factor3, BLOCK: tl.constexpr, AT_ONCE: tl.constexpr
):  # fmt: skip
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = (place < length)[None, :]
    total = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, count, AT_ONCE):
        share = (begin + tl.arange(0, AT_ONCE))[:, None]
        value = tl.load(shares + share.to(tl.int64) * length + place[None, :], mask=there & (share < count), other=0.0)
        total += tl.sum(value, 0)
    factor = tl.where(place < end1, factor1, tl.where(place < end2, factor2, factor3))
    tl.store(out + place, total * factor, mask=place < length)


@triton.jit
def reduce(
    row_shares, rows, row_count, row_length, row_end1, row_end2, row_factor1, row_factor2, row_factor3,
    col_shares, cols, col_count, col_length, col_end1, col_end2, col_factor1, col_factor2, col_factor3,
    BLOCK: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """rows (batch, length) = the sum of their shares (batch, count, length) in a fixed order, times the factor of each
    section; with the last axis of the grid at 1 those of columns."""
    batch = tl.program_id(1).to(tl.int64)
    if tl.program_id(2) == 0:
        _reduce(
            row_shares + batch * row_count * row_length, rows + batch * row_length, row_count, row_length, row_end1,
            row_end2, row_factor1, row_factor2, row_factor3, BLOCK, AT_ONCE,
        )  # fmt: skip
    else:
        _reduce(
            col_shares + batch * col_count * col_length, cols + batch * col_length, col_count, col_length, col_end1,
            col_end2, col_factor1, col_factor2, col_factor3, BLOCK, AT_ONCE,
        )  # fmt: skip
