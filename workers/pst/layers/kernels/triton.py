# mypy: disable-error-code="import-not-found,no-untyped-call"
"""The kernels of :mod:`pst.layers.kernels.reference`, and exact selection, by Triton: nothing of W's shape but M * D is
made.

Every function takes one matrix, or a batch of equal shape with one leading axis on W, on all factors, and on the
selection's two tensors; a batch costs as many launches as one matrix. Nothing here waits for the device; numbers of
kept weights may lie on it.

Legend as in :mod:`pst.layers.kernels.reference`; W may also be an :class:`pst.layers.kernels.int8.Int8Weight`. The
factors are float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton import knobs

from pst.layers.kernels import triton_layer as layer
from pst.layers.kernels import triton_select as search
from pst.layers.kernels import triton_tile as tile
from pst.layers.kernels.int8 import Int8Weight
from pst.layers.kernels.reference import Factors, Scales
from pst.sparsity.masks import Pattern, Selection

MAX_WEIGHTS = 2**31 - 1  # of one matrix: the kernels count in int32
EXACT_TYPES = frozenset({torch.float32})  # sums as the reference forms them; the other dtypes use the tensor cores
LISTED_SHARE = 16  # the list of a selection has room for one entry in so many
WHOLE = 65536  # matrices of at most so many weights are searched without a sample
PROGRAMS = 264  # of a pass that loops, at most
SETTLERS = 8  # programs for each segment of the list
ROW_CHUNKS = 1056  # programs that a gradient pass should have at least, rows permitting
ENTRIES, MASK = tile.ENTRIES.value, tile.MASK.value
BLOCK_4X1 = tile.BLOCK_4X1.value
PATTERNS = {"2:4": tile.TWO_OF_FOUR.value, "block_1x4": tile.BLOCK_1X4.value, "block_4x1": BLOCK_4X1}
"""Those of which the kernels make masks tile by tile, by name."""


class Tile(NamedTuple):
    """Rows and columns of a program's tile, warps that work on it, stages of its loop."""

    rows: int
    cols: int
    warps: int
    stages: int = 1


# By kind and kernel. Measured on an H200 (docs/benchmarks/gpu.md). The tensor cores take 64 rows at least. The
# gradient pass must have 8 warps: with 4, Triton 3.6 compiles it into wrong sums and illegal addresses.
TILES = {
    "parts": {
        "sweep": Tile(64, 32, 4),
        "scan": Tile(64, 64, 4),
        "mask": Tile(64, 32, 4),
        "gradient": Tile(64, 128, 8, 2),
        "gradient, low rank": Tile(128, 128, 8, 2),
    },
    "exact": {
        "sweep": Tile(16, 128, 4),
        "scan": Tile(64, 64, 4),
        "mask": Tile(64, 64, 4),
        "gradient": Tile(64, 128, 8),
    },
    "plain": {"sweep": Tile(1, 2048, 4), "scan": Tile(1, 2048, 4)},
}


@dataclass(frozen=True)
class _Batch:
    """One call's matrices: the kernels' common arguments, and the shape. ``whole``: the same with the factors
    themselves."""

    arguments: tuple[Any, ...]
    whole: tuple[Any, ...]
    constants: dict[str, Any]
    kind: str
    count: int
    n: int
    k: int
    values: Tensor  # W (batch, n, k)
    dtype: torch.dtype

    def tile(self, kernel: str) -> tuple[Tile, int, dict[str, Any]]:
        """The kernel's tile, how many cover a matrix, and the constants that follow."""
        size = TILES[self.kind][kernel]
        even = self.n % size.rows == 0 and self.k % size.cols == 0
        constants = {"BM": size.rows, "BN": size.cols, "EVEN": even, "num_warps": size.warps, "num_stages": size.stages}
        return size, -(-self.n // size.rows) * -(-self.k // size.cols), self.constants | constants

    def empty_masked(self) -> Tensor:
        """Room for M * D, with the strides of W."""
        return torch.empty_strided(self.values.shape, self.values.stride(), dtype=self.dtype, device=self.values.device)


def _padded(rank: int) -> int:
    """The rank that a dot takes: a power of two, at least 16."""
    return max(16, 1 << (rank - 1).bit_length())


def _batch(weight: Tensor | Int8Weight, f: Factors, scales: Scales) -> _Batch:
    """Raises :class:`ValueError` for a matrix that the kernels can't count."""
    values = weight.values if isinstance(weight, Int8Weight) else weight
    if values.dim() == 2:
        values = values.unsqueeze(0)
    count, n, k = values.shape
    _check_size(n, k)
    if not (values[0].is_contiguous() or values[0].T.is_contiguous()):
        values = values.contiguous()
    exact = values.dtype in EXACT_TYPES
    rank1, rank2 = f.u.shape[-1], f.a.shape[-1]
    constants = {
        "R1": rank1,
        "R2": rank2,
        "P1": _padded(rank1),
        # The gradients of R and C share a dot with those of A and B; in parts R and C do so with A and B themselves.
        "P2": _padded(rank2 + (1 if exact else 2 * tile.PARTS)),
        "EXACT": exact,
        "PLAIN": False,
        "WIDE": knobs.runtime.interpret,  # the interpreter has no bf16 dot
        "QUANTIZED": isinstance(weight, Int8Weight),
        **tile.LAUNCH,
    }
    constants["W1"] = rank1 if exact else 2 * constants["P1"]
    constants["W2"] = rank2 if exact else 2 * constants["P2"]
    given = tuple(factor.float().contiguous() for factor in f)
    rest = (*(float(scale) for scale in scales), n, k)
    row_scales = weight.row_scales if isinstance(weight, Int8Weight) else values
    used = given if exact else _split(given, rest, constants, count)
    return _Batch(
        (values, row_scales, *used, *rest, *values.stride()),
        (values, row_scales, *given, *rest, *values.stride()),
        constants,
        "exact" if exact else "parts",
        count,
        n,
        k,
        values,
        weight.dtype,
    )


def _check_size(n: int, k: int) -> None:
    if n * k > MAX_WEIGHTS:
        raise ValueError(f"A matrix of {n} x {k} weights is larger than {MAX_WEIGHTS}; use the reference kernels.")


def _split(given: tuple[Tensor, ...], rest: tuple[Any, ...], constants: dict[str, Any], count: int) -> tuple[Any, ...]:
    """The factors in parts."""
    n, k = rest[-2:]
    sizes = [count * 2 * constants[padded] * length for padded in ("P1", "P2") for length in (n, k)]
    parts = torch.empty(sum(sizes), dtype=torch.bfloat16, device=given[0].device).split(sizes)
    block = 64
    tile.split[(-(-n // block) + -(-k // block), count)](
        *given, *rest, *parts, **{name: constants[name] for name in ("R1", "R2", "P1", "P2")}, BLOCK=block
    )
    return *parts, *given[4:]


def _plain_batch(values: Tensor) -> _Batch:
    """Scores (batch, size) that are there already."""
    values = values.float().contiguous().unsqueeze(1)
    count, n, k = values.shape
    _check_size(n, k)
    constants = {
        **dict.fromkeys(("R1", "R2", "W1", "W2"), 0),
        **dict.fromkeys(("P1", "P2"), 16),
        "EXACT": True,
        "PLAIN": True,
        "WIDE": False,
        "QUANTIZED": False,
        **tile.LAUNCH,
    }
    arguments = (*[values] * 8, 0.0, 0.0, 0.0, n, k, *values.stride())
    return _Batch(arguments, arguments, constants, "plain", count, n, k, values, values.dtype)


def _tensors(selection: Selection, batch: _Batch) -> tuple[tuple[Any, ...], Any]:
    """What says which weights stay: threshold (batch) float32, cut (batch) int64, mask and its strides; and the
    pattern's code. A matrix has 2^31 entries at most, so a mask is never read from another place."""
    cut: Any = selection.cut
    if not isinstance(cut, Tensor):
        cut = torch.full((batch.count,), cut, dtype=torch.int64, device=batch.values.device)
    pair = (selection.threshold.reshape(-1).float(), cut.reshape(-1))
    mask = selection.mask
    if mask is None:
        code = ENTRIES if selection.pattern is None else PATTERNS[selection.pattern.name]
        return (*pair, pair[1], 0, 0, 0), code
    mask = mask.view(torch.uint8)
    mask = mask if mask.dim() == 3 else mask.unsqueeze(0)
    return (*pair, mask, *mask.stride()), MASK


def scores(weight: Tensor | Int8Weight, f: Factors, scales: Scales) -> Tensor:
    """S (n, k) float32."""
    batch = _batch(weight, f, scales)
    result = torch.empty(batch.values.shape, dtype=torch.float32, device=batch.values.device)
    _, tiles, constants = batch.tile("scan")
    layer.write_scores[(tiles, batch.count)](*batch.arguments, result, **constants)
    return result.reshape(_shape(weight))


def unit_values(weight: Tensor | Int8Weight, f: Factors, scales: Scales, pattern: Pattern) -> Tensor:
    """What the units of a pattern of :data:`PATTERNS` are chosen by: float32, as ``pattern.values(S)``."""
    batch = _batch(weight, f, scales)
    code = PATTERNS[pattern.name]
    down, across = (4, 1) if code == BLOCK_4X1 else (1, 4)
    shape = (batch.count, -(-batch.n // down), -(-batch.k // across))
    result = torch.empty(shape, dtype=torch.float32, device=batch.values.device)
    _, tiles, constants = batch.tile("scan")
    layer.write_units[(tiles, batch.count)](*batch.arguments, result, PATTERN=code, **constants)
    return result.view(*_shape(weight)[:-2], *shape[1:])


def line_sums(weight: Tensor | Int8Weight, f: Factors, scales: Scales, axis: int) -> Tensor:
    """The sums of S for each row (n; axis 0) or each column (k; axis 1)."""
    batch = _batch(weight, f, scales)
    size, tiles, constants = batch.tile("scan")
    shares, length = (-(-batch.k // size.cols), batch.n) if axis == 0 else (-(-batch.n // size.rows), batch.k)
    result = torch.empty(batch.count, shares, length, dtype=torch.float32, device=batch.values.device)
    layer.write_lines[(tiles, batch.count)](*batch.arguments, result, AXIS=axis, **constants)
    return result.sum(1).view(*_shape(weight)[:-2], length)


def masked_weight(weight: Tensor | Int8Weight, f: Factors, scales: Scales, selection: Selection) -> Tensor:
    """M * D (n, k), in W's dtype; a pruned weight is +0.0."""
    batch = _batch(weight, f, scales)
    result = batch.empty_masked()
    _write_masked(batch, *_tensors(selection, batch), result, None)
    return result.view(_shape(weight))


def _shape(weight: Tensor | Int8Weight) -> torch.Size:
    return weight.values.shape if isinstance(weight, Int8Weight) else weight.shape


def _write_masked(batch: _Batch, chosen: tuple[Any, ...], code: Any, result: Tensor, states: Tensor | None) -> None:
    """With ``states`` (batch, steps, fields) only the matrices of which all entries were searched."""
    _, tiles, constants = batch.tile("mask")
    programs = tiles if states is None else min(tiles, PROGRAMS)
    layer.write_masked[(programs, batch.count)](
        *batch.arguments,
        *chosen,
        result,
        chosen[0] if states is None else states[:, 0, 3],
        0 if states is None else states.stride(0),
        PATTERN=code,
        CONDITIONAL=states is not None,
        **constants,
    )


def select(weight: Tensor | Int8Weight, f: Factors, scales: Scales, kept: int | Tensor) -> Selection:
    """Keep exactly ``kept`` (0..n k) of each matrix's scores, or of each as many as the tensor ``kept`` (batch, int64)
    on the device says, 1..n k; ``cut`` of the result is a tensor on the device."""
    return _select(_batch(weight, f, scales), kept, None, single=len(_shape(weight)) == 2)


def select_masked(
    weight: Tensor | Int8Weight, f: Factors, scales: Scales, kept: int | Tensor
) -> tuple[Selection, Tensor]:
    """:func:`select` and :func:`masked_weight` with one pass over W instead of two."""
    batch = _batch(weight, f, scales)
    result = batch.empty_masked()
    selection = _select(batch, kept, result, single=len(_shape(weight)) == 2)
    return selection, result.view(_shape(weight))


def select_values(values: Tensor, kept: int | Tensor) -> Selection:
    """Keep exactly ``kept`` of each row of ``values`` (batch, size), as :func:`select` does of scores."""
    return _select(_plain_batch(values), kept, None, single=False)


def _select(batch: _Batch, kept: int | Tensor, masked: Tensor | None, *, single: bool) -> Selection:
    device, count, numel = batch.values.device, batch.count, batch.n * batch.k
    counted = isinstance(kept, Tensor)
    if isinstance(kept, int) and not 0 < kept < numel:
        level = math.inf if kept <= 0 else -math.inf
        thresholds = torch.full((count,), level, device=device)
        cuts = torch.full((count,), numel - 1 if kept > 0 else -1, dtype=torch.int64, device=device)
        if masked is not None:
            _write_masked(batch, (thresholds, cuts, cuts, 0, 0, 0), ENTRIES, masked, None)
        return _selection(thresholds, cuts, single=single)

    index_bits = max(1, (numel - 1).bit_length())
    steps = -(-(32 + index_bits) // search.BITS)
    sampled = numel > WHOLE
    _, tiles, constants = batch.tile("sweep")
    segments = min(search.SEGMENTS, 1 << max(0, (tiles // 16).bit_length() - 1))
    capacity = numel // LISTED_SHARE // segments
    above, lengths, histograms = torch.zeros(
        count * (1 + segments + steps * search.BINS), dtype=torch.int32, device=device
    ).split([count, count * segments, count * steps * search.BINS])
    states = torch.empty(count, steps, search.FIELDS, dtype=torch.int64, device=device)
    thresholds = torch.empty(count, dtype=torch.float32, device=device)
    cuts = torch.empty(count, dtype=torch.int64, device=device)
    edges, entries = above, states  # read by no kernel unless sampled, but of their types
    shape = {"STEPS": steps, "FIELDS": search.FIELDS}
    bins = {"BINS": search.BINS, "BITS": search.BITS}
    if sampled:
        edges = torch.empty(count, 2, dtype=torch.int32, device=device)
        entries = torch.empty(count * segments * capacity, dtype=torch.int64, device=device)
        _bracket(batch, kept, edges)
        search.sweep[(tiles, count)](
            *batch.arguments, edges, above, lengths, entries, capacity,
            batch.values if masked is None else masked,
            WRITE=masked is not None, SEGMENTS=segments, **constants,
        )  # fmt: skip
    _, _, constants = batch.tile("scan")
    programs = (segments * max(1, min(PROGRAMS, tiles) // segments), count)
    for step in range(steps):
        search.digit[programs](
            *batch.arguments, edges, above, lengths, entries, capacity, states, histograms, step, kept, index_bits,
            COUNTED=counted, SAMPLED=sampled, FIRST=step == 0, SEGMENTS=segments, BLOCK=1024, **shape, **bins,
            **constants,
        )  # fmt: skip
    search.finish[(count,)](states, histograms, thresholds, cuts, index_bits, **shape, **bins)
    if masked is not None:
        if sampled:
            search.settle[(segments * SETTLERS, count)](
                lengths, entries, capacity, thresholds, cuts, states, masked, batch.k, *masked.stride(),
                SEGMENTS=segments, BLOCK=1024, **shape,
            )  # fmt: skip
        _write_masked(batch, (thresholds, cuts, cuts, 0, 0, 0), ENTRIES, masked, states)
    return _selection(thresholds, cuts, single=single)


def _bracket(batch: _Batch, kept: int | Tensor, edges: Tensor) -> None:
    """Edges (batch, 2) between which the largest ``kept`` of the scores end, with near certainty."""
    drawn = search.SAMPLE
    samples = torch.empty(batch.count, drawn, dtype=torch.int32, device=edges.device)
    constants = {name: batch.constants[name] for name in ("R1", "R2", "QUANTIZED", "PLAIN")}
    search.sample_scores[(drawn // 256, batch.count)](
        *batch.whole, samples, COUNT=drawn, BLOCK=256, num_warps=4, **constants
    )
    search.bracket[(batch.count, 2)](
        samples, edges, kept, batch.n * batch.k, COUNTED=isinstance(kept, Tensor), COUNT=drawn, num_warps=32
    )


def _selection(thresholds: Tensor, cuts: Tensor, *, single: bool) -> Selection:
    cut: Any = cuts[0] if single else cuts
    return Selection(thresholds[0] if single else thresholds, cut)


def gradients(
    grad: Tensor, weight: Tensor | Int8Weight, f: Factors, scales: Scales, selection: Selection
) -> tuple[Factors, Tensor]:
    """The six gradients from G (n, k), and M * D, which is written over G where dtype and strides allow."""
    batch = _batch(weight, f, scales)
    grad = grad.view(batch.values.shape)
    reuse = grad.dtype == batch.dtype and grad.stride() == batch.values.stride()
    masked = grad if reuse else batch.empty_masked()
    n, k, ranks = batch.n, batch.k, batch.constants["R1"] + batch.constants["R2"] + 1
    chosen, code = _tensors(selection, batch)
    # The larger tile has been checked on a card with ranks that fit 16, a weight in 16 bits and no pattern.
    low = batch.kind == "parts" and batch.constants["P1"] == batch.constants["P2"] == 16
    low = low and code == ENTRIES and not batch.constants["QUANTIZED"]
    size, _, constants = batch.tile("gradient, low rank" if low else "gradient")
    strips, row_tiles = -(-k // size.cols), -(-n // size.rows)
    chunk_tiles = max(1, row_tiles * strips * batch.count // ROW_CHUNKS)
    chunks = -(-row_tiles // chunk_tiles)
    device = grad.device
    row_shares = torch.empty(batch.count, strips, n * ranks, device=device)
    col_shares = torch.empty(batch.count, chunks, ranks * k, device=device)
    layer.gradient[(strips, chunks, batch.count)](
        *batch.arguments, grad, *grad.stride(), *chosen, masked, row_shares, col_shares, chunk_tiles * size.rows,
        PATTERN=code, **constants,
    )  # fmt: skip
    rows = torch.empty(batch.count, n * ranks, device=device)
    cols = torch.empty(batch.count, k * ranks, device=device)
    rank1, rank2 = f.u.shape[-1], f.a.shape[-1]
    own = scales if batch.kind == "exact" else Scales(1.0, 1.0, scales.alpha2)  # in parts, U' and P hold the others
    block = 128
    layer.reduce[(-(-max(n, k) * ranks // block), batch.count, 2)](
        row_shares, rows, strips, n * ranks, n * rank1, n * (rank1 + rank2), *scales,
        col_shares, cols, chunks, k * ranks, k * rank1, k * (rank1 + rank2), *own, BLOCK=block, AT_ONCE=16,
    )  # fmt: skip
    du, da, dr = rows.split([n * rank1, n * rank2, n], dim=1)
    dv, db, dc = cols.split([k * rank1, k * rank2, k], dim=1)
    result = Factors(*(part.view(factor.shape) for part, factor in zip((du, dv, da, db, dr, dc), f, strict=True)))
    return result, masked.view(_shape(weight))
