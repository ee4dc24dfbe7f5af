"""Exact selection over many matrices, one at a time, against all of them in one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pst.sparsity import streaming
from pst.sparsity.masks import mask_of, select
from pst.sparsity.streaming import streaming_top_k


def check(matrices: Sequence[Tensor], kept: int, room: float) -> list[int]:
    """Compares the masks; returns how often each matrix's scores were asked for."""
    asked = [0] * len(matrices)

    def maker(place: int) -> Callable[[], Tensor]:
        def make() -> Tensor:
            asked[place] += 1
            return matrices[place].clone()

        return make

    found = streaming_top_k([maker(i) for i in range(len(matrices))], [m.numel() for m in matrices], kept, room)
    together = torch.cat([matrix.reshape(-1) for matrix in matrices])
    wanted = mask_of(together, select(together, kept)).split([matrix.numel() for matrix in matrices])
    for matrix, selection, mask in zip(matrices, found, wanted, strict=True):
        assert torch.equal(mask_of(matrix, selection).view(-1), mask)
    assert sum(int(mask.sum()) for mask in wanted) == kept
    return asked


def drawn(kind: str, shape: tuple[int, int], seed: int) -> Tensor:
    torch.manual_seed(seed)
    values = torch.randn(shape)
    if kind == "equal":
        return torch.ones(shape)
    if kind == "two":
        return (values > 0).float()
    if kind == "coarse":
        return (values * 3).round() / 3
    if kind == "sorted":
        return values.view(-1).sort().values.view(shape)
    if kind == "apart":
        return values + seed % 7
    return values


@settings(max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(["random", "equal", "two", "coarse", "sorted", "apart"]), min_size=1, max_size=4),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 0.999, 1.0]),
    sample=st.sampled_from([1, 7, 64, 2**15]),
    limit=st.sampled_from([1, 64, 2**14]),
    room=st.sampled_from([0.0, 5000.0, float("inf")]),
)
def test_the_same_weights_stay(
    kinds: list[str], shape: tuple[int, int], share: float, sample: int, limit: int, room: float
) -> None:
    """Whatever the sample tells, and however little may be collected."""
    matrices = [drawn(kind, (shape[0] + place, shape[1]), place) for place, kind in enumerate(kinds)]
    total = sum(matrix.numel() for matrix in matrices)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "SAMPLE", sample)
        patch.setattr(streaming, "SMALL", limit)
        check(matrices, max(1, round(total * share)), room)


def test_scores_that_fit_are_made_once_and_others_twice() -> None:
    matrices = [drawn("random", (200, 300), seed) for seed in range(4)]
    assert check(matrices, 24_000, float("inf")) == [1, 1, 1, 1]
    assert check(matrices, 24_000, 2 * 200 * 300 * 4) == [1, 1, 2, 2]
    assert check(matrices, 24_000, 0) == [2, 2, 2, 2]


def test_no_pass_holds_more_than_a_few_matrices() -> None:
    alive = most = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def make() -> Tensor:
        nonlocal alive, most
        found = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
        weakref.finalize(found.untyped_storage(), gone)
        alive += 1
        most = max(most, alive)
        return found

    streaming_top_k([make] * 40, [10_000] * 40, 40_000, room=0)
    assert most <= 2


def test_float64() -> None:
    matrices = [drawn("random", (50, 70), seed).double() for seed in range(3)]
    check(matrices, 1000, 0)
