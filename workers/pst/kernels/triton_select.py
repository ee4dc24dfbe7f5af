# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,misc,no-any-return"
"""Exact selection on the device: the same threshold and ties as :mod:`pst.masks`, without scores in memory.

An entry (score, index) is one integer, key(score) * 2^b + (2^b - 1 - index), so that entries differ and the larger one is
kept first. The kept-th largest entry holds the threshold and the last kept index. It is found so:

    sample   the scores of SAMPLE entries, drawn one from each stretch of the matrix
    bracket  a range of keys that holds the kept-th largest with near certainty, from the sample's order
    sweep    one pass over W: counts the entries above the bracket, and lists those inside it (a few per cent)
    digit    narrows the range by 11 bits, from a histogram of the entries in the range; repeated until one is left
    finish   writes threshold and index

Should the bracket miss, or its entries overflow the list (very many equal scores), the digit passes compute all scores
again: slower, and still exact. All decisions stay on the device: no step waits for the host, and the whole can be captured
in a CUDA graph. The counters are integers, so the order of the atomic additions cannot change the result.

Legend as in :mod:`pst.kernels.triton_tile`; b bits of an index. A range is (low, width): entries e with
0 <= e - low < 2^width. place: the wanted entry is the place-th largest of its range.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pst.kernels.triton_tile import key_score, load_weight, score_tile, sort_key, tile_of

SAMPLE = 16384
BINS = 2048
BITS = 11  # log2(BINS)
FIELDS = 4  # of a pass's state: low, width, place, 1 when all entries are searched

# Kernel arguments in common: W and the six factors, one matrix after the other; the scales; the shape; constants.


@triton.jit
def sample_scores(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k, out,
    R1: tl.constexpr, R2: tl.constexpr, QUANTIZED: tl.constexpr, COUNT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Keys (batch, COUNT) of a stratified sample. Its scores may differ from the tiles' in the last place."""
    batch = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    step = (n * k) // COUNT
    jitter = ((place * 40503 + 12345) * 2654435 & 0x7FFFFFFF) % step
    index = place * step + jitter
    row, col = index // k, index % k
    value = tl.load(w + batch * stride_b + row * stride_n + col * stride_k).to(tl.float32)
    if QUANTIZED:
        value *= tl.load(scale + batch * n + row)
    low = tl.zeros_like(value)
    score = tl.zeros_like(value)
    for rank in tl.static_range(R1):
        left = tl.load(u + batch * n * R1 + row * R1 + rank)
        low = tl.fma(left, tl.load(v + batch * k * R1 + rank * k + col), low)
    for rank in tl.static_range(R2):
        left = tl.load(a + batch * n * R2 + row * R2 + rank) * alpha1
        score = tl.fma(left, tl.load(b + batch * k * R2 + rank * k + col), score)
    score += tl.load(r + batch * n + row) * alpha2
    score += tl.load(c + batch * k + col) * alpha2
    score += tl.abs(tl.fma(low, tl.zeros_like(low) + beta, value))
    tl.store(out + batch * COUNT + place, sort_key(score))


@triton.jit
def _digit_of_rank(counts, rank):
    """The bin in which the entry of this ascending rank lies, and the number of entries in the bins before it."""
    ends = tl.cumsum(counts, 0)
    before = ends <= rank
    return tl.sum(before.to(tl.int32), 0), tl.max(tl.where(before, ends, 0), 0)


@triton.jit
def bracket(samples, edges, first, last, COUNT: tl.constexpr, BINS: tl.constexpr):
    """Edges (batch, 2) as keys: of the sample's ascending ranks ``first`` and ``last``, widened to 22 bits; a rank outside
    the sample gives an open end."""
    batch = tl.program_id(0)
    key = tl.load(samples + batch * COUNT + tl.arange(0, COUNT)).to(tl.int64) + 0x80000000
    high = (key >> 21).to(tl.int32)
    coarse = tl.histogram(high, BINS)
    low_edge = tl.full((), 0, tl.int64)
    high_edge = tl.full((), 0xFFFFFFFF, tl.int64)
    if first >= 0:
        digit, before = _digit_of_rank(coarse, first)
        fine = tl.histogram(((key >> 10) & 2047).to(tl.int32), BINS, mask=high == digit)
        second, _ = _digit_of_rank(fine, first - before)
        low_edge = (digit.to(tl.int64) << 21) | (second.to(tl.int64) << 10)
    if last < COUNT:
        digit, before = _digit_of_rank(coarse, last)
        fine = tl.histogram(((key >> 10) & 2047).to(tl.int32), BINS, mask=high == digit)
        second, _ = _digit_of_rank(fine, last - before)
        high_edge = (digit.to(tl.int64) << 21) | (second.to(tl.int64) << 10) | 1023
    tl.store(edges + batch * 2, (low_edge - 0x80000000).to(tl.int32))
    tl.store(edges + batch * 2 + 1, (high_edge - 0x80000000).to(tl.int32))


@triton.jit
def sweep(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    edges, counters, keys, indices, values, capacity, masked,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
    QUANTIZED: tl.constexpr, WRITE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Counters (batch, 2): entries above the bracket, entries inside it. Those inside are listed in ``keys`` and ``indices``
    (batch, capacity). With WRITE, D of the entries above goes to ``masked``, 0 elsewhere, and ``values`` holds the listed D.
    """
    batch = tl.program_id(1).to(tl.int64)
    rows, cols, inside = tile_of(tl.program_id(0), n, k, BM, BN)
    value = load_weight(w + batch * stride_b, scale + batch * n, rows, cols, inside, n, stride_n, stride_k, QUANTIZED)
    updated, score = score_tile(
        value, u + batch * n * R1, v + batch * k * R1, a + batch * n * R2, b + batch * k * R2, r + batch * n, c + batch * k,
        beta, alpha1, alpha2, rows, cols, n, k, R1, R2, P1, P2, EXACT,
    )  # fmt: skip
    key = sort_key(score)
    low, high = tl.load(edges + batch * 2), tl.load(edges + batch * 2 + 1)
    above = inside & (key > high)
    listed = inside & (key >= low) & (key <= high)
    if WRITE:
        target = masked + batch * stride_b + rows[:, None] * stride_n + cols[None, :] * stride_k
        tl.store(target, tl.where(above, updated + 0.0, 0.0).to(masked.dtype.element_ty), mask=inside)
    tl.atomic_add(counters + batch * 2, tl.sum(tl.sum(above.to(tl.int32), 1), 0), sem="relaxed")
    ones = listed.to(tl.int32)
    in_row = tl.sum(ones, 1)
    start = tl.atomic_add(counters + batch * 2 + 1, tl.sum(in_row, 0), sem="relaxed")
    position = start + (tl.cumsum(in_row, 0) - in_row)[:, None] + tl.cumsum(ones, 1) - 1
    room = listed & (position < capacity)
    tl.store(keys + batch * capacity + position, key, mask=room)
    tl.store(indices + batch * capacity + position, rows[:, None] * k + cols[None, :], mask=room)
    if WRITE:
        tl.store(values + batch * capacity + position, (updated + 0.0).to(masked.dtype.element_ty), mask=room)


@triton.jit
def _first_range(edges, counters, kept, capacity, index_bits, SAMPLED: tl.constexpr):
    """(low, width, place, full) before the first digit."""
    low = tl.full((), 0, tl.int64)
    width = tl.full((), 32, tl.int64) + index_bits
    place = tl.full((), 0, tl.int64) + kept
    full = tl.full((), 1, tl.int64)
    if SAMPLED:
        above, listed = tl.load(counters).to(tl.int64), tl.load(counters + 1).to(tl.int64)
        if (above < kept) & (kept <= above + listed) & (listed <= capacity):
            low = (tl.load(edges).to(tl.int64) + 0x80000000) << index_bits
            high = ((tl.load(edges + 1).to(tl.int64) + 0x80000001) << index_bits) - 1
            width = tl.sum((((high - low) >> tl.arange(0, 64).to(tl.int64)) > 0).to(tl.int64), 0)
            place -= above
            full = tl.full((), 0, tl.int64)
    return low, width, place, full


@triton.jit
def _narrowed(state, counts, BINS: tl.constexpr, BITS: tl.constexpr, FIELDS: tl.constexpr):
    """(low, width, place, full) after the digit of which ``state`` and ``counts`` are given."""
    low, width, place = tl.load(state), tl.load(state + 1), tl.load(state + 2)
    if width > 0:
        count = tl.load(counts + tl.arange(0, BINS))
        ends = tl.cumsum(count, 0)
        total = tl.sum(count, 0)
        rank = (total - place).to(tl.int32)
        digit = tl.sum((ends <= rank).to(tl.int32), 0)
        end = tl.min(tl.where(ends > rank, ends, 0x7FFFFFFF), 0)
        width = tl.maximum(width - BITS, 0)
        low += digit.to(tl.int64) << width
        place -= total - end
    return low, width, place, tl.load(state + 3)


@triton.jit
def _digit(entry, valid, low, width, BINS: tl.constexpr, BITS: tl.constexpr):
    """(digit, whether the entry lies in the range)."""
    offset = entry - low
    valid = valid & (offset >= 0) & ((offset >> width) == 0)
    return tl.where(valid, offset >> tl.maximum(width - BITS, 0), 0).to(tl.int32), valid


@triton.jit
def digit(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    edges, counters, keys, indices, capacity, states, histograms, step, kept, index_bits,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, EXACT: tl.constexpr,
    QUANTIZED: tl.constexpr, SAMPLED: tl.constexpr, FIRST: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
    BINS: tl.constexpr, BITS: tl.constexpr, FIELDS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Range of digit number ``step`` into ``states`` (batch, STEPS, FIELDS), and the histogram of that digit over the entries
    in the range into ``histograms`` (batch, STEPS, BINS), which come as zeros."""
    batch = tl.program_id(1).to(tl.int64)
    program, programs = tl.program_id(0), tl.num_programs(0)
    states += batch * STEPS * FIELDS + step * FIELDS
    histograms += batch * STEPS * BINS + step * BINS
    if FIRST:
        low, width, place, full = _first_range(
            edges + batch * 2, counters + batch * 2, kept, capacity, index_bits, SAMPLED
        )
    else:
        low, width, place, full = _narrowed(states - FIELDS, histograms - BINS, BINS, BITS, FIELDS)
    if program == 0:
        tl.store(states, low)
        tl.store(states + 1, width)
        tl.store(states + 2, place)
        tl.store(states + 3, full)
    if width > 0:
        count = tl.zeros((BINS,), tl.int32)
        last = (tl.full((), 1, tl.int64) << index_bits) - 1
        if full != 0:
            for tile in range(program, tl.cdiv(n, BM) * tl.cdiv(k, BN), programs):
                rows, cols, inside = tile_of(tile, n, k, BM, BN)
                value = load_weight(
                    w + batch * stride_b, scale + batch * n, rows, cols, inside, n, stride_n, stride_k, QUANTIZED
                )
                _, score = score_tile(
                    value, u + batch * n * R1, v + batch * k * R1, a + batch * n * R2, b + batch * k * R2, r + batch * n,
                    c + batch * k, beta, alpha1, alpha2, rows, cols, n, k, R1, R2, P1, P2, EXACT,
                )  # fmt: skip
                entry = (sort_key(score).to(tl.int64) + 0x80000000) << index_bits
                entry += last - (rows[:, None] * k + cols[None, :])
                digits, valid = _digit(entry, inside, low, width, BINS, BITS)
                count += tl.histogram(tl.reshape(digits, (BM * BN,)), BINS, mask=tl.reshape(valid, (BM * BN,)))
        else:
            listed = tl.load(counters + batch * 2 + 1)
            for begin in range(program * BLOCK, listed, programs * BLOCK):
                place_in = begin + tl.arange(0, BLOCK)
                there = place_in < listed
                key = tl.load(keys + batch * capacity + place_in, mask=there, other=0)
                index = tl.load(indices + batch * capacity + place_in, mask=there, other=0)
                entry = ((key.to(tl.int64) + 0x80000000) << index_bits) + (last - index)
                digits, valid = _digit(entry, there, low, width, BINS, BITS)
                count += tl.histogram(digits, BINS, mask=valid)
        tl.atomic_add(histograms + tl.arange(0, BINS), count, mask=count > 0, sem="relaxed")


@triton.jit
def finish(
    states, histograms, thresholds, cuts, index_bits,
    STEPS: tl.constexpr, BINS: tl.constexpr, BITS: tl.constexpr, FIELDS: tl.constexpr,
):  # fmt: skip
    """Thresholds (batch) and last kept indices (batch) from the last digit."""
    batch = tl.program_id(0)
    states += batch * STEPS * FIELDS + (STEPS - 1) * FIELDS
    histograms += batch * STEPS * BINS + (STEPS - 1) * BINS
    entry, _, _, _ = _narrowed(states, histograms, BINS, BITS, FIELDS)
    last = (tl.full((), 1, tl.int64) << index_bits) - 1
    tl.store(thresholds + batch, key_score(((entry >> index_bits) - 0x80000000).to(tl.int32)))
    tl.store(cuts + batch, last - (entry & last))


@triton.jit
def settle(
    counters, keys, indices, values, capacity, thresholds, cuts, states, masked, k, stride_b, stride_n, stride_k,
    STEPS: tl.constexpr, FIELDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes the kept ones of the listed entries, which the sweep left at 0, to ``masked``."""
    batch = tl.program_id(1).to(tl.int64)
    if tl.load(states + batch * STEPS * FIELDS + 3) == 0:
        listed = tl.load(counters + batch * 2 + 1)
        threshold = sort_key(tl.load(thresholds + batch))
        cut = tl.load(cuts + batch)
        for begin in range(tl.program_id(0) * BLOCK, listed, tl.num_programs(0) * BLOCK):
            place = begin + tl.arange(0, BLOCK)
            there = place < listed
            key = tl.load(keys + batch * capacity + place, mask=there, other=0)
            index = tl.load(indices + batch * capacity + place, mask=there, other=0)
            keep = there & ((key > threshold) | ((key == threshold) & (index <= cut)))
            value = tl.load(values + batch * capacity + place, mask=keep)
            tl.store(masked + batch * stride_b + index // k * stride_n + index % k * stride_k, value, mask=keep)
