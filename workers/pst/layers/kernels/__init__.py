"""One dispatch for the kernels of the PST layer: Triton on a CUDA device, the reference everywhere else.

:func:`use` overrides the choice. All functions have the reference's signatures, and take an
:class:`pst.layers.kernels.int8.Int8Weight` in place of W. float64 is always the reference's.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pst.layers.kernels import reference
from pst.layers.kernels.int8 import Int8Weight
from pst.layers.kernels.reference import Factors, Scales
from pst.sparsity import masks
from pst.sparsity.masks import Pattern, Selection

BACKENDS = ("reference", "triton")
MAX_WEIGHTS = 2**31 - 1  # of a matrix that the Triton kernels can count

_override: str | None = None


@contextmanager
def use(backend: str) -> Iterator[None]:
    """Compute with the named kernels while in this context. Raises :class:`ValueError` for an unknown name."""
    global _override
    if backend not in BACKENDS:
        raise ValueError(f"There are no kernels named {backend!r}; use one of {', '.join(BACKENDS)}.")
    before, _override = _override, backend
    try:
        yield
    finally:
        _override = before


def backend_of(weight: Tensor | Int8Weight) -> str:
    """The kernels that compute with this W (n, k)."""
    values = weight.values if isinstance(weight, Int8Weight) else weight
    if values.dtype == torch.float64:
        return "reference"
    if _override is not None:
        return _override
    fits = values.shape[-2] * values.shape[-1] <= MAX_WEIGHTS
    return "triton" if values.is_cuda and fits and _has_triton() else "reference"


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _triton() -> Any:
    from pst.layers.kernels import triton

    return triton


def _plain(weight: Tensor | Int8Weight) -> Tensor:
    return weight.dequantized() if isinstance(weight, Int8Weight) else weight


def _full_precision(plain: Tensor) -> torch.autocast:
    """Without autocast, which would round the reference's sums."""
    return torch.autocast(plain.device.type, enabled=False)


def scores(weight: Tensor | Int8Weight, f: Factors, scales: Scales) -> Tensor:
    """S (n, k)."""
    if backend_of(weight) == "triton":
        return _triton().scores(weight, f, scales)  # type: ignore[no-any-return]
    plain = _plain(weight)
    with _full_precision(plain):
        return reference.scores(plain, f, scales)


def select(weight: Tensor | Int8Weight, f: Factors, scales: Scales, kept: int) -> Selection:
    """Keep exactly ``kept`` (1..n k) of the scores."""
    if backend_of(weight) == "triton":
        return _triton().select(weight, f, scales, kept)  # type: ignore[no-any-return]
    return masks.select(scores(weight, f, scales), kept)


def select_values(values: Tensor, kept: Tensor) -> Selection | None:
    """Thresholds and cuts (batch) that keep exactly ``kept`` (batch, int64, 1..size) of each row of ``values`` (batch,
    size), all on the device and found without waiting for it; None where no kernel can."""
    if backend_of(values) == "triton":
        return _triton().select_values(values, kept)  # type: ignore[no-any-return]
    return None


def unit_values(weight: Tensor | Int8Weight, f: Factors, scales: Scales, pattern: Pattern) -> Tensor:
    """What the units of a pattern are chosen by: as ``pattern.values(S)``, which is not made by Triton's kernels."""
    if backend_of(weight) == "triton":
        return _triton().unit_values(weight, f, scales, pattern)  # type: ignore[no-any-return]
    return pattern.values(scores(weight, f, scales))


def line_sums(weight: Tensor | Int8Weight, f: Factors, scales: Scales, axis: int) -> Tensor:
    """The sums of S for each row (n; axis 0) or each column (k; axis 1)."""
    if backend_of(weight) == "triton":
        return _triton().line_sums(weight, f, scales, axis)  # type: ignore[no-any-return]
    return scores(weight, f, scales).sum(1 - axis)


def masked_weight(weight: Tensor | Int8Weight, f: Factors, scales: Scales, selection: Selection) -> Tensor:
    """M * D (n, k), in W's dtype; a pruned weight is +0.0."""
    if backend_of(weight) == "triton":
        return _triton().masked_weight(weight, f, scales, selection)  # type: ignore[no-any-return]
    plain = _plain(weight)
    with _full_precision(plain):
        return reference.masked_weight(plain, f, scales, selection).to(weight.dtype)


def select_masked(
    weight: Tensor | Int8Weight, f: Factors, scales: Scales, kept: int | Tensor
) -> tuple[Selection, Tensor]:
    """:func:`select` and then :func:`masked_weight`. Triton's kernels also take numbers that lie on the device."""
    if backend_of(weight) == "triton":
        return _triton().select_masked(weight, f, scales, kept)  # type: ignore[no-any-return]
    return applied(weight, f, scales, int(kept))[:2]


def applied(
    weight: Tensor | Int8Weight, f: Factors, scales: Scales, chosen: Selection | int
) -> tuple[Selection, Tensor, Tensor | None]:
    """The selection, searched for where ``chosen`` is a count; M * D (n, k); and M (bool) where the reference found it
    by scores, which backward can then do without. Triton's kernels find it faster than they would read it."""
    if backend_of(weight) == "triton":
        if isinstance(chosen, Selection):
            return chosen, _triton().masked_weight(weight, f, scales, chosen), None
        return *_triton().select_masked(weight, f, scales, chosen), None
    plain = _plain(weight)
    with _full_precision(plain):
        selection, masked, mask = reference.applied(plain, f, scales, chosen)
    return selection, masked.to(weight.dtype), mask.bool() if selection.mask is None else None


def gradients(
    grad: Tensor, weight: Tensor | Int8Weight, f: Factors, scales: Scales, selection: Selection
) -> tuple[Factors, Tensor]:
    """The six gradients from G (n, k), which may be overwritten, and M * D recomputed on the way."""
    if backend_of(weight) == "triton":
        return _triton().gradients(grad, weight, f, scales, selection)  # type: ignore[no-any-return]
    plain = _plain(weight)
    with _full_precision(plain):
        result, masked = reference.gradients(grad, plain, f, scales, selection)
    return result, masked.to(weight.dtype)
