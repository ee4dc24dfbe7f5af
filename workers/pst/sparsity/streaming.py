"""Exact selection over the scores of many matrices together, of which but a few need be there at once.

    M = 1[S is among the ``kept`` largest of all matrices]    ties: the earlier matrix, then the lower index stays

A sample of all scores brackets the threshold; a pass over the matrices, one after the other, counts what lies above the
bracket and collects what lies inside. Where the bracket misses, or too much lies inside, what the counts tell narrows
the next one: the result is exact. Two passes are usual. Scores are made anew in each pass, but for those that fit the
room that the caller has.

Legend: S (n, k) scores of one matrix, "range" the interval of scores that must hold the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pst.sparsity.masks import SMALL, Selection, ordered, select

SAMPLE = 2**15


@dataclass(frozen=True)
class _Range:
    """Scores from ``low`` to ``high``, of which there are ``inside``; ``above`` are larger."""

    low: Tensor
    high: Tensor
    above: int
    inside: int


class _Scores:
    """The scores of all matrices, one after the other."""

    def __init__(self, makers: Sequence[Callable[[], Tensor]], sizes: Sequence[int], room: float) -> None:
        self.makers, self.sizes, self.room = makers, sizes, room
        self.held: dict[int, Tensor] = {}

    def __getitem__(self, place: int) -> Tensor:
        """S of a matrix in one line."""
        if place in self.held:
            return self.held[place]
        values = self.makers[place]().reshape(-1)
        if (size := values.numel() * values.element_size()) <= self.room:
            self.room -= size
            self.held[place] = values
        return values

    def sample(self, within: _Range | None) -> Tensor:
        """Some scores, sorted, of every matrix as many as its share."""
        stride = ((sum(self.sizes) if within is None else within.inside) // SAMPLE) | 1
        parts = []
        for place in range(len(self.sizes)):
            values = self[place]
            if within is not None:
                values, _ = _inside(values, within.low, within.high)
            parts.append(values[::stride].clone())  # a view would keep all scores
        return ordered(torch.cat(parts))


def streaming_top_k(
    makers: Sequence[Callable[[], Tensor]], sizes: Sequence[int], kept: int, room: float = math.inf
) -> list[Selection]:
    """Keep exactly ``kept`` (1..sum of ``sizes``) of the scores that ``makers`` give, each those of one matrix and of
    as many numbers as its size, of any shape and one floating dtype. A maker is called in every pass, and must give the
    same again. At most ``room`` bytes of scores are held from one pass to the next. One selection a matrix.

    >>> first, second = streaming_top_k([lambda: torch.tensor([4.0, 1.0]), lambda: torch.tensor([3.0, 2.0])], [2, 2], 3)
    >>> first.threshold, first.cut, second.cut
    (tensor(2.), 1, 1)
    """
    total = sum(sizes)
    if kept >= total:
        return [Selection(torch.full((), -math.inf, device=makers[0]().device), size - 1) for size in sizes]
    scores = _Scores(makers, sizes, room)
    limit = max(SMALL, *sizes)
    sample = scores.sample(None)
    infinite = sample.new_tensor(math.inf)
    found = _Range(-infinite, infinite, 0, total)
    while True:
        low, high = _bracket(sample, found, kept)
        above, parts, counts = 0, list[Tensor](), list[int]()
        for place in range(len(sizes)):
            inside, larger = _inside(scores[place], low, high)
            above += larger
            counts.append(len(inside))
            if sum(counts) <= limit:
                parts.append(inside)
        count = sum(counts)
        if kept <= above:
            found = _Range(torch.nextafter(high, infinite), found.high, found.above, above - found.above)
        elif kept > above + count:
            rest = found.above + found.inside - above - count
            found = _Range(found.low, torch.nextafter(low, -infinite), above + count, rest)
        elif count <= limit:
            return _cut(scores, *_threshold(parts, kept - above))
        elif low == high:
            return _cut(scores, low, _first(counts, kept - above), counts)
        else:
            found = _Range(low, high, above, count)
        sample = scores.sample(found)


def _bracket(sample: Tensor, within: _Range, kept: int) -> tuple[Tensor, Tensor]:
    """A part of the range that holds the threshold with near certainty."""
    drawn, share = len(sample), 1 - (kept - within.above) / within.inside
    slack = 3 * math.sqrt(drawn * share * (1 - share)) + 2
    first, last = math.floor(share * drawn - slack), math.ceil(share * drawn + slack)
    low = sample[first] if first >= 0 else within.low
    high = sample[last] if last < drawn else within.high
    if low <= within.low and high >= within.high:  # few different scores: one of them
        low = high = sample[min(drawn - 1, int(share * drawn))]
    return low, high


def _inside(values: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, int]:
    """Scores from ``low`` to ``high`` in their order, and the number of larger ones."""
    if values.device.type != "cpu":
        return values[(values >= low) & (values <= high)], int((values > high).sum())
    array, bottom, top = values.numpy(), low.item(), high.item()  # numpy is several times faster
    return torch.from_numpy(array[(array >= bottom) & (array <= top)]), int(np.count_nonzero(array > top))


def _threshold(parts: Sequence[Tensor], kept: int) -> tuple[Tensor, list[int], list[int]]:
    """The ``kept``-th largest of ``parts``; of each how many equal to it stay, and how many there are."""
    inside = torch.cat(list(parts))
    chosen = select(inside, kept) if kept < len(inside) else Selection(inside.min(), len(inside) - 1)
    ties = [int((part == chosen.threshold).sum()) for part in parts]
    return chosen.threshold, _first(ties, kept - int((inside > chosen.threshold).sum())), ties


def _first(counts: Sequence[int], wanted: int) -> list[int]:
    """``wanted`` taken from the first of ``counts``."""
    result = []
    for count in counts:
        result.append(min(count, wanted))
        wanted -= result[-1]
    return result


def _cut(scores: _Scores, threshold: Tensor, taken: Sequence[int], ties: Sequence[int]) -> list[Selection]:
    """Selections that keep, of the ``ties`` at the threshold of each matrix, the first ``taken``."""
    result = []
    for place, (size, some, every) in enumerate(zip(scores.sizes, taken, ties, strict=True)):
        if some in (0, every):
            cut = size - 1 if some == every else -1
        else:
            cut = int((scores[place] == threshold).nonzero()[some - 1])
        result.append(Selection(threshold, cut))
    return result
