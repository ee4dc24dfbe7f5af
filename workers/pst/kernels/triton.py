# mypy: disable-error-code="import-not-found,no-untyped-call"
"""The kernels of :mod:`pst.kernels.reference`, and exact selection, by Triton: nothing of W's shape but M * D is made.

Every function takes one matrix, or a batch of equal shape with one leading axis on W, on all factors, and on the
selection's two tensors; a batch costs as many launches as one matrix. Nothing here waits for the device.

Legend as in :mod:`pst.kernels.reference`; W may also be an :class:`pst.kernels.int8.Int8Weight`. The factors are
float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton import knobs

from pst.kernels import triton_layer as layer
from pst.kernels import triton_select as search
from pst.kernels.int8 import Int8Weight
from pst.kernels.reference import Factors, Scales
from pst.kernels.triton_tile import LAUNCH
from pst.masks import Selection

MOST_WEIGHTS = 2**31 - 1  # of one matrix: the kernels count in int32
EXACT_TYPES = frozenset({torch.float32})  # sums as the reference forms them; the other dtypes use the tensor cores
LISTED_SHARE = 16  # the list of a selection has room for one entry in so many
WHOLE = 65536  # matrices of at most so many weights are searched without a sample
PROGRAMS = 264  # of a pass that loops, at most
ROW_CHUNKS = 1056  # programs that a gradient pass should have at least, rows permitting


class Tile(NamedTuple):
    """Rows and columns of a program's tile, warps that work on it, stages of its loop."""

    rows: int
    cols: int
    warps: int
    stages: int = 1


# By EXACT and kernel. Measured on an H200 (docs/benchmarks/gpu.md). The tensor cores take 64 rows at least. The
# gradient pass must have 8 warps: with 4, Triton 3.6 compiles it into wrong sums and illegal addresses.
TILES = {
    False: {
        "sweep": Tile(64, 32, 4),
        "scan": Tile(64, 64, 4),
        "mask": Tile(64, 32, 4),
        "gradient": Tile(64, 128, 8, 2),
    },
    True: {
        "sweep": Tile(16, 128, 4),
        "scan": Tile(64, 64, 4),
        "mask": Tile(64, 64, 4),
        "gradient": Tile(64, 128, 8),
    },
}


@dataclass(frozen=True)
class _Batch:
    """One call's matrices: the kernels' common arguments, and the shape."""

    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    count: int
    n: int
    k: int
    values: Tensor  # W (batch, n, k)
    dtype: torch.dtype

    def tile(self, kernel: str) -> tuple[Tile, int, dict[str, Any]]:
        """The kernel's tile, how many cover a matrix, and the constants that follow."""
        tile = TILES[self.constants["EXACT"]][kernel]
        even = self.n % tile.rows == 0 and self.k % tile.cols == 0
        constants = {"BM": tile.rows, "BN": tile.cols, "EVEN": even, "num_warps": tile.warps, "num_stages": tile.stages}
        return tile, -(-self.n // tile.rows) * -(-self.k // tile.cols), self.constants | constants

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
    if n * k > MOST_WEIGHTS:
        raise ValueError(f"A matrix of {n} x {k} weights is larger than {MOST_WEIGHTS}; use the reference kernels.")
    if not (values[0].is_contiguous() or values[0].T.is_contiguous()):
        values = values.contiguous()
    factors = [factor.float().contiguous() for factor in f]
    rank1, rank2 = f.u.shape[-1], f.a.shape[-1]
    quantized = isinstance(weight, Int8Weight)
    arguments = (
        values,
        weight.row_scales if isinstance(weight, Int8Weight) else values,
        *factors,
        *(float(scale) for scale in scales),
        n,
        k,
        *values.stride(),
    )
    constants = {
        "R1": rank1,
        "R2": rank2,
        "P1": _padded(rank1),
        "P2": _padded(rank2 + 1),  # the gradients of R and C share a dot with those of A and B
        "EXACT": values.dtype in EXACT_TYPES,
        "QUANTIZED": quantized,
        **LAUNCH,
    }
    return _Batch(arguments, constants, count, n, k, values, weight.dtype)


def _tensors(selection: Selection, batch: _Batch) -> tuple[Tensor, Tensor]:
    """Threshold (batch) float32 and cut (batch) int64 on the device."""
    cut: Any = selection.cut
    if not isinstance(cut, Tensor):
        cut = torch.full((batch.count,), cut, dtype=torch.int64, device=batch.values.device)
    return selection.threshold.reshape(-1).float(), cut.reshape(-1)


def scores(weight: Tensor | Int8Weight, f: Factors, scales: Scales) -> Tensor:
    """S (n, k) float32."""
    batch = _batch(weight, f, scales)
    result = torch.empty(batch.values.shape, dtype=torch.float32, device=batch.values.device)
    _, tiles, constants = batch.tile("scan")
    layer.write_scores[(tiles, batch.count)](*batch.arguments, result, **constants)
    return result.reshape(_shape(weight))


def masked_weight(weight: Tensor | Int8Weight, f: Factors, scales: Scales, selection: Selection) -> Tensor:
    """M * D (n, k), in W's dtype; a pruned weight is +0.0."""
    batch = _batch(weight, f, scales)
    result = batch.empty_masked()
    thresholds, cuts = _tensors(selection, batch)
    _write_masked(batch, thresholds, cuts, result, None)
    return result.view(_shape(weight))


def _shape(weight: Tensor | Int8Weight) -> torch.Size:
    return weight.values.shape if isinstance(weight, Int8Weight) else weight.shape


def _write_masked(batch: _Batch, thresholds: Tensor, cuts: Tensor, result: Tensor, states: Tensor | None) -> None:
    """With ``states`` (batch, steps, fields) only the matrices of which all entries were searched."""
    _, tiles, constants = batch.tile("mask")
    programs = tiles if states is None else min(tiles, PROGRAMS)
    layer.write_masked[(programs, batch.count)](
        *batch.arguments,
        thresholds,
        cuts,
        result,
        thresholds if states is None else states[:, 0, 3],
        0 if states is None else states.stride(0),
        CONDITIONAL=states is not None,
        **constants,
    )


def select(weight: Tensor | Int8Weight, f: Factors, scales: Scales, kept: int) -> Selection:
    """Keep exactly ``kept`` (0..n k) of each matrix's scores; ``cut`` of the result is a tensor on the device."""
    return _select(_batch(weight, f, scales), kept, None, single=len(_shape(weight)) == 2)


def select_masked(weight: Tensor | Int8Weight, f: Factors, scales: Scales, kept: int) -> tuple[Selection, Tensor]:
    """:func:`select` and :func:`masked_weight` with one pass over W instead of two."""
    batch = _batch(weight, f, scales)
    result = batch.empty_masked()
    selection = _select(batch, kept, result, single=len(_shape(weight)) == 2)
    return selection, result.view(_shape(weight))


def _select(batch: _Batch, kept: int, masked: Tensor | None, *, single: bool) -> Selection:
    device, count, numel = batch.values.device, batch.count, batch.n * batch.k
    if not 0 < kept < numel:
        level = math.inf if kept <= 0 else -math.inf
        thresholds = torch.full((count,), level, device=device)
        cuts = torch.full((count,), numel - 1 if kept > 0 else -1, dtype=torch.int64, device=device)
        if masked is not None:
            _write_masked(batch, thresholds, cuts, masked, None)
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
        _bracket(batch, kept / numel, edges)
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
            SAMPLED=sampled, FIRST=step == 0, SEGMENTS=segments, BLOCK=1024, **shape, **bins, **constants,
        )  # fmt: skip
    search.finish[(count,)](states, histograms, thresholds, cuts, index_bits, **shape, **bins)
    if masked is not None:
        if sampled:
            search.settle[programs](
                lengths, entries, capacity, thresholds, cuts, states, masked, batch.k, *masked.stride(),
                SEGMENTS=segments, BLOCK=1024, **shape,
            )  # fmt: skip
        _write_masked(batch, thresholds, cuts, masked, states)
    return _selection(thresholds, cuts, single=single)


def _bracket(batch: _Batch, share: float, edges: Tensor) -> None:
    """Edges (batch, 2) between which the largest ``share`` of the scores ends, with near certainty."""
    drawn = search.SAMPLE
    samples = torch.empty(batch.count, drawn, dtype=torch.int32, device=edges.device)
    constants = {name: batch.constants[name] for name in ("R1", "R2", "QUANTIZED")}
    search.sample_scores[(drawn // 256, batch.count)](
        *batch.arguments, samples, COUNT=drawn, BLOCK=256, num_warps=4, **constants
    )
    slack = 4 * math.sqrt(drawn * share * (1 - share)) + 2
    first, last = math.floor((1 - share) * drawn - slack), math.ceil((1 - share) * drawn + slack)
    search.bracket[(batch.count,)](samples, edges, first, last, COUNT=drawn, num_warps=32)


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
    tile, _, constants = batch.tile("gradient")
    strips, row_tiles = -(-k // tile.cols), -(-n // tile.rows)
    chunk_tiles = max(1, row_tiles * strips * batch.count // ROW_CHUNKS)
    chunks = -(-row_tiles // chunk_tiles)
    device = grad.device
    row_shares = torch.empty(batch.count, strips, n * ranks, device=device)
    col_shares = torch.empty(batch.count, chunks, ranks * k, device=device)
    thresholds, cuts = _tensors(selection, batch)
    precise = batch.values.dtype == torch.float32 or knobs.runtime.interpret  # the interpreter has no bf16 dot
    layer.gradient[(strips, chunks, batch.count)](
        *batch.arguments, grad, *grad.stride(), thresholds, cuts, masked, row_shares, col_shares, chunk_tiles *
        tile.rows, PRECISE=precise, **constants,
    )  # fmt: skip
    rows, cols = _reduced(row_shares, n, batch, scales), _reduced(col_shares, k, batch, scales)
    rank1, rank2 = f.u.shape[-1], f.a.shape[-1]
    du, da, dr = rows.split([n * rank1, n * rank2, n], dim=1)
    dv, db, dc = cols.split([k * rank1, k * rank2, k], dim=1)
    result = Factors(*(part.view(factor.shape) for part, factor in zip((du, dv, da, db, dr, dc), f, strict=True)))
    return result, masked.view(_shape(weight))


def _reduced(shares: Tensor, unit: int, batch: _Batch, scales: Scales) -> Tensor:
    """The sum (batch, length) of shares (batch, count, length), times beta, alpha1 and alpha2 in their sections."""
    count, length = shares.shape[1:]
    result = torch.empty(batch.count, length, device=shares.device)
    first = unit * batch.constants["R1"]
    layer.reduce[(-(-length // 1024), batch.count)](
        shares, result, count, length, first, length - unit, scales.beta, scales.alpha1, scales.alpha2, BLOCK=1024
    )
    return result
