from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pst.sparsity.masks import SAMPLE, SMALL, kept_count, mask_of, select, select_global

SPARSITIES = [0.0, 0.29, 0.5, 0.9, 0.99, 0.999]


def by_sorting(scores: Tensor, kept: int) -> Tensor:
    """The definition: sort by falling score, then by rising index; keep the first ones."""
    values = scores.reshape(-1).tolist()
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))
    mask = torch.zeros(len(values), dtype=torch.bool)
    mask[order[:kept]] = True
    return mask.reshape(scores.shape)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 48), (131, 257)])
@pytest.mark.parametrize("kind", ["gaussian", "ties", "equal", "columns", "outlier"])
def test_equals_a_full_sort(kind: str, shape: tuple[int, int], sparsity: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(shape)
    if kind == "ties":
        scores = scores.mul(3).round()
    elif kind == "equal":
        scores = torch.zeros(shape)
    elif kind == "columns":  # a sample that runs along the columns would see one value only
        scores = torch.arange(shape[1]).float().expand(shape).contiguous()
    elif kind == "outlier":
        scores[0, 0] = 1e30
    kept = kept_count(scores.numel(), sparsity)
    assert torch.equal(mask_of(scores, select(scores, kept)), by_sorting(scores, kept))


@settings(max_examples=50)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_any_count_of_any_small_matrix(values: list[int], data: st.DataObject) -> None:
    scores = torch.tensor(values).float().reshape(1, -1)
    kept = data.draw(st.integers(1, len(values)))
    assert torch.equal(mask_of(scores, select(scores, kept)), by_sorting(scores, kept))


def test_large_matrices_take_the_sampled_path_and_stay_exact() -> None:
    torch.manual_seed(1)
    scores = torch.randn(400, 300, dtype=torch.float64)
    assert scores.numel() > SMALL
    for kept in (1, 2, 1200, 60_000, scores.numel() - 1):
        mask = mask_of(scores, select(scores, kept))
        assert int(mask.sum()) == kept
        assert scores[mask].min() > scores[~mask].max()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sample_that_misleads_costs_time_only(sign: int) -> None:
    scores = torch.arange(200 * 200).float().reshape(200, 200)
    values = scores.view(-1)
    values[:: (values.numel() // SAMPLE) | 1] += sign * 1e6  # everything that is sampled lies on one side of the rest
    for kept in (500, 20_000, 39_000):
        assert torch.equal(mask_of(scores, select(scores, kept)), by_sorting(scores, kept))


def test_global_selection_pools_matrices_and_orders_ties() -> None:
    torch.manual_seed(2)
    matrices = [torch.randn(5, 7).mul(2).round(), torch.randn(3, 4).mul(2).round(), torch.randn(9, 2).mul(2).round()]
    joined = torch.cat([matrix.reshape(-1) for matrix in matrices])
    for kept in range(1, joined.numel() + 1):
        masks = [mask_of(m, s).reshape(-1) for m, s in zip(matrices, select_global(matrices, kept), strict=True)]
        assert torch.equal(torch.cat(masks), by_sorting(joined, kept))


@given(st.integers(1, 10**9), st.integers(0, 99))
@example(100, 29)
@example(700, 57)
def test_count_is_exact_in_decimal(numel: int, percent: int) -> None:
    assert kept_count(numel, percent / 100) == numel - math.floor(Fraction(numel * percent, 100))
