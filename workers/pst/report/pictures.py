"""The data behind the pictures: distributions of weights and scores, density of the masks, overlap with magnitude's.

Gathered from the layers just before they are merged, while their scores are at hand:

    distributions  of each group: histograms of the weight W that the layer holds and of the score S, of all weights and
                   of those that stay, and counts of S against |W|
    matrices       of each matrix: histograms of W and S, the share of weights that stay by row and by column, and
                   how far the mask agrees with magnitude's mask of the same count on the pretrained weight

Legend: M, N masks of one matrix; Jaccard |M & N| / |M | N|; chance: its value for two masks drawn at random.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pst.layers.inject import TargetModule
from pst.model.loading import LazyModel
from pst.sparsity.masks import mask_of, select

SCATTER = 32  # bins along each axis of weight against score
GROUP_BINS = 64
MATRIX_BINS = 32
MAX_DENSITY_BINS, MIN_DENSITY_BINS = 128, 16
MAX_CELLS, CELLS = 24, 24_000  # along each axis of a heat-map of the mask; of all heat-maps together
NUMBERS = 24_000  # of all density strips together: keeps the report of a large model readable
SAMPLE = 50_000  # values of a matrix from which the edges of the bins are taken
TAIL = 0.0005  # share at each end that falls into the outermost bins

_DEPTH = re.compile(r"\.(\d+)\.")


def place_of(name: str) -> tuple[str, int, str]:
    """(stack, depth, kind) of a matrix: ("encoder", 3, "attention.self.query") for
    ``bert.encoder.layer.3.attention.self.query``. Stack is "" where there is one only."""
    found = _DEPTH.search(name)
    if found is None:
        return "", 0, name
    before, kind = name[: found.start()], name[found.end() :].removesuffix(".weight")
    stack = next((part for part in before.split(".") if part in {"encoder", "decoder"}), "")
    return stack, int(found[1]), kind


def overlap(mask: Tensor, other: Tensor) -> dict[str, float]:
    """Jaccard index of two boolean masks of one shape, its value by chance, and the share of ``mask`` in ``other``."""
    both, one, two, size = int((mask & other).sum()), int(mask.sum()), int(other.sum()), mask.numel()
    by_chance = one * two / size
    union, union_by_chance = one + two - both, one + two - by_chance
    return {
        "jaccard": both / union if union else 1.0,
        "chance": by_chance / union_by_chance if union_by_chance else 1.0,
        "shared": both / one if one else 1.0,
    }


def density(mask: Tensor, bins: int, cells: int) -> dict[str, Any]:
    """Share of ones in each row and column of ``mask`` (n, k), averaged over at most ``bins`` equal stretches, and in
    each cell of at most ``cells`` by ``cells`` equal stretches."""
    ones = mask.float()
    bands = torch.stack([part.mean(0) for part in ones.tensor_split(min(cells, len(ones)))])
    grid = torch.stack([part.mean(1) for part in bands.tensor_split(min(cells, bands.shape[1]), 1)], 1)
    return {
        "rows": _stretches(ones.mean(1), bins),
        "columns": _stretches(ones.mean(0), bins),
        "cells": [[round(share, 3) for share in row] for row in grid.tolist()],
    }


def _stretches(values: Tensor, bins: int) -> list[float]:
    # Rounded to four places: what a picture can show, and a third of the bytes.
    return [round(float(part.mean()), 4) for part in values.tensor_split(min(bins, len(values)))]


def density_bins(matrices: int) -> int:
    """Stretches of a density strip for a model of so many matrices."""
    return max(MIN_DENSITY_BINS, min(MAX_DENSITY_BINS, NUMBERS // (2 * max(1, matrices))))


def density_cells(matrices: int) -> int:
    """Stretches along each axis of a heat-map for a model of so many matrices."""
    return max(4, min(MAX_CELLS, math.isqrt(CELLS // max(1, matrices))))


class Pretrained(Mapping[str, Tensor]):
    """The weight (n, k) of each module's matrix in the base model by the module's name, read when it is asked for."""

    def __init__(self, opened: LazyModel, modules: Sequence[TargetModule]) -> None:
        self.opened, self.transposed = opened, {module.name: module.transposed for module in modules}

    def __getitem__(self, name: str) -> Tensor:
        weight = self.opened.weight(f"{name}.weight")
        return weight.T if self.transposed[name] else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self.transposed)

    def __len__(self) -> int:
        return len(self.transposed)


@torch.no_grad()
def picture_data(modules: Sequence[TargetModule], pretrained: Mapping[str, Tensor]) -> dict[str, Any]:
    """The whole ``pictures`` entry of a report. ``pretrained`` gives each module's weight (n, k) before training."""
    bins, cells = density_bins(len(modules)), density_cells(len(modules))
    groups: dict[str, list[TargetModule]] = defaultdict(list)
    for module in modules:
        groups[module.group].append(module)
    return {
        "distributions": {name: _distribution(members) for name, members in groups.items()},
        "matrices": [_matrix(module, pretrained.get(module.name), bins, cells) for module in modules],
    }


def _parts(module: TargetModule) -> tuple[Tensor, Tensor, Tensor]:
    """W, S and M of a module on the CPU, each (n k)."""
    scores = module.layer.scores()
    mask = mask_of(scores, module.layer.selection)
    return (
        module.layer.plain().float().cpu().reshape(-1),
        torch.nan_to_num(scores.float()).cpu().reshape(-1),
        mask.cpu().reshape(-1),
    )


def _distribution(modules: Sequence[TargetModule]) -> dict[str, Any]:
    """Histograms of one group. Two passes: the edges come from a sample of each matrix, then all values are counted."""
    weights, magnitudes, scores = [], [], []
    for module in modules:
        weight, score, _ = _parts(module)
        weights.append(_sample(weight))
        magnitudes.append(_sample(weight.abs()))
        scores.append(_sample(score))
    weight_edges, score_edges = _edges(weights, GROUP_BINS), _edges(scores, GROUP_BINS)
    x_edges, y_edges = _edges(magnitudes, SCATTER), _edges(scores, SCATTER)
    totals = {name: torch.zeros(GROUP_BINS) for name in ("weight", "weight_kept", "score", "score_kept")}
    against, against_kept = torch.zeros(SCATTER, SCATTER), torch.zeros(SCATTER, SCATTER)
    for module in modules:
        weight, score, mask = _parts(module)
        totals["weight"] += _counts(weight, weight_edges)
        totals["weight_kept"] += _counts(weight[mask], weight_edges)
        totals["score"] += _counts(score, score_edges)
        totals["score_kept"] += _counts(score[mask], score_edges)
        cell = _bin(weight.abs(), x_edges) * SCATTER + _bin(score, y_edges)
        against += torch.bincount(cell, minlength=SCATTER**2).reshape(SCATTER, SCATTER)
        against_kept += torch.bincount(cell[mask], minlength=SCATTER**2).reshape(SCATTER, SCATTER)
    return {
        "weight": _histogram(weight_edges, totals["weight"], totals["weight_kept"]),
        "score": _histogram(score_edges, totals["score"], totals["score_kept"]),
        "weight_score": {
            "magnitude_edges": _numbers(x_edges),
            "score_edges": _numbers(y_edges),
            "all": against.long().tolist(),
            "kept": against_kept.long().tolist(),
        },
    }


def _matrix(module: TargetModule, pretrained: Tensor | None, bins: int, cells: int) -> dict[str, Any]:
    weight, score, mask = _parts(module)
    stack, depth, kind = place_of(module.name)
    weight_edges, score_edges = _edges([_sample(weight)], MATRIX_BINS), _edges([_sample(score)], MATRIX_BINS)
    whole = mask.reshape(module.layer.weight.shape)
    kept = int(mask.sum())
    similar = None
    if pretrained is not None and kept > 0:
        magnitudes = pretrained.detach().float().cpu().abs().contiguous()
        similar = overlap(whole, mask_of(magnitudes, select(magnitudes, kept)))
    return {
        "name": f"{module.name}.weight",
        "group": module.group,
        "stack": stack,
        "depth": depth,
        "kind": kind,
        "shape": list(whole.shape),
        "kept": kept,
        "empty_rows": int((~whole.any(1)).sum()),
        "empty_columns": int((~whole.any(0)).sum()),
        "density": density(whole, bins, cells),
        "weight": _histogram(weight_edges, _counts(weight, weight_edges), _counts(weight[mask], weight_edges)),
        "score": _histogram(score_edges, _counts(score, score_edges), _counts(score[mask], score_edges)),
        "magnitude_overlap": similar,
    }


def _sample(values: Tensor) -> Tensor:
    return values[:: (values.numel() // SAMPLE) | 1]  # an odd stride does not run along the columns of a matrix


def _edges(samples: Sequence[Tensor], bins: int) -> Tensor:
    """``bins`` + 1 equally spaced edges over all but the tails; what lies outside counts in the outermost bins."""
    low, high = np.quantile(torch.cat(list(samples)).numpy(), [TAIL, 1 - TAIL])
    if low == high:
        low, high = low - 0.5, high + 0.5
    return torch.linspace(float(low), float(high), bins + 1)


def _bin(values: Tensor, edges: Tensor) -> Tensor:
    """The bin of each value, without a search: the edges are equally spaced."""
    bins = len(edges) - 1
    return ((values - edges[0]) * (bins / (edges[-1] - edges[0]))).long().clamp_(0, bins - 1)


def _counts(values: Tensor, edges: Tensor) -> Tensor:
    return torch.bincount(_bin(values, edges), minlength=len(edges) - 1)


def _histogram(edges: Tensor, total: Tensor, kept: Tensor) -> dict[str, Any]:
    return {
        "edges": [_number(edges[0]), _number(edges[-1])],
        "all": total.long().tolist(),
        "kept": kept.long().tolist(),
    }


def _number(value: Tensor) -> float:
    return float(f"{float(value):.5g}")


def _numbers(values: Tensor) -> list[float]:
    return [_number(value) for value in values]
