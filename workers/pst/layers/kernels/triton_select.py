# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,no-any-return"
# mypy: disable-error-code="untyped-decorator,no-untyped-call"
"""Exact selection on the device: the same threshold and ties as :mod:`pst.sparsity.masks`, without scores in memory.

An entry (score, index) is one integer, key(score) * 2^b + (2^b - 1 - index), so that entries differ and the larger
one is kept first. The kept-th largest entry holds the threshold and the last kept index. It is found so:

    sample   the scores of some entries, drawn one from each stretch of the matrix
    bracket  a range of keys that holds the kept-th largest with near certainty, from the sample's order
    sweep    one pass over W: counts the entries above the bracket, and lists those inside it (a few per cent)
    digit    narrows the range by 11 bits, from a histogram of the entries in the range; repeated until one is left
    finish   writes threshold and index

Should the bracket miss, or its entries overflow the list (very many equal scores), the digit passes compute all scores
again: slower, and still exact. All decisions stay on the device: no step waits for the host, and the whole can be
captured in a CUDA graph. The counters are integers, so the order of the atomic additions cannot change the result.

Legend as in :mod:`pst.layers.kernels.triton_tile`; b bits of an index. A range is (low, width): entries e with
0 <= e - low < 2^width. place: the wanted entry is the place-th largest of its range.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pst.layers.kernels.triton_tile import key_score, load_weight, score_tile, sort_key, tile_of

SAMPLE = 16384
DEVIATIONS = tl.constexpr(3)  # of the sample's share that the bracket reaches to each side; it misses once in 400 times
SEGMENTS = 128  # of the list, at most
BINS = 2048
BITS = 11  # log2(BINS)
FIELDS = 4  # of a pass's state: low, width, place, 1 when all entries are searched

# Kernel arguments in common: W and the six factors, one matrix after the other; the scales; the shape; constants.


@triton.jit
def sample_scores(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k, out,
    R1: tl.constexpr, R2: tl.constexpr, QUANTIZED: tl.constexpr, PLAIN: tl.constexpr, COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Keys (batch, COUNT) of a stratified sample, from the factors themselves. Its scores may differ from the tiles' in
    the last places."""
    batch = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    step = (n * k) // COUNT
    mixed = place.to(tl.uint32) * 0x9E3779B1  # a place within each stretch that runs along no row or column
    mixed = (mixed ^ (mixed >> 15)) * 0x85EBCA77
    index = place * step + ((mixed ^ (mixed >> 13)) & 0x7FFFFFFF).to(tl.int32) % step
    row, col = index // k, index % k
    value = tl.load(w + batch * stride_b + row * stride_n + col * stride_k).to(tl.float32)
    if QUANTIZED:
        value *= tl.load(scale + batch * n + row)
    score = value
    if not PLAIN:
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
def _wanted(kept, batch, COUNTED: tl.constexpr):
    if COUNTED:  # noqa: SIM108 - decided when the kernel is compiled
        wanted = tl.load(kept + batch).to(tl.int32)
    else:
        wanted = kept
    return wanted


@triton.jit
def bracket(samples, edges, kept, numel, COUNTED: tl.constexpr, COUNT: tl.constexpr):
    """Edges (batch, 2) as keys, between which the largest ``kept`` of ``numel`` scores end with near certainty: two
    ranks of the sample, widened to 19 bits; a rank outside the sample gives an open end. Both by bisection: the largest
    prefix that at most ``rank`` keys lie below."""
    batch = tl.program_id(0)
    wanted = tl.full((), 0, tl.int32) + _wanted(kept, batch, COUNTED)
    share = 1 - wanted.to(tl.float32) / numel
    slack = DEVIATIONS * tl.sqrt(COUNT * share * tl.maximum(1 - share, 0.0)) + 2
    upper = tl.program_id(1)
    rank = tl.where(upper == 0, tl.floor(share * COUNT - slack), tl.ceil(share * COUNT + slack)).to(tl.int32)
    key = tl.load(samples + batch * COUNT + tl.arange(0, COUNT))
    edge = tl.full((), -0x80000000, tl.int64)
    for bit in range(31, 12, -1):
        step = tl.full((), 1, tl.int64) << bit
        below = tl.sum((key < (edge + step).to(tl.int32)).to(tl.int32), 0)
        edge += tl.where(below <= rank, step, 0)
    outside = tl.where(upper == 0, rank < 0, rank >= COUNT)
    edge = tl.where(outside, tl.where(upper == 0, -0x80000000, 0x7FFFFFFF), edge + tl.where(upper == 0, 0, 8191))
    tl.store(edges + batch * 2 + upper, edge.to(tl.int32))


@triton.jit
def sweep(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    edges, above_counts, lengths, entries, capacity, masked,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr,
    EVEN: tl.constexpr, SEGMENTS: tl.constexpr, WRITE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Counts the entries above the bracket (batch), and lists those inside it: ``entries`` (batch, SEGMENTS,
    capacity) of key and index, each segment's first ``lengths`` (batch, SEGMENTS), more than capacity where the list
    overflows.
    With WRITE, D of all these goes to ``masked``, 0 elsewhere."""
    batch = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(0)
    rows, cols, row_ok, col_ok, _, _ = tile_of(tile, n, k, BM, BN, EVEN)
    inside = row_ok[:, None] & col_ok[None, :]
    value = load_weight(
        w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
    )
    updated, score = score_tile(
        value, u + batch * n * W1, v + batch * k * W1, a + batch * n * W2, b + batch * k * W2, r + batch * n, c +
        batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT, PLAIN, WIDE,
    )  # fmt: skip
    key = sort_key(score)
    low, high = tl.load(edges + batch * 2), tl.load(edges + batch * 2 + 1)
    listed = (inside & (key >= low) & (key <= high)).to(tl.int32)
    if WRITE:
        target = masked + batch * stride_b + rows[:, None] * stride_n + cols[None, :] * stride_k
        tl.store(target, tl.where(key >= low, updated + 0.0, 0.0).to(masked.dtype.element_ty), mask=inside)
    by_row = tl.sum((inside & (key > high)).to(tl.int32) | (listed << 16), 1)  # both counts in one
    counts = tl.sum(by_row, 0)
    by_row = by_row >> 16
    tl.atomic_add(above_counts + batch, counts & 0xFFFF, sem="relaxed")
    # Neighbouring tiles go to unrelated segments, so that a dense row or column does not fill one.
    segment = batch * SEGMENTS + ((tile * 40503 >> 4) & (SEGMENTS - 1))
    start = tl.atomic_add(lengths + segment, counts >> 16, sem="relaxed")
    position = start + (tl.cumsum(by_row, 0) - by_row)[:, None] + tl.cumsum(listed, 1) - listed
    room = (listed > 0) & (position < capacity)
    entry = (key.to(tl.int64) << 32) | (rows[:, None] * k + cols[None, :]).to(tl.int64)
    tl.store(entries + segment * capacity + position, entry, mask=room)


@triton.jit
def _first_range(
    edges, above_count, lengths, wanted, capacity, index_bits, SAMPLED: tl.constexpr, SEGMENTS: tl.constexpr
):
    """(low, width, place, full) before the first digit."""
    low = tl.full((), 0, tl.int64)
    width = tl.full((), 32, tl.int64) + index_bits
    place = tl.full((), 0, tl.int64) + wanted
    full = tl.full((), 1, tl.int64)
    if SAMPLED:
        above = tl.load(above_count).to(tl.int64)
        length = tl.load(lengths + tl.arange(0, SEGMENTS))
        listed = tl.sum(length.to(tl.int64), 0)
        if (above < wanted) & (wanted <= above + listed) & (tl.max(length, 0) <= capacity):
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
def _count(histogram, entry, valid, first, low, width, BITS: tl.constexpr):
    """Adds the digits of those entries that lie in the range. Those equal to the digit of the ``first`` are added at
    once, so that very many equal scores do not queue for one counter."""
    offset = entry - low
    valid = valid & (offset >= 0) & ((offset >> width) == 0)
    place = tl.where(valid, offset >> tl.maximum(width - BITS, 0), 0).to(tl.int32)
    pivot = tl.max(tl.max(tl.where(first, place, 0), 1), 0)
    same = valid & (place == pivot)
    equal = tl.sum(tl.sum(same.to(tl.int32), 1), 0)
    tl.atomic_add(histogram + pivot, equal, mask=equal > 0, sem="relaxed")
    tl.atomic_add(histogram + place, tl.zeros_like(place) + 1, mask=valid & (place != pivot), sem="relaxed")


@triton.jit(do_not_specialize=["step"])
def digit(
    w, scale, u, v, a, b, r, c, beta, alpha1, alpha2, n, k, stride_b, stride_n, stride_k,
    edges, above_counts, lengths, entries, capacity, states, histograms, step, kept, index_bits,
    R1: tl.constexpr, R2: tl.constexpr, P1: tl.constexpr, P2: tl.constexpr, W1: tl.constexpr, W2: tl.constexpr,
    EXACT: tl.constexpr, PLAIN: tl.constexpr, WIDE: tl.constexpr, QUANTIZED: tl.constexpr, EVEN: tl.constexpr,
    COUNTED: tl.constexpr, SAMPLED: tl.constexpr, FIRST: tl.constexpr, STEPS: tl.constexpr, SEGMENTS: tl.constexpr,
    BLOCK: tl.constexpr, BINS: tl.constexpr, BITS: tl.constexpr, FIELDS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Range of digit number ``step`` into ``states`` (batch, STEPS, FIELDS), and the histogram of that digit over the
    entries in the range into ``histograms`` (batch, STEPS, BINS), which come as zeros."""
    batch = tl.program_id(1).to(tl.int64)
    program, programs = tl.program_id(0), tl.num_programs(0)
    states += batch * STEPS * FIELDS + step * FIELDS
    histograms += batch * STEPS * BINS + step * BINS
    lengths += batch * SEGMENTS
    if FIRST:
        low, width, place, full = _first_range(
            edges + batch * 2, above_counts + batch, lengths, _wanted(kept, batch, COUNTED), capacity, index_bits,
            SAMPLED, SEGMENTS,
        )  # fmt: skip
    else:
        low, width, place, full = _narrowed(states - FIELDS, histograms - BINS, BINS, BITS, FIELDS)
    if program == 0:
        tl.store(states, low)
        tl.store(states + 1, width)
        tl.store(states + 2, place)
        tl.store(states + 3, full)
    last = (tl.full((), 1, tl.int64) << index_bits) - 1
    if width > 0:
        if full != 0:
            for tile in range(program, tl.cdiv(n, BM) * tl.cdiv(k, BN), programs):
                rows, cols, row_ok, col_ok, _, _ = tile_of(tile, n, k, BM, BN, EVEN)
                inside = row_ok[:, None] & col_ok[None, :]
                value = load_weight(
                    w + batch * stride_b, scale + batch * n, rows, cols, inside, row_ok, stride_n, stride_k, QUANTIZED
                )
                _, score = score_tile(
                    value, u + batch * n * W1, v + batch * k * W1, a + batch * n * W2, b + batch * k * W2, r + batch *
                    n, c + batch * k, beta, alpha1, alpha2, rows, cols, row_ok, col_ok, k, R1, R2, P1, P2, EXACT, PLAIN,
                    WIDE,
                )  # fmt: skip
                entry = (sort_key(score).to(tl.int64) + 0x80000000) << index_bits
                entry += last - (rows[:, None] * k + cols[None, :])
                first = (tl.arange(0, BM)[:, None] == 0) & (tl.arange(0, BN)[None, :] == 0)
                _count(histograms, entry, inside, first, low, width, BITS)
        else:
            # A segment has programs / SEGMENTS programs; the host starts a multiple.
            segment = program % SEGMENTS
            length = tl.load(lengths + segment)
            begin_at = (batch * SEGMENTS + segment) * capacity
            for begin in range(program // SEGMENTS * BLOCK, length, programs // SEGMENTS * BLOCK):
                position = begin + tl.arange(0, BLOCK)[None, :]
                there = position < length
                listed = tl.load(entries + begin_at + position, mask=there, other=0)
                entry = (((listed >> 32) + 0x80000000) << index_bits) + (last - (listed & 0xFFFFFFFF))
                _count(histograms, entry, there, position == begin, low, width, BITS)


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
    lengths, entries, capacity, thresholds, cuts, states, masked, k, stride_b, stride_n, stride_k,
    STEPS: tl.constexpr, FIELDS: tl.constexpr, SEGMENTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sets those of the listed entries that are not kept, all of which the sweep wrote, to 0 in ``masked``."""
    batch = tl.program_id(1).to(tl.int64)
    program, programs = tl.program_id(0), tl.num_programs(0)
    if tl.load(states + batch * STEPS * FIELDS + 3) == 0:
        threshold = sort_key(tl.load(thresholds + batch))
        cut = tl.load(cuts + batch)
        segment = batch * SEGMENTS + program % SEGMENTS
        length = tl.load(lengths + segment)
        for begin in range(program // SEGMENTS * BLOCK, length, programs // SEGMENTS * BLOCK):
            position = begin + tl.arange(0, BLOCK)
            there = position < length
            entry = tl.load(entries + segment * capacity + position, mask=there, other=0)
            key, index = (entry >> 32).to(tl.int32), (entry & 0xFFFFFFFF).to(tl.int32)
            pruned = there & ((key < threshold) | ((key == threshold) & (index > cut)))
            zero = tl.zeros_like(key).to(masked.dtype.element_ty)
            tl.store(masked + batch * stride_b + index // k * stride_n + index % k * stride_k, zero, mask=pruned)
