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

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pst.masks import Selection, explicit, kept_count, mask_of, select, select_global
from pst.sizes import STRUCTURE_BLOCKS, grid, pruned_count

Pattern = Callable[[Sequence[Tensor], float, bool], list[Selection]]
"""(S of several matrices, s, whether they compete with each other) -> a selection for each."""


def largest(scores: Sequence[Tensor], kept_of: Callable[[int], int], pooled: bool) -> list[Selection]:
    """The ``kept_of(numel)`` largest of each tensor, or of all of them together; 0 gives empty selections."""
    if pooled:
        kept = kept_of(sum(matrix.numel() for matrix in scores))
        return select_global(scores, kept) if kept else [_none(matrix) for matrix in scores]
    counts = [kept_of(matrix.numel()) for matrix in scores]
    return [select(m, kept) if kept else _none(m) for m, kept in zip(scores, counts, strict=True)]


def _none(scores: Tensor) -> Selection:
    return explicit(torch.zeros_like(scores, dtype=torch.bool))


def unstructured(scores: Sequence[Tensor], sparsity: float, pooled: bool) -> list[Selection]:
    return largest(scores, lambda numel: kept_count(numel, sparsity), pooled)


def n_m(scores: Sequence[Tensor], sparsity: float, pooled: bool, *, keep: int, size: int) -> list[Selection]:
    """``keep`` of each ``size`` along k, in as large a share of the groups as ``sparsity`` asks for; in all of them
    from 1 - keep / size on."""
    masks = [n_m_mask(matrix, keep, size) for matrix in scores]
    share = min(1.0, sparsity / (1 - keep / size))
    if share < 1:
        lost = [
            _grouped(matrix.masked_fill(mask, 0.0), size, 0.0).sum(-1).neg_()
            for matrix, mask in zip(scores, masks, strict=True)
        ]
        cheapest = largest(lost, lambda groups: pruned_count(groups, share), pooled)
        for mask, values, chosen in zip(masks, lost, cheapest, strict=True):
            held = mask_of(values, chosen).repeat_interleave(size, 1)[:, : mask.shape[1]]
            mask.logical_or_(~held)
    return [explicit(mask) for mask in masks]


def n_m_mask(scores: Tensor, keep: int, size: int) -> Tensor:
    """The mask (n, k) of the ``keep`` largest scores in each ``size`` along k."""
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


def blocks(scores: Sequence[Tensor], sparsity: float, pooled: bool, *, block: tuple[int, int]) -> list[Selection]:
    """Exactly kept_count(N K, sparsity) blocks, by the sum of their scores."""
    sums = [block_sums(matrix, block) for matrix in scores]
    chosen = largest(sums, lambda count: kept_count(count, sparsity), pooled)
    result = []
    for matrix, values, selection in zip(scores, sums, chosen, strict=True):
        n, k = matrix.shape
        mask = mask_of(values, selection).repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
        result.append(explicit(mask[:n, :k].contiguous()))
    return result


def block_sums(scores: Tensor, block: tuple[int, int]) -> Tensor:
    """Sum of the scores of each block (N, K)."""
    n, k = scores.shape
    down, across = grid(n, k, block)
    padded = F.pad(scores, (0, across * block[1] - k, 0, down * block[0] - n))
    return padded.reshape(down, block[0], across, block[1]).sum((1, 3))


PATTERNS: dict[str, Pattern] = {
    "unstructured": unstructured,
    "2:4": partial(n_m, keep=2, size=4),
    **{name: partial(blocks, block=block) for name, block in STRUCTURE_BLOCKS.items()},
}
"""By ``settings.structure``; "structured" spans matrices and is :func:`units`."""


class UnitFamily(Protocol):
    """The ``count`` units that live or die as one in each of ``members``: (name of a weight, axis), where axis 0 are
    the rows and 1 the columns of the (n, k) weight, cut into ``count`` equal slices. :mod:`pst.families` makes them."""

    @property
    def members(self) -> Sequence[tuple[str, int]]: ...

    @property
    def count(self) -> int: ...

    def kept(self, sparsity: float) -> int:
        """How many units stay (1..count)."""


def units(scores: Mapping[str, Tensor], family: UnitFamily, sparsity: float) -> dict[str, Selection]:
    """Keep exactly ``family.kept(sparsity)`` units, those with the largest mean score of their weights.

    ``scores`` gives S (n, k) by the names of the members, and so does the result.
    """
    sums = torch.stack([unit_sums(scores[name], axis, family.count) for name, axis in family.members])
    # All units of a family are equally large: the order of the sums is that of the means.
    total = sums.sum(0)
    kept = mask_of(total, select(total, family.kept(sparsity)))
    return {name: explicit(unit_mask(kept, scores[name].shape, axis)) for name, axis in family.members}


def unit_sums(scores: Tensor, axis: int, count: int) -> Tensor:
    """Sum of the scores of each of ``count`` equal slices along ``axis`` (count)."""
    return scores.sum(1 - axis).reshape(count, -1).sum(1)


def unit_mask(kept: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """The mask (n, k) of the kept units (count) along ``axis``."""
    line = kept.repeat_interleave(shape[axis] // kept.numel())
    return line.unsqueeze(1 - axis).expand(shape).contiguous()
