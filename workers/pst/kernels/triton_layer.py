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

Legend as in :mod:`pst.kernels.triton_tile`; G has strides of its own. Shares of rows: (batch, strips, n (r1 + r2 +
1)), a strip's dU, dA and dR one after the other; of columns: (batch, chunks, (r1 + r2 + 1) k), dV, dB and dC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pst.kernels.triton_tile import factor_tile, load_weight, score_tile, split_dot, tile_of


@triton.jit
def write_scores(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k, out,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
    QUANTIZED: tl.constexpr, EVEN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """S (batch, n, k) float32, contiguous."""
    batch = tl.program_id(1).to(tl.int64)
    rows, cols, row_ok, col_ok = tile_of(tl.program_id(0), n, k, BM, BN, EVEN)
    inside = row_ok[:, None] & col_ok[None, :]
    value = load_weight(
        w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
    )
    _, score = score_tile(
        value, u + batch * n * R1, v + batch * k * R1, a + batch * n * R2, b + batch * k * R2, r + batch * n, c +
        batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT,
    )  # fmt: skip
    tl.store(out + batch * n * k + rows[:, None] * k + cols[None, :], score, mask=inside)


@triton.jit
def _kept(score, inside, rows, cols, k, threshold, cut):
    index = rows[:, None] * k + cols[None, :]
    return inside & ((score > threshold) | ((score == threshold) & (index <= cut)))


@triton.jit
def write_masked(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    thresholds, cuts, masked, needed, needed_stride,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
    QUANTIZED: tl.constexpr, EVEN: tl.constexpr, CONDITIONAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
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
            rows, cols, row_ok, col_ok = tile_of(tile, n, k, BM, BN, EVEN)
            inside = row_ok[:, None] & col_ok[None, :]
            value = load_weight(
                w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
            )
            updated, score = score_tile(
                value, u + batch * n * R1, v + batch * k * R1, a + batch * n * R2, b + batch * k * R2, r + batch * n,
                c + batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT,
            )  # fmt: skip
            keep = _kept(score, inside, rows, cols, k, threshold, cut)
            target = masked + batch * stride_b + rows[:, None] * stride_n + cols[None, :] * stride_k
            tl.store(target, tl.where(keep, updated + 0.0, 0.0).to(masked.dtype.element_ty), mask=inside)


@triton.jit
def _product(left, right, total, PRECISE: tl.constexpr):
    """total + left right, to float32's precision or from operands rounded to bf16."""
    if PRECISE:
        return split_dot(left, right, total)
    return tl.dot(left.to(tl.bfloat16), right.to(tl.bfloat16), total)


@triton.jit
def gradient(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    grad, grad_b, grad_n, grad_k, thresholds, cuts, masked, row_shares, col_shares, chunk_rows,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
    QUANTIZED: tl.constexpr, EVEN: tl.constexpr, PRECISE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Shares of the six gradients, without the factors beta, alpha1 and alpha2; and M * D. ``masked`` may be
    ``grad``."""
    strip, chunk, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    w += batch * stride_b
    masked += batch * stride_b
    grad += batch * grad_b
    u += batch * n * R1
    v += batch * k * R1
    a += batch * n * R2
    b += batch * k * R2
    row_shares += (batch * tl.num_programs(0) + strip) * n * (R1 + R2 + 1)
    col_shares += (batch * tl.num_programs(1) + chunk) * k * (R1 + R2 + 1)
    threshold, cut = tl.load(thresholds + batch), tl.load(cuts + batch).to(tl.int32)
    cols = strip * BN + tl.arange(0, BN)
    col_ok = (cols < k) | EVEN
    first, second = tl.arange(0, P1)[None, :], tl.arange(0, P2)[None, :]
    in_first = (first < R1) | (R1 == P1)
    v_right = tl.load(v + first * k + cols[:, None], mask=in_first & col_ok[:, None], other=0.0)
    b_right = tl.load(b + second * k + cols[:, None], mask=(second < R2) & col_ok[:, None], other=0.0)
    b_right = tl.where(second == R2, 1.0, b_right)
    col_v = tl.zeros((BN, P1), tl.float32)
    col_b = tl.zeros((BN, P2), tl.float32)
    for begin in range(chunk * chunk_rows, tl.minimum(n, (chunk + 1) * chunk_rows), BM):
        rows = begin + tl.arange(0, BM)
        row_ok = (rows < n) | EVEN
        inside = row_ok[:, None] & col_ok[None, :]
        g = tl.load(grad + rows[:, None] * grad_n + cols[None, :] * grad_k, mask=inside, other=0.0).to(tl.float32)
        value = load_weight(w, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED)
        updated, score = score_tile(
            value, u, v, a, b, r + batch * n, c + batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k,
            R1, R2, P1, P2, EXACT,
        )  # fmt: skip
        keep = _kept(score, inside, rows, cols, k, threshold, cut)
        target = masked + rows[:, None] * stride_n + cols[None, :] * stride_k
        tl.store(target, tl.where(keep, updated + 0.0, 0.0).to(masked.dtype.element_ty), mask=inside)
        d_score = g * updated
        d_updated = tl.where(keep, g, 0.0) + g * tl.abs(updated)
        u_left = factor_tile(u, rows, row_ok, R1, P1)
        a_left = tl.where(second == R2, 1.0, factor_tile(a, rows, row_ok, R2, P2))
        row_u = _product(d_updated, v_right, tl.zeros((BM, P1), tl.float32), PRECISE)
        row_a = _product(d_score, b_right, tl.zeros((BM, P2), tl.float32), PRECISE)
        col_v = _product(tl.trans(d_updated), u_left, col_v, PRECISE)
        col_b = _product(tl.trans(d_score), a_left, col_b, PRECISE)
        tl.store(row_shares + rows[:, None] * R1 + first, row_u, mask=row_ok[:, None] & in_first)
        place = tl.where(second < R2, n * R1 + rows[:, None] * R2 + second, n * (R1 + R2) + rows[:, None])
        tl.store(row_shares + place, row_a, mask=row_ok[:, None] & (second <= R2))
    tl.store(col_shares + first * k + cols[:, None], col_v, mask=col_ok[:, None] & in_first)
    tl.store(col_shares + (R1 + second) * k + cols[:, None], col_b, mask=col_ok[:, None] & (second <= R2))


@triton.jit
def reduce(shares, out, count, length, end1, end2, factor1, factor2, factor3, BLOCK: tl.constexpr):
    """out (batch, length) = the sum of ``shares`` (batch, count, length) in order, times the factor of its section."""
    batch = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < length
    total = tl.zeros((BLOCK,), tl.float32)
    for share in range(count):
        total += tl.load(shares + (batch * count + share) * length + place, mask=there, other=0.0)
    factor = tl.where(place < end1, factor1, tl.where(place < end2, factor2, factor3))
    tl.store(out + batch * length + place, total * factor, mask=there)
