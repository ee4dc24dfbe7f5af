"""The Triton kernels against the reference, over odd shapes, dtypes and layouts; on a GPU where there is one,
else in Triton's interpreter."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

pytest.importorskip("triton", reason="triton is not installed: neither the GPU nor its interpreter can run the kernels")

from pst.layers import kernels
from pst.layers.kernels import reference
from pst.layers.kernels import triton as fused
from pst.layers.kernels import triton_select as search
from pst.layers.kernels.int8 import Int8Weight, quantize_rows
from pst.layers.kernels.reference import Factors
from pst.plan.sizes import pruned_count
from pst.sparsity import masks
from pst.sparsity.masks import Selection
from tests.pst.kernel_cases import CUDA, DEVICE, SCALES, SHAPES, close, make, noise

RANKS = [(1, 1), (5, 3), (16, 8)]
SPARSITIES = [0.0, 0.3, 0.9, 0.999]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def choose(weight: Tensor, f: Factors, sparsity: float) -> tuple[int, Selection]:
    kept = weight.numel() - pruned_count(weight.numel(), sparsity)
    return kept, masks.select(reference.scores(weight, f, SCALES), kept)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_selection_and_masks_are_the_references_ties_included(shape: tuple[int, int], sparsity: float) -> None:
    weight, f = make(*shape, grid=True)
    kept, wanted = choose(weight, f, sparsity)
    got = fused.select(weight, f, SCALES, kept)
    scores = reference.scores(weight, f, SCALES)
    mask = masks.mask_of(scores, wanted)
    assert torch.equal(fused.scores(weight, f, SCALES), scores)
    assert torch.equal(masks.mask_of(scores, Selection(got.threshold, int(got.cut))), mask)
    assert int(mask.sum()) == kept
    masked = fused.masked_weight(weight, f, SCALES, got)
    assert torch.equal(masked, reference.masked_weight(weight, f, SCALES, wanted))
    again, fast = fused.select_masked(weight, f, SCALES, kept)
    assert (float(again.threshold), int(again.cut)) == (float(got.threshold), int(got.cut))
    assert torch.equal(fast.view(torch.int32), masked.view(torch.int32))


@pytest.mark.parametrize("sparsity", [0.5, 0.99])
def test_masks_of_arbitrary_float32_scores_are_the_references(sparsity: float) -> None:
    weight, f = make(300, 260, ranks=(16, 8))
    kept, wanted = choose(weight, f, sparsity)
    got = fused.select(weight, f, SCALES, kept)
    scores = reference.scores(weight, f, SCALES)
    kept_here = fused.scores(weight, f, SCALES) >= got.threshold
    kept_there = masks.mask_of(scores, wanted)
    assert int(kept_here.sum()) == kept
    # A matrix product may add in another order: only scores within its rounding of the threshold may differ.
    differing = scores[kept_here != kept_there] - wanted.threshold
    assert differing.numel() <= 4
    assert bool((differing.abs() <= 4e-6).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_every_kernel_of_a_dtype_sees_the_same_mask(dtype: torch.dtype, transposed: bool) -> None:
    n, k = 257, 300
    weight, f = make(n, k, ranks=(16, 8), dtype=dtype)
    if transposed:  # GPT-2 stores (k, n)
        weight = weight.T.contiguous().T
    kept = 7001
    selection, masked = fused.select_masked(weight, f, SCALES, kept)
    plain = fused.select(weight, f, SCALES, kept)
    assert (float(plain.threshold), int(plain.cut)) == (float(selection.threshold), int(selection.cut))
    assert int((fused.scores(weight, f, SCALES) >= selection.threshold).sum()) == kept
    assert int((masked != 0).sum()) == kept
    assert torch.equal(fused.masked_weight(weight, f, SCALES, selection), masked)
    grad = noise(n, k).to(dtype)
    if transposed:
        grad = grad.T.contiguous().T
    _, again = fused.gradients(grad, weight, f, SCALES, selection)
    assert torch.equal(again, masked)
    assert again.data_ptr() == grad.data_ptr()
    assert masked.dtype == dtype and masked.stride() == weight.stride()


@pytest.mark.parametrize("kept", [0, 1, 77099, 77100])
def test_empty_and_full_masks(kept: int) -> None:
    weight, f = make(257, 300)
    selection, masked = fused.select_masked(weight, f, SCALES, kept)
    assert int((masked != 0).sum()) == kept
    got, again = fused.gradients(noise(257, 300), weight, f, SCALES, selection)
    assert torch.equal(again, masked)
    assert all(bool(part.isfinite().all()) for part in got)


@pytest.mark.parametrize(
    "value", [0.0, -1.5, "mostly"], ids=["all scores are zero", "all are equal", "nine tenths are equal"]
)
def test_very_many_ties_go_by_index(value: float | str) -> None:
    """The sample's bracket then holds more entries than the list: everything is searched."""
    weight, f = make(260, 300)
    f = Factors(*(torch.zeros_like(factor) for factor in f))
    if isinstance(value, str):
        weight = torch.where(noise(260, 300) < 1.28, 0.25, weight.abs() + 1)
    else:
        weight = torch.full_like(weight, value)
    for sparsity in (0.2, 0.5, 0.97):
        kept, wanted = choose(weight, f, sparsity)
        got, masked = fused.select_masked(weight, f, SCALES, kept)
        assert torch.equal(masked, reference.masked_weight(weight, f, SCALES, wanted))
        assert float(got.threshold) == float(wanted.threshold)


def test_a_bracket_that_misses_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, f = make(257, 300, grid=True)
    kept, wanted = choose(weight, f, 0.9)

    def wrong(batch: Any, kept: int, edges: Tensor) -> None:
        edges.copy_(torch.tensor([[5, 9]], dtype=torch.int32))

    monkeypatch.setattr(fused, "_bracket", wrong)
    _, masked = fused.select_masked(weight, f, SCALES, kept)
    assert torch.equal(masked, reference.masked_weight(weight, f, SCALES, wanted))


def exact_gradients(grad: Tensor, weight: Tensor, f: Factors, mask: Tensor) -> tuple[Factors, Tensor, Factors]:
    """In float64 from the equations, with the given mask: gradients, M * D, and the root of each sum of squared
    terms."""
    g, w, x = grad.double(), weight.double(), Factors(*(factor.double() for factor in f))
    d = w + SCALES.beta * x.u @ x.v
    ds = g * d
    dd = g * (mask + d.abs())
    return Factors(*_six(ds, dd, x)), mask * d, Factors(*(term.sqrt() for term in _six(ds**2, dd**2, _squared(x))))


def _squared(x: Factors) -> Factors:
    return Factors(*(factor**2 for factor in x))


def _six(ds: Tensor, dd: Tensor, x: Factors) -> Factors:
    return Factors(
        u=SCALES.beta * dd @ x.v.mT,
        v=SCALES.beta * x.u.mT @ dd,
        a=SCALES.alpha1 * ds @ x.b.mT,
        b=SCALES.alpha1 * x.a.mT @ ds,
        r=SCALES.alpha2 * ds.sum(-1),
        c=SCALES.alpha2 * ds.sum(-2),
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 1e-2)])
def test_gradients_follow_float64(
    shape: tuple[int, int], ranks: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    weight, f = make(*shape, ranks=ranks, dtype=dtype)
    kept = weight.numel() - pruned_count(weight.numel(), 0.9)
    selection = fused.select(weight, f, SCALES, kept)
    mask = fused.scores(weight, f, SCALES) >= selection.threshold
    grad = noise(*shape).to(dtype)
    wanted, masked, spread = exact_gradients(grad, weight, f, mask)
    got, applied = fused.gradients(grad.clone(), weight, f, SCALES, selection)
    close(applied, masked, tolerance)
    for one, other, terms in zip(got, wanted, spread, strict=True):
        assert one.shape == other.shape
        close(one, other, tolerance, float(terms.norm()))


def test_gradients_are_the_references_and_repeat_bit_for_bit() -> None:
    weight, f = make(257, 300, grid=True)
    _kept, selection = choose(weight, f, 0.8)
    grad = noise(257, 300)
    wanted, masked = reference.gradients(grad, weight, f, SCALES, selection)
    first, applied = fused.gradients(grad.clone(), weight, f, SCALES, selection)
    second, _ = fused.gradients(grad.clone(), weight, f, SCALES, selection)
    assert torch.equal(applied, masked.add(0.0))
    for one, same, other in zip(first, second, wanted, strict=True):
        assert torch.equal(one, same)
        close(one, other, 1e-5)


def test_a_gradient_of_another_dtype_is_left_alone() -> None:
    weight, f = make(65, 129)
    _, selection = choose(weight, f, 0.5)
    grad = noise(65, 129).bfloat16()
    before = grad.clone()
    got, masked = fused.gradients(grad, weight, f, SCALES, selection)
    assert torch.equal(grad, before)
    assert masked.dtype == torch.float32
    wanted, _ = reference.gradients(grad, weight, f, SCALES, selection)
    for one, other in zip(got, wanted, strict=True):
        close(one, other, 1e-5)


@pytest.mark.parametrize("shape", [(65, 129), (257, 300)])
def test_a_batch_is_as_its_matrices_one_by_one(shape: tuple[int, int]) -> None:
    weight, f = make(*shape, batch=(3,))
    kept = shape[0] * shape[1] // 10
    selection, masked = fused.select_masked(weight, f, SCALES, kept)
    grad = noise(3, *shape)
    got, _ = fused.gradients(grad.clone(), weight, f, SCALES, selection)
    for index in range(3):
        one = Factors(*(factor[index] for factor in f))
        chosen, alone = fused.select_masked(weight[index], one, SCALES, kept)
        assert float(chosen.threshold) == float(selection.threshold[index])
        assert torch.equal(alone, masked[index])
        wanted, _ = fused.gradients(grad[index].clone(), weight[index], one, SCALES, chosen)
        for part, other in zip(got, wanted, strict=True):
            close(part[index], other, 1e-6)


def test_frozen_weights_in_8_bits() -> None:
    weight, f = make(257, 300, dtype=torch.bfloat16)
    packed = quantize_rows(weight)
    assert packed.values.dtype == torch.int8
    worst = (packed.dequantized() - weight.float()).abs().amax(-1)
    assert bool((worst <= packed.row_scales * 0.5001).all())
    kept = 7710
    selection, masked = fused.select_masked(packed, f, SCALES, kept)
    assert masked.dtype == torch.bfloat16
    assert int((fused.scores(packed, f, SCALES) >= selection.threshold).sum()) == kept
    close(fused.scores(packed, f, SCALES), reference.scores(packed.dequantized(), f, SCALES), 1e-5)
    mask = fused.scores(packed, f, SCALES) >= selection.threshold
    grad = noise(257, 300).bfloat16()
    wanted, _, _ = exact_gradients(grad, packed.dequantized(), f, mask)
    got, applied = fused.gradients(grad.clone(), packed, f, SCALES, selection)
    assert torch.equal(applied, masked)
    for one, other in zip(got, wanted, strict=True):
        close(one, other, 1e-2)


def test_a_row_of_zeros_in_8_bits_stays_zero() -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -2.0]], device=DEVICE)
    packed = quantize_rows(weight)
    assert torch.equal(packed.dequantized()[0], weight[0])
    assert torch.equal(weight, torch.tensor([[0.0, 0.0], [1.0, -2.0]], device=DEVICE))


def test_keys_order_as_the_scores_do() -> None:
    """The threshold that comes back is one of the scores, bit for bit, negative ones and zeros included."""
    weight, f = make(40, 50)
    f = f._replace(r=torch.full_like(f.r, -30.0))
    scores = fused.scores(weight, f, SCALES)
    assert bool((scores < 0).any())
    for kept in (1, 2, 1000, 1999):
        threshold = fused.select(weight, f, SCALES, kept).threshold
        assert torch.equal(threshold, scores.reshape(-1).sort(descending=True).values[kept - 1])


def test_the_dispatch_follows_device_dtype_and_override() -> None:
    weight, f = make(33, 20)
    cpu = Factors(*(factor.cpu() for factor in f))
    assert kernels.backend_of(weight.cpu()) == "reference"
    assert kernels.backend_of(weight.double()) == "reference"
    assert kernels.backend_of(weight) == ("triton" if CUDA else "reference")
    with kernels.use("triton"):
        assert kernels.backend_of(weight) == "triton"
        got = kernels.select(weight, f, SCALES, 66)
        masked = kernels.masked_weight(weight, f, SCALES, got)
    with kernels.use("reference"):
        wanted = kernels.select(weight.cpu(), cpu, SCALES, 66)
        close(masked.cpu(), kernels.masked_weight(weight.cpu(), cpu, SCALES, wanted), 1e-6)
    with pytest.raises(ValueError, match="no kernels named"), kernels.use("cublas"):
        pass


def test_the_reference_takes_8_bit_weights_too() -> None:
    weight, f = make(33, 20)
    packed = quantize_rows(weight.cpu())
    cpu = Factors(*(factor.cpu() for factor in f))
    assert isinstance(packed, Int8Weight)
    with kernels.use("reference"):
        selection, masked = kernels.select_masked(packed, cpu, SCALES, 66)
        assert int((masked != 0).sum()) == 66
        got, again = kernels.gradients(torch.ones(33, 20), packed, cpu, SCALES, selection)
        assert torch.equal(again.add(0.0), masked)
        assert got.u.shape == cpu.u.shape


def test_a_matrix_too_large_to_count_is_refused() -> None:
    large = torch.empty(1, 1, device="meta").expand(65536, 65536)
    _, f = make(1, 1)
    with pytest.raises(ValueError, match="use the reference kernels"):
        fused.scores(large, f, SCALES)


@pytest.mark.skipif(not CUDA, reason="CUDA graphs need a GPU")
def test_selection_and_gradients_run_in_a_cuda_graph() -> None:
    weight, f = make(257, 300)
    grad = noise(257, 300)

    def step() -> tuple[Tensor, Factors]:
        selection, masked = fused.select_masked(weight, f, SCALES, 7710)
        found, _ = fused.gradients(grad.clone(), weight, f, SCALES, selection)
        return masked, found

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masked, found = step()
    f.v.mul_(-2.0)
    weight.mul_(0.5)
    graph.replay()
    wanted_masked, wanted = step()
    assert torch.equal(masked, wanted_masked)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_constants_agree() -> None:
    assert 1 << search.BITS == search.BINS
    assert min(fused.WHOLE, 1 << 15) > search.SAMPLE
