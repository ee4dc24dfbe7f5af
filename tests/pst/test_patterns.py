"""Every pattern against a slow definition in plain Python, on scores with many ties."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pst.layers import kernels
from pst.layers.inject import TargetModule, select_all
from pst.layers.kernels import reference
from pst.layers.kernels.reference import Factors, Scales
from pst.layers.methods.magnitude import MagnitudeLinear
from pst.plan import sizes
from pst.sparsity.masks import Selection, explicit, kept_count, mask_, mask_of
from pst.sparsity.patterns import NM, PATTERNS, n_m_mask, units

SHARES = [0.0, 0.1, 0.29, 0.5, 0.75, 0.9]
shapes = st.tuples(st.integers(1, 9), st.integers(1, 11))


def tied(shape: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).double()


def masks(scores: Sequence[Tensor], selections: Sequence[Selection]) -> list[Tensor]:
    return [mask_of(matrix, selection) for matrix, selection in zip(scores, selections, strict=True)]


def first(values: Sequence[float], count: int) -> set[int]:
    """Places of the ``count`` largest, the lower place first among equal ones."""
    return set(sorted(range(len(values)), key=lambda place: (-values[place], place))[:count])


def groups_of(shape: torch.Size, size: int) -> Iterator[tuple[int, range]]:
    for row in range(shape[0]):
        for start in range(0, shape[1], size):
            yield row, range(start, min(start + size, shape[1]))


def wanted_n_m(matrices: Sequence[Tensor], constrained: int, keep: int, size: int) -> list[Tensor]:
    """The definition: of all groups the ``constrained`` cheapest hold the pattern."""
    result = [torch.ones(matrix.shape, dtype=torch.bool) for matrix in matrices]
    found = []
    for index, matrix in enumerate(matrices):
        for row, columns in groups_of(matrix.shape, size):
            values = [matrix[row, column].item() for column in columns]
            stay = first(values, math.ceil(len(values) * keep / size))
            lost = [columns[place] for place in range(len(values)) if place not in stay]
            found.append((sum(matrix[row, column].item() for column in lost), index, row, lost))
    for place in first([-cost for cost, *_ in found], constrained):
        _, index, row, lost = found[place]
        result[index][row, lost] = False
    return result


@settings(max_examples=60)
@given(shape=shapes, seed=st.integers(0, 99), pattern=st.sampled_from([(2, 4), (1, 4), (1, 3), (4, 8)]))
def test_n_m_is_exact_at_the_end(shape: tuple[int, int], seed: int, pattern: tuple[int, int]) -> None:
    scores, (keep, size) = tied(shape, seed), pattern
    groups = sum(1 for _ in groups_of(scores.shape, size))
    wanted = wanted_n_m([scores], groups, keep, size)[0]
    assert torch.equal(n_m_mask(scores, keep, size), wanted)
    for share in (1 - keep / size, 0.9, 1.0):
        assert torch.equal(masks([scores], NM(keep, size)([scores], share, False))[0], wanted)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.29, 0.4, 0.5])
def test_two_of_four_comes_group_by_group_the_cheapest_first(pooled: bool, share: float) -> None:
    matrices = [tied((6, 16), 1), tied((5, 10), 2)]
    counts = [sum(1 for _ in groups_of(matrix.shape, 4)) for matrix in matrices]
    if pooled:
        wanted = wanted_n_m(matrices, sizes.pruned_count(sum(counts), 2 * share), 2, 4)
    else:
        wanted = [
            wanted_n_m([m], sizes.pruned_count(c, 2 * share), 2, 4)[0] for m, c in zip(matrices, counts, strict=True)
        ]
    got = masks(matrices, PATTERNS["2:4"](matrices, share, pooled))
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    if share == 0.5:
        for matrix, mask in zip(matrices, got, strict=True):
            assert int(mask.sum()) == sizes.kept_weights(*matrix.shape, 0.5, "2:4")


def test_a_rising_sparsity_prunes_more_and_ends_at_half() -> None:
    scores = [torch.randn(32, 64, generator=torch.Generator().manual_seed(0))]
    got = [masks(scores, PATTERNS["2:4"](scores, share / 20, False))[0].float().mean().item() for share in range(11)]
    assert got == sorted(got, reverse=True)
    assert got == pytest.approx([1 - share / 20 for share in range(11)], abs=0.005)


@pytest.mark.parametrize("name", ["block_1x4", "block_4x1"])
@settings(max_examples=40)
@given(shapes=st.lists(shapes, min_size=1, max_size=3), seed=st.integers(0, 99), data=st.data())
def test_blocks(name: str, shapes: list[tuple[int, int]], seed: int, data: st.DataObject) -> None:
    share, pooled = data.draw(st.sampled_from(SHARES)), data.draw(st.booleans())
    matrices = [tied(shape, seed + index) for index, shape in enumerate(shapes)]
    down, across = sizes.STRUCTURE_BLOCKS[name]
    found = [
        [
            (matrix[row : row + down, column : column + across].sum().item(), index, row, column)
            for row in range(0, matrix.shape[0], down)
            for column in range(0, matrix.shape[1], across)
        ]
        for index, matrix in enumerate(matrices)
    ]
    wanted = [torch.zeros(matrix.shape, dtype=torch.bool) for matrix in matrices]
    for blocks in [list(itertools.chain(*found))] if pooled else found:
        for place in first([score for score, *_ in blocks], kept_count(len(blocks), share)):
            _, index, row, column = blocks[place]
            wanted[index][row : row + down, column : column + across] = True
    got = masks(matrices, PATTERNS[name](matrices, share, pooled))
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    assert all(mask.is_contiguous() for mask in got)


@dataclass(frozen=True)
class Family:
    members: tuple[tuple[str, int], ...]
    count: int

    def kept(self, sparsity: float) -> int:
        return kept_count(self.count, sparsity)


HEADS = Family((("q", 0), ("k", 0), ("o", 1)), 4)
HEAD_SHAPES = {"q": (24, 10), "k": (8, 10), "o": (10, 24)}  # grouped: a head has six rows of q, two of k


@settings(max_examples=30)
@given(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.99]))
def test_units_span_matrices(seed: int, share: float) -> None:
    scores = {name: tied(shape, seed + index) for index, (name, shape) in enumerate(HEAD_SHAPES.items())}
    parts = [[scores["q"][6 * u :][:6], scores["k"][2 * u :][:2], scores["o"][:, 6 * u :][:, :6]] for u in range(4)]
    means = [torch.cat([part.reshape(-1) for part in unit]).mean().item() for unit in parts]
    stay = first(means, kept_count(4, share))
    chosen = units(HEAD_SHAPES, lambda name, axis: scores[name].sum(1 - axis), HEADS, share)
    for name, axis in HEADS.members:
        width = scores[name].shape[axis] // 4
        line = torch.tensor([index // width in stay for index in range(scores[name].shape[axis])])
        wanted = (line[:, None] if axis == 0 else line[None]).expand(scores[name].shape)
        assert torch.equal(mask_of(scores[name], chosen[name]), wanted)


def modules_of(shapes: dict[str, tuple[int, int]], group: str) -> list[TargetModule]:
    torch.manual_seed(3)
    return [TargetModule(name, group, MagnitudeLinear(torch.randn(shape), None)) for name, shape in shapes.items()]


def test_select_all_carries_every_structure_to_the_layers() -> None:
    modules = modules_of({"a": (8, 16), "b": (12, 8)}, "ffn")
    for name, pattern in PATTERNS.items():
        for threshold in ("matrix", "global"):
            select_all(modules, {"ffn": 0.5}, threshold, name)
            scores = [module.layer.scores() for module in modules]
            wanted = masks(scores, pattern(scores, 0.5, threshold == "global"))
            for module, mask in zip(modules, wanted, strict=True):
                assert torch.equal(module.layer.masked() != 0, mask)
                assert torch.equal(module.layer.masked(), module.layer.weight * mask)


def test_select_all_keeps_a_matrix_dense_that_no_family_names() -> None:
    modules = modules_of({**HEAD_SHAPES, "other": (4, 4)}, "attention")
    family = Family(tuple((f"{name}.weight", axis) for name, axis in HEADS.members), 4)
    select_all(modules, {"attention": 0.5}, "matrix", "structured", [family])
    left = {module.name: int((module.layer.masked() != 0).sum()) for module in modules}
    assert left == {"q": 120, "k": 40, "o": 120, "other": 16}


def test_a_mask_computes_as_the_threshold_that_gives_it() -> None:
    torch.manual_seed(0)
    n, k, scales = 6, 9, Scales(0.7, 1.3, 0.4)
    weight = torch.randn(n, k, dtype=torch.float64)
    small = (torch.randn(shape, dtype=torch.float64) for shape in [(n, 3), (3, k), (n, 2), (2, k), (n,), (k,)])
    factors = Factors(*small)
    by_threshold = kernels.select(weight, factors, scales, 20)
    scores = reference.scores(weight, factors, scales)
    by_mask = explicit(mask_of(scores, by_threshold))
    assert torch.equal(mask_(scores.clone(), by_mask), mask_(scores.clone(), by_threshold))
    for chosen in (by_threshold, by_mask):
        assert torch.equal(
            kernels.masked_weight(weight, factors, scales, chosen),
            kernels.masked_weight(weight, factors, scales, by_threshold),
        )
    grad = torch.randn(n, k, dtype=torch.float64)
    one, _ = kernels.gradients(grad.clone(), weight, factors, scales, by_threshold)
    other, _ = kernels.gradients(grad.clone(), weight, factors, scales, by_mask)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["2:4", "block_1x4", "block_4x1"])
def test_gradients_under_a_pattern_are_those_of_the_equations(name: str) -> None:
    """Autograd through x (M * D)^T with the mask's straight-through gradient, in float64."""
    torch.manual_seed(1)
    n, k, scales = 8, 12, Scales(1.0, 0.5, 2.0)
    weight = torch.randn(n, k, dtype=torch.float64)
    shapes = [(n, 3), (3, k), (n, 2), (2, k), (n,), (k,)]
    f = Factors(*(nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes))
    updated = weight + scales.beta * f.u @ f.v
    scores = updated.abs() + scales.alpha1 * f.a @ f.b + scales.alpha2 * (f.r[:, None] + f.c[None])
    (selection,) = PATTERNS[name]([scores.detach()], 0.5, False)
    mask = mask_of(scores.detach(), selection).double() + scores - scores.detach()
    grad = torch.randn(n, k, dtype=torch.float64)
    ((mask * updated) * grad).sum().backward()
    got, masked = kernels.gradients(grad.clone(), weight, Factors(*(p.detach() for p in f)), scales, selection)
    torch.testing.assert_close(masked, (mask * updated).detach())
    for mine, parameter in zip(got, f, strict=True):
        torch.testing.assert_close(mine, parameter.grad)
