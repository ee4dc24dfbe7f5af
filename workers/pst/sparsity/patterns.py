"""Patterns in which weights are removed, as pure functions from scores to selections.

    unstructured           the largest scores of a matrix, or of all matrices together
    n:m                    the n largest of each m along a row (Zhou et al. 2021, arXiv 2102.04010)
    block_1x4, block_4x1   the blocks with the largest sums of scores, an exact count of blocks
    structured             the neurons and heads with the largest mean score, as many in every layer

A rising sparsity reaches n:m group by group: at sparsity s a share s / (1 - n / m) of all groups holds the pattern,
those first that lose the least score by it, and the others are whole. So the schedule stays the cubic one, and the last
phase is exactly n:m. (Kao et al. 2022, arXiv 2209.07617, lower n instead while training: 4:4, 3:4, 2:4 are but two
steps.) Where k is no multiple of m, the r weights left over in a row keep ceil(r n / m). Blocks at the edges may hang
over: they count as blocks, and their sum is over the weights that are there.

Ties are broken by index everywhere: the lower one stays; in "global" selections the earlier matrix.

Legend: S (n, k) scores of a matrix; s sparsity; groups (n, G) with G = ceil(k / m); blocks (N, K).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pst.plan.sizes import STRUCTURE_BLOCKS, grid, pruned_count
from pst.sparsity.masks import Pattern, Selection, explicit, kept_count, mask_of, select, select_global


class Scored:
    """A layer that knows its scores; the rest follows from them, and a layer may know it without making S."""

    makes_patterns = False
    """Whether its kernels make a pattern's mask tile by tile, so that S need not be made."""

    def scores(self) -> Tensor:
        """S (n, k) as it stands, without gradient."""
        raise NotImplementedError

    def unit_values(self, pattern: Pattern) -> Tensor:
        """``pattern.values(S)``, without gradient."""
        return pattern.values(self.scores())

    def line_sums(self, axis: int) -> Tensor:
        """The sums of S for each row (n; axis 0) or each column (k; axis 1), without gradient."""
        return self.scores().sum(1 - axis)


def largest(scores: Sequence[Tensor], kept_of: Callable[[int], int], pooled: bool) -> list[Selection]:
    """The ``kept_of(numel)`` largest of each tensor, or of all of them together; 0 gives empty selections."""
    if pooled:
        kept = kept_of(sum(matrix.numel() for matrix in scores))
        return select_global(scores, kept) if kept else [_none(matrix) for matrix in scores]
    counts = [kept_of(matrix.numel()) for matrix in scores]
    return [select(m, kept) if kept else _none(m) for m, kept in zip(scores, counts, strict=True)]


def _none(scores: Tensor) -> Selection:
    return Selection(scores.new_tensor(math.inf), -1)


def unstructured(scores: Sequence[Tensor], sparsity: float, pooled: bool) -> list[Selection]:
    """The largest scores."""
    return largest(scores, lambda numel: kept_count(numel, sparsity), pooled)


@dataclass(frozen=True)
class NM:
    """``keep`` of each ``size`` along k, in as large a share of the groups as the sparsity asks for; in all of them
    from 1 - keep / size on. The units are the groups, their values minus the scores that the pattern would lose: the
    largest hold the pattern."""

    keep: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.keep}:{self.size}"

    def values(self, scores: Tensor) -> Tensor:
        return self._values(scores, n_m_mask(scores, self.keep, self.size))

    def _values(self, scores: Tensor, mask: Tensor) -> Tensor:
        return _grouped(scores.masked_fill(mask, 0.0), self.size, 0.0).sum(-1).neg_()

    def mask(self, scores: Tensor, selection: Selection) -> Tensor:
        mask = n_m_mask(scores, self.keep, self.size)
        return self._mask(mask, self._values(scores, mask), selection)

    def _mask(self, mask: Tensor, values: Tensor, selection: Selection) -> Tensor:
        held = mask_of(values, replace(selection, pattern=None)).repeat_interleave(self.size, 1)[:, : mask.shape[1]]
        return mask.logical_or_(~held)

    def choose(self, values: Sequence[Tensor], sparsity: float, pooled: bool) -> list[Selection]:
        """Selections of the units from their values."""
        share = min(1.0, sparsity / (1 - self.keep / self.size))
        if share < 1:
            return largest(values, lambda groups: pruned_count(groups, share), pooled)
        return [Selection(matrix.new_tensor(-math.inf), matrix.numel() - 1) for matrix in values]

    def __call__(self, scores: Sequence[Tensor], sparsity: float, pooled: bool) -> list[Selection]:
        masks = [n_m_mask(matrix, self.keep, self.size) for matrix in scores]
        if sparsity < 1 - self.keep / self.size:
            values = [self._values(matrix, mask) for matrix, mask in zip(scores, masks, strict=True)]
            chosen = self.choose(values, sparsity, pooled)
            masks = [self._mask(*each) for each in zip(masks, values, chosen, strict=True)]
        return [explicit(mask) for mask in masks]


@dataclass(frozen=True)
class Blocks:
    """Exactly kept_count(N K, sparsity) blocks of ``down`` x ``across`` weights, those with the largest sums of
    scores."""

    name: str
    down: int
    across: int

    def values(self, scores: Tensor) -> Tensor:
        return block_sums(scores, (self.down, self.across))

    def mask(self, scores: Tensor, selection: Selection) -> Tensor:
        return self._mask(scores, self.values(scores), selection)

    def _mask(self, scores: Tensor, values: Tensor, selection: Selection) -> Tensor:
        n, k = scores.shape
        stay = mask_of(values, replace(selection, pattern=None))
        return stay.repeat_interleave(self.down, 0).repeat_interleave(self.across, 1)[:n, :k].contiguous()

    def choose(self, values: Sequence[Tensor], sparsity: float, pooled: bool) -> list[Selection]:
        """Selections of the units from their values."""
        return largest(values, lambda count: kept_count(count, sparsity), pooled)

    def __call__(self, scores: Sequence[Tensor], sparsity: float, pooled: bool) -> list[Selection]:
        values = [self.values(matrix) for matrix in scores]
        chosen = self.choose(values, sparsity, pooled)
        return [explicit(self._mask(*each)) for each in zip(scores, values, chosen, strict=True)]


def n_m_mask(scores: Tensor, keep: int, size: int) -> Tensor:
    """The mask (n, k) bool of the ``keep`` largest of each ``size`` scores along k; ``scores`` (n, k) have a floating
    dtype. Zhou et al. 2021, arXiv 2102.04010.

    >>> n_m_mask(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), keep=2, size=4)
    tensor([[False,  True,  True, False]])
    """
    k = scores.shape[1]
    groups = _grouped(scores, size, float("-inf")).unbind(-1)
    ranks = [torch.zeros(groups[0].shape, dtype=torch.uint8, device=scores.device) for _ in groups]
    for high in range(size):  # counting who beats whom is faster than sorting four by four
        for low in range(high):
            wins = groups[low] >= groups[high]
            ranks[high] += wins
            ranks[low] += ~wins
    mask = torch.stack(ranks, -1) < keep
    if k % size:
        mask[:, -1] = torch.stack([rank[:, -1] for rank in ranks], -1) < -(-(k % size) * keep // size)
    return mask.flatten(1)[:, :k].contiguous()


def _grouped(scores: Tensor, size: int, fill: float) -> Tensor:
    """(n, G, size) from (n, k), filled up at the end of each row."""
    padded = F.pad(scores, (0, -scores.shape[1] % size), value=fill)
    return padded.reshape(scores.shape[0], -1, size)


def block_sums(scores: Tensor, block: tuple[int, int]) -> Tensor:
    """The sums (N, K) of ``scores`` (n, k) over blocks of ``block`` (rows, columns), added by pairs.

    >>> block_sums(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), (1, 4))
    tensor([[10.,  5.]])
    """
    n, k = scores.shape
    down, across = grid(n, k, block)
    padded = F.pad(scores, (0, across * block[1] - k, 0, down * block[0] - n))
    parts = list(padded.reshape(down, block[0], across, block[1]).transpose(1, 2).flatten(2).unbind(-1))
    while len(parts) > 1:  # in the order in which the kernels add them
        parts = [one + other for one, other in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0].contiguous()


PATTERNS: dict[str, Callable[[Sequence[Tensor], float, bool], list[Selection]]] = {
    "unstructured": unstructured,
    "2:4": NM(2, 4),
    **{name: Blocks(name, *block) for name, block in STRUCTURE_BLOCKS.items()},
}
"""By ``settings.structure``: from the scores of several matrices, the sparsity, and whether they compete with each
other, to a selection for each. "structured" spans matrices and is :func:`units`."""


def named(name: str) -> Pattern:
    """The pattern of a selection that :func:`select_pattern` made. Raises :class:`ValueError` for any other name."""
    pattern = PATTERNS.get(name)
    if not isinstance(pattern, (NM, Blocks)):
        raise ValueError(f"No pattern of units is called {name!r}.")
    return pattern


def select_pattern(name: str, layers: Sequence[Scored], sparsity: float, pooled: bool) -> list[Selection]:
    """A selection for each layer: its pattern with a threshold where the layer's kernels make masks tile by tile, else
    the mask itself, which is then made but once."""
    pattern = PATTERNS[name]
    if isinstance(pattern, (NM, Blocks)) and all(layer.makes_patterns for layer in layers):
        chosen = pattern.choose([layer.unit_values(pattern) for layer in layers], sparsity, pooled)
        return [replace(selection, pattern=pattern) for selection in chosen]
    return pattern([layer.scores() for layer in layers], sparsity, pooled)


class UnitFamily(Protocol):
    """The ``count`` units that live or die as one in each of ``members``: (name of a weight, axis), where axis 0 are
    the rows and 1 the columns of the (n, k) weight, cut into ``count`` equal slices. :mod:`pst.plan.families` makes
    them."""

    @property
    def members(self) -> Sequence[tuple[str, int]]: ...

    @property
    def count(self) -> int: ...

    def kept(self, sparsity: float) -> int:
        """How many units stay (1..count)."""


def units(
    shapes: Mapping[str, tuple[int, int]],
    line_sums: Callable[[str, int], Tensor],
    family: UnitFamily,
    sparsity: float,
) -> dict[str, Selection]:
    """Keep exactly ``family.kept(sparsity)`` units, those with the largest mean score of their weights.

    ``shapes`` (n, k) go by the names of the members, and so does the result, whose masks are views of one line each.
    ``line_sums`` gives the sums of a member's scores for each row (n; axis 0) or column (k; axis 1).
    """
    sums = torch.stack([line_sums(*member).reshape(family.count, -1).sum(1) for member in family.members])
    # All units of a family are equally large: the order of the sums is that of the means.
    total = sums.sum(0)
    kept = mask_of(total, select(total, family.kept(sparsity)))
    return {name: explicit(unit_mask(kept, shapes[name], axis)) for name, axis in family.members}


def unit_mask(kept: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """The mask (n, k) bool of ``shape``, from ``kept`` (count) bool, the units along ``axis``: a view of one line of
    it, not to be written to.

    >>> unit_mask(torch.tensor([True, False]), (4, 2), axis=0)
    tensor([[ True,  True],
            [ True,  True],
            [False, False],
            [False, False]])
    """
    line = kept.repeat_interleave(shape[axis] // kept.numel())
    return line.unsqueeze(1 - axis).expand(shape)
