"""The kernels of :mod:`pst.kernels.reference`, and exact selection, by Triton: nothing of W's shape but M * D is made.

Every function takes one matrix, or a batch of equal shape with one leading axis on W, on all factors, and on the
selection's two tensors; a batch costs as many launches as one matrix. Nothing here waits for the device.

Legend as in :mod:`pst.kernels.reference`; W may also be an :class:`pst.kernels.int8.Int8Weight`. The factors are float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pst.kernels import triton_layer as layer
from pst.kernels import triton_select as search
from pst.kernels.int8 import Int8Weight
from pst.kernels.reference import Factors, Scales
from pst.kernels.triton_tile import BM, BN, LAUNCH
from pst.masks import Selection

MOST_WEIGHTS = 2**31 - 1  # of one matrix: the kernels count in int32
EXACT_TYPES = frozenset({torch.float32})  # sums as the reference forms them; the other dtypes use the tensor cores
LISTED_SHARE = 16  # the list of a selection has room for one entry in so many
WHOLE = 65536  # matrices of at most so many weights are searched without a sample
PROGRAMS = 264  # of a digit pass
ROW_CHUNKS = 1056  # programs that a gradient pass should have at least, rows permitting


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

    @property
    def tiles(self) -> int:
        return -(-self.n // BM) * -(-self.k // BN)

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
        "BM": BM,
        "BN": BN,
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
    layer.write_scores[(batch.tiles, batch.count)](*batch.arguments, result, **batch.constants)
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
    layer.write_masked[(batch.tiles, batch.count)](
        *batch.arguments,
        thresholds,
        cuts,
        result,
        thresholds if states is None else states[:, 0, 3],
        0 if states is None else states.stride(0),
        CONDITIONAL=states is not None,
        **batch.constants,
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
    counters = torch.zeros(count * (2 + steps * search.BINS), dtype=torch.int32, device=device)
    counters, histograms = counters[: 2 * count], counters[2 * count :]
    states = torch.empty(count, steps, search.FIELDS, dtype=torch.int64, device=device)
    thresholds = torch.empty(count, dtype=torch.float32, device=device)
    cuts = torch.empty(count, dtype=torch.int64, device=device)
    capacity = numel // LISTED_SHARE
    edges = keys = indices = listed = counters
    if sampled:
        edges = torch.empty(count, 2, dtype=torch.int32, device=device)
        keys = torch.empty(count, capacity, dtype=torch.int32, device=device)
        indices = torch.empty(count, capacity, dtype=torch.int32, device=device)
        listed = keys if masked is None else torch.empty(count, capacity, dtype=batch.dtype, device=device)
        _bracket(batch, kept / numel, edges)
        search.sweep[(batch.tiles, count)](
            *batch.arguments, edges, counters, keys, indices, listed, capacity,
            batch.values if masked is None else masked, WRITE=masked is not None, **batch.constants,
        )  # fmt: skip
    shape = {"STEPS": steps, "BINS": search.BINS, "BITS": search.BITS, "FIELDS": search.FIELDS}
    programs = (max(1, min(PROGRAMS, batch.tiles)), count)
    for step in range(steps):
        search.digit[programs](
            *batch.arguments, edges, counters, keys, indices, capacity, states, histograms, step, kept, index_bits,
            SAMPLED=sampled, FIRST=step == 0, BLOCK=2048, **shape, **batch.constants,
        )  # fmt: skip
    search.finish[(count,)](states, histograms, thresholds, cuts, index_bits, **shape)
    if masked is not None:
        if sampled:
            search.settle[programs](
                counters, keys, indices, listed, capacity, thresholds, cuts, states, masked, batch.k, *masked.stride(),
                STEPS=steps, FIELDS=search.FIELDS, BLOCK=1024,
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
    search.bracket[(batch.count,)](samples, edges, first, last, COUNT=drawn, BINS=search.BINS, num_warps=16)


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
    strips, row_tiles = -(-k // BN), -(-n // BM)
    chunk_tiles = max(1, row_tiles * strips * batch.count // ROW_CHUNKS)
    chunks = -(-row_tiles // chunk_tiles)
    device = grad.device
    row_shares = torch.empty(batch.count, strips, n * ranks, device=device)
    col_shares = torch.empty(batch.count, chunks, ranks * k, device=device)
    thresholds, cuts = _tensors(selection, batch)
    layer.gradient[(strips, chunks, batch.count)](
        *batch.arguments, grad, *grad.stride(), thresholds, cuts, masked, row_shares, col_shares, chunk_tiles * BM,
        PRECISE=batch.values.dtype == torch.float32, **batch.constants,
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
