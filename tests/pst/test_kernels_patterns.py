"""Patterns, masks and counts on the device in the Triton kernels: as the reference has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

pytest.importorskip("triton", reason="triton is not installed: neither the GPU nor its interpreter can run the kernels")

from pst.layers import kernels
from pst.layers.batched import Selector
from pst.layers.inject import TargetModule, restore_selections, select_all, selections
from pst.layers.kernels import reference
from pst.layers.kernels import triton as fused
from pst.layers.kernels.int8 import quantize_rows
from pst.layers.linear import PSTLinear
from pst.sparsity import masks
from pst.sparsity.masks import Selection, explicit, kept_count, mask_of
from pst.sparsity.patterns import NM, PATTERNS, Blocks, named
from tests.pst.kernel_cases import CUDA, DEVICE, SCALES, close, make, noise

STRUCTURES = ["2:4", "block_1x4", "block_4x1"]


@dataclass(frozen=True)
class Family:
    members: tuple[tuple[str, int], ...]
    count: int

    def kept(self, sparsity: float) -> int:
        return kept_count(self.count, sparsity)


@contextmanager
def wholes_of(size: int) -> Iterator[None]:
    """Larger matrices are searched by a sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "WHOLE", size)
        yield


def pattern_of(name: str) -> NM | Blocks:
    pattern = named(name)
    assert isinstance(pattern, (NM, Blocks))
    return pattern


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (66, 131)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pattern_is_made_tile_by_tile(name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Values, masks and M * D of a grid are the reference's, ties and edges included; gradients are within rounding."""
    weight, f = make(*shape, grid=True, dtype=dtype)
    scores, pattern = reference.scores(weight, f, SCALES), pattern_of(name)
    values = fused.unit_values(weight, f, SCALES, pattern)
    assert torch.equal(values, pattern.values(scores))
    for share in (0.2, 0.5):
        (wanted,) = pattern([scores], share, False)
        (chosen,) = pattern.choose([values], share, False)
        chosen = replace(chosen, pattern=pattern)
        assert wanted.mask is not None
        assert torch.equal(mask_of(scores, chosen), wanted.mask)
        masked = reference.masked_weight(weight, f, SCALES, wanted)
        grad = noise(*shape).to(dtype)
        exact, _ = reference.gradients(grad, weight, f, SCALES, wanted)
        for selection in (chosen, wanted):
            assert torch.equal(fused.masked_weight(weight, f, SCALES, selection), masked)
            got, again = fused.gradients(grad.clone(), weight, f, SCALES, selection)
            assert torch.equal(again, masked)
            for one, other in zip(got, exact, strict=True):
                close(one, other, 1e-5 if dtype == torch.float32 else 1e-2, 1e-2)


def test_a_pattern_of_other_layouts() -> None:
    """Transposed, in 8 bits, and a mask that is a view of one line."""
    weight, f = make(66, 70, dtype=torch.bfloat16)
    pattern = pattern_of("2:4")
    full = pattern.choose([fused.unit_values(weight, f, SCALES, pattern)], 0.5, False)[0]
    chosen = replace(full, pattern=pattern)
    plain = fused.masked_weight(weight, f, SCALES, chosen)
    turned = weight.T.contiguous().T
    assert torch.equal(fused.masked_weight(turned, f, SCALES, chosen), plain)
    assert bool(((plain.view(66, -1)[:, :68].reshape(66, 17, 4) != 0).sum(-1) <= 2).all())
    packed = quantize_rows(weight)
    masked = fused.masked_weight(packed, f, SCALES, chosen)
    assert int((masked != 0).sum()) == int((plain != 0).sum())
    line = (noise(66, 1) > 0).expand(66, 70)
    rows = fused.masked_weight(weight, f, SCALES, explicit(line))
    close(rows, reference.masked_weight(weight, f, SCALES, explicit(line)), 1e-2)  # the interpreter rounds to 0
    assert torch.equal(rows != 0, line)
    got, _ = fused.gradients(noise(66, 70).bfloat16(), weight, f, SCALES, explicit(line))
    wanted, _ = reference.gradients(noise(66, 70).bfloat16(), weight, f, SCALES, explicit(line))
    for one, other in zip(got, wanted, strict=True):
        close(one, other, 1e-2)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_of_lines(axis: int, dtype: torch.dtype) -> None:
    weight, f = make(66, 131, grid=True, dtype=dtype)
    assert torch.equal(
        fused.line_sums(weight, f, SCALES, axis), reference.scores(weight, f, SCALES).sum(1 - axis, dtype=torch.float32)
    )


@pytest.mark.parametrize("whole", [0, 1 << 20])
def test_values_are_selected_with_counts_on_the_device(whole: int) -> None:
    values = noise(4, 20_001)
    values[1] = (values[1] * 3).round() / 3  # many ties, both zeros among them
    values[2] = -1.5
    kept = torch.tensor([1, 15_000, 7, 20_001], device=DEVICE)
    with wholes_of(whole):
        found = fused.select_values(values, kept)
    for row, count, threshold, cut in zip(values, kept, found.threshold, torch.as_tensor(found.cut), strict=True):
        wanted = masks.select(row.contiguous(), int(count))
        mask = mask_of(row, Selection(threshold, int(cut)))
        assert torch.equal(mask, mask_of(row, wanted))
        assert int(mask.sum()) == int(count)


@pytest.mark.parametrize("whole", [0, 1 << 20])
def test_scores_are_selected_with_counts_on_the_device(whole: int) -> None:
    weight, f = make(130, 140, batch=(3,))
    with wholes_of(whole):
        counts = [1, 1820, 130 * 140]
        found, masked = fused.select_masked(weight, f, SCALES, torch.tensor(counts, device=DEVICE))
        for index, count in enumerate(counts):
            one = reference.Factors(*(factor[index] for factor in f))
            alone, wanted = fused.select_masked(weight[index], one, SCALES, count)
            assert torch.equal(masked[index], wanted)
            if count < 130 * 140:
                assert float(alone.threshold) == float(found.threshold[index])


def modules(dtype: torch.dtype = torch.float32) -> list[TargetModule]:
    generator = torch.Generator().manual_seed(2)
    result = []
    for index, (n, k) in enumerate([(24, 20), (20, 24), (24, 20)]):
        layer = PSTLinear(
            torch.randn(n, k, generator=generator).to(dtype),
            None,
            update_rank=3,
            score_rank=2,
            scales=SCALES,
            init_scale=0.3,
            generator=generator,
        )
        with torch.no_grad():
            for factor in layer.factors():
                factor.copy_(torch.randn(factor.shape, generator=generator) * 0.3)
        result.append(TargetModule(str(index), "ffn", layer.to(DEVICE)))
    return result


@pytest.mark.parametrize("name", [*STRUCTURES, "structured"])
def test_select_all_makes_no_scores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers compute what the reference's masks give, and what a checkpoint holds of the selections is enough."""
    ours, theirs = modules(), modules()
    families = [Family((("0.weight", 0), ("1.weight", 1), ("2.weight", 0)), 24)]
    with kernels.use("reference"):
        select_all(theirs, {"ffn": 0.5}, "matrix", name, families)
        wanted = [module.layer.masked() for module in theirs]
    with kernels.use("triton"):
        monkeypatch.setattr(PSTLinear, "scores", lambda self: pytest.fail("S was made"))
        select_all(ours, {"ffn": 0.5}, "matrix", name, families)
        monkeypatch.undo()
        again = modules()
        restore_selections(again, selections(ours))
        x = noise(5, 20)
        for module, restored, masked in zip(ours, again, wanted, strict=True):
            close(module.layer.masked(), masked, 1e-6)
            assert torch.equal(module.layer.masked(), restored.layer.masked())
        ours[0].layer(x).square().sum().backward()
    with kernels.use("reference"):
        theirs[0].layer(x).square().sum().backward()
    for one, other in zip(ours[0].layer.parameters(), theirs[0].layer.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            close(one.grad, other.grad, 1e-5)


@pytest.mark.parametrize("threshold", ["matrix", "global"])
def test_the_selector_is_as_one_after_the_other(threshold: str) -> None:
    ours, theirs = modules(), modules()
    count = kept_count(24 * 20, 0.7)
    kept = torch.tensor([count] * 3 if threshold == "matrix" else [kept_count(3 * 24 * 20, 0.7)], device=DEVICE)
    with kernels.use("triton"):
        select_all(theirs, {"ffn": 0.7}, threshold)
        wanted = [module.layer.masked() for module in theirs]
        grads: list[Tensor] = []
        with Selector(ours, threshold).selected(kept):
            for module, masked in zip(ours, wanted, strict=True):
                assert torch.equal(module.layer.masked(), masked)
            ours[0].layer(noise(5, 20)).square().sum().backward()
            grads = [p.grad for p in ours[0].layer.parameters() if p.grad is not None]
        theirs[0].layer(noise(5, 20)).square().sum().backward()
    others = [p.grad for p in theirs[0].layer.parameters() if p.grad is not None]
    for one, other in zip(grads, others, strict=True):
        close(one, other, 1e-5)


def test_the_names_of_the_kernels_patterns_are_the_librarys() -> None:
    assert sorted(fused.PATTERNS) == sorted(name for name in PATTERNS if name != "unstructured")
    with pytest.raises(ValueError, match="No pattern of units"):
        named("unstructured")


@pytest.mark.skipif(not CUDA, reason="CUDA graphs need a GPU")
def test_counts_in_a_cuda_graph_are_those_of_the_replay() -> None:
    weight, f = make(300, 260)
    kept = torch.tensor([7800], device=DEVICE)

    def step() -> Tensor:
        return fused.select_masked(weight.unsqueeze(0), reference.Factors(*(x.unsqueeze(0) for x in f)), SCALES, kept)[
            1
        ]

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masked = step()
    for count in (1, 500, 77_999):
        kept.fill_(count)
        graph.replay()
        assert int((masked != 0).sum()) == count
        assert torch.equal(masked, step())
