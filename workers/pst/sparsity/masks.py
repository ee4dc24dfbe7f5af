"""Exact selection of the weights that stay.

    M = 1[S is among the numel - floor(numel * s) largest], ties broken by index (the lower index stays)

The selection is held as two small values instead of a mask: the threshold t, which is the smallest kept score, and
``cut``, the flat index up to and including which scores equal to t are kept. The mask is S > t, or S == t and index
<= cut: it can be recomputed identically wherever the same S is at hand.

Selections that no threshold describes (n:m, blocks, neurons, heads: :mod:`pst.sparsity.patterns`) hold the mask itself.

The threshold is found as Floyd and Rivest's SELECT does (CACM 1975): a sorted sample brackets it, one pass counts
what lies above the bracket, and only the few scores inside the bracket are searched. The result is exact: when the
bracket misses, all scores are searched.

Legend: S (n, k) scores of one matrix; s sparsity; "global" pools the scores of several matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pst.plan.sizes import kept_count

__all__ = [
    "SAMPLE",
    "SMALL",
    "Pattern",
    "Selection",
    "explicit",
    "kept_count",
    "mask_",
    "mask_of",
    "ordered",
    "select",
    "select_global",
]

SAMPLE = 4096
SMALL = 4 * SAMPLE


class Pattern(Protocol):
    """Units of which whole ones, or parts, stay; :mod:`pst.sparsity.patterns` makes them."""

    @property
    def name(self) -> str: ...

    def values(self, scores: Tensor) -> Tensor:
        """What the units are chosen by, one number a unit, from S (n, k)."""

    def mask(self, scores: Tensor, selection: Selection) -> Tensor:
        """The boolean mask (n, k) of a selection whose threshold and cut speak of :meth:`values`."""


@dataclass(frozen=True)
class Selection:
    """Which scores of one matrix stay: those above ``threshold`` (0-dim, dtype of S), and those equal to it with a
    flat index <= ``cut`` (-1: none; numel - 1: all of them), an int64 tensor where a device found it.

    With ``mask`` (bool, of the shape of S) exactly its weights stay, and the other two say nothing. With ``pattern``
    the two speak of the values of its units, in the place of scores."""

    threshold: Tensor
    cut: int | Tensor
    mask: Tensor | None = None
    pattern: Pattern | None = None


def explicit(mask: Tensor) -> Selection:
    """The selection of exactly the weights of ``mask``, (n, k) bool: True stays.

    >>> mask_of(torch.zeros(1, 3), explicit(torch.tensor([[True, False, True]])))
    tensor([[ True, False,  True]])
    """
    return Selection(torch.full((), math.nan, device=mask.device), -1, mask)


def everything(like: Tensor, size: int) -> Selection:
    """The selection of all ``size`` weights of a matrix, whose scores have the dtype and device of ``like``."""
    return Selection(like.new_tensor(-math.inf), size - 1)


def select(scores: Tensor, kept: int) -> Selection:
    """Keep exactly ``kept`` (1..numel) of ``scores``, a contiguous tensor of any shape and of a floating dtype without
    NaN. Of scores that tie at the threshold the first stay. Floyd and Rivest 1975, "Algorithm 489: SELECT".

    >>> scores = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    >>> chosen = select(scores, kept=2)
    >>> chosen.threshold, chosen.cut
    (tensor(2.), 2)
    >>> mask_of(scores, chosen)
    tensor([[ True, False],
            [ True, False]])
    """
    values = scores.reshape(-1)
    size = values.numel()
    if kept >= size:
        return everything(values, size)
    indices, above = _bracket(values, kept)
    inside = _taken(values, indices)
    place = kept - above  # the threshold is the place-th largest inside the bracket
    threshold = _smallest(inside, inside.numel() - place)
    ties = indices[inside == threshold]
    taken = place - int((inside > threshold).sum())
    return Selection(threshold, size - 1 if taken == ties.numel() else int(ties[taken - 1]))


def select_global(scores: Sequence[Tensor], kept: int) -> list[Selection]:
    """Keep exactly ``kept`` (1..sum of numels) over all of ``scores`` together, tensors as in :func:`select` of one
    dtype and device; ties go to the earlier matrix, then to the lower index. One selection a matrix.

    >>> first, second = torch.tensor([[4.0, 1.0]]), torch.tensor([[3.0, 2.0]])
    >>> one, other = select_global([first, second], kept=3)
    >>> mask_of(first, one), mask_of(second, other)
    (tensor([[ True, False]]), tensor([[True, True]]))
    """
    chosen = select(torch.cat([matrix.reshape(-1) for matrix in scores]), kept)
    result, start = [], 0
    for matrix in scores:
        result.append(Selection(chosen.threshold, max(-1, min(int(chosen.cut) - start, matrix.numel() - 1))))
        start += matrix.numel()
    return result


def mask_(scores: Tensor, selection: Selection) -> Tensor:
    """Overwrite ``scores`` (n, k; contiguous) with the mask as ones and zeros of its dtype, and return it. They are the
    scores by which ``selection`` was chosen.

    In place and in the scores' dtype because torch's comparisons into bool are several times slower on a CPU.
    """
    if selection.mask is not None:
        return scores.copy_(selection.mask.view(torch.uint8))  # torch widens bytes far faster than bools
    if selection.pattern is not None:
        return scores.copy_(selection.pattern.mask(scores, selection))
    flat, cut = scores.view(-1), int(selection.cut)
    flat[: cut + 1].ge_(selection.threshold)
    flat[cut + 1 :].gt_(selection.threshold)
    return scores


def mask_of(scores: Tensor, selection: Selection) -> Tensor:
    """The mask (n, k) bool, True for what stays, of the ``scores`` (n, k) by which ``selection`` was chosen; not to be
    written to."""
    return selection.mask if selection.mask is not None else mask_(scores.clone(), selection).bool()


def _by_numpy(values: Tensor) -> bool:
    """Whether numpy, which sorts, finds and gathers several times faster than torch, can."""
    return values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)


def ordered(values: Tensor) -> Tensor:
    """``values`` (size), sorted."""
    return torch.from_numpy(np.sort(values.numpy())) if _by_numpy(values) else values.sort().values


def _taken(values: Tensor, indices: Tensor) -> Tensor:
    return torch.from_numpy(values.numpy()[indices.numpy()]) if _by_numpy(values) else values[indices]


def _smallest(values: Tensor, place: int) -> Tensor:
    """The value (0-dim) before which ``place`` of ``values`` (size) come."""
    if _by_numpy(values):
        return torch.from_numpy(np.partition(values.numpy(), place)[place : place + 1].copy()).squeeze(0)
    return values.kthvalue(place + 1).values


def _bracket(values: Tensor, kept: int) -> tuple[Tensor, int]:
    """Indices of a range of values that holds the ``kept``-th largest and all that equal it, and the number of values
    above the range."""
    size = values.numel()
    if size <= SMALL:
        return torch.arange(size, device=values.device), 0
    # An odd stride does not run along the columns of a matrix.
    sample = ordered(values[:: (size // SAMPLE) | 1])
    drawn, share = sample.numel(), 1 - kept / size
    slack = 3 * math.sqrt(drawn * share * (1 - share)) + 2
    first, last = math.floor(share * drawn - slack), math.ceil(share * drawn + slack)
    low = sample[first] if first >= 0 else values.new_tensor(-math.inf)
    high = sample[last] if last < drawn else values.new_tensor(math.inf)
    if _by_numpy(values):
        array = values.numpy()
        indices = torch.from_numpy(np.flatnonzero((array >= low.item()) & (array <= high.item())))
        above = int(np.count_nonzero(array > high.item()))
    else:
        indices = ((values >= low) & (values <= high)).nonzero().reshape(-1)
        above = int((values > high).sum())
    if above < kept <= above + indices.numel():
        return indices, above
    return torch.arange(size, device=values.device), 0
