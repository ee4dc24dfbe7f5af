"""The layer against a brute force in float64, written from the design's equations with autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pst.layers.kernels import reference
from pst.layers.kernels.reference import Factors, Scales
from pst.layers.linear import PSTLinear
from pst.model.memory import kept_bytes
from pst.sparsity.masks import Selection, explicit, kept_count, mask_, select

SCALES = Scales(beta=0.7, alpha1=1.3, alpha2=0.4)
SHAPES = [(1, 1, 1), (3, 7, 5), (6, 17, 33), (9, 131, 140)]  # tokens, n, k; the last takes the sampled selection


def brute_force(
    x: Tensor, weight: Tensor, bias: Tensor, f: Factors, kept: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(y, M) with a straight-through mask, from the definitions alone; M is given or the ``kept`` largest."""
    d = weight + SCALES.beta * f.u @ f.v
    s = d.abs() + SCALES.alpha1 * f.a @ f.b + SCALES.alpha2 * (f.r[:, None] + f.c[None, :])
    if mask is None:
        order = sorted(range(s.numel()), key=lambda index: (-float(s.detach().reshape(-1)[index]), index))
        mask = torch.zeros(s.numel(), dtype=s.dtype)
        mask[order[:kept]] = 1
        mask = mask.reshape(s.shape)
    straight_through = mask + s - s.detach()  # value M, derivative with respect to S is one
    return x @ (straight_through * d).T + bias, mask


def make_layer(n: int, k: int, dtype: torch.dtype, *, ties: bool) -> PSTLinear:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(n, k, generator=generator, dtype=torch.float64)
    if ties:
        weight = weight.mul(2).round().div(2)
    layer = PSTLinear(
        weight.to(dtype),
        torch.randn(n, generator=generator).to(dtype),
        update_rank=4,
        score_rank=3,
        scales=SCALES,
        init_scale=0.3,
        generator=generator,
    )
    if not ties:  # with ties everything that starts at zero stays there, so that many scores are equal
        with torch.no_grad():
            for factor in layer.factors():
                factor.copy_(torch.randn(factor.shape, generator=generator) * 0.3)
    return layer


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_output_and_all_gradients_in_float64(shape: tuple[int, int, int], ties: bool, sparsity: float) -> None:
    tokens, n, k = shape
    layer = make_layer(n, k, torch.float64, ties=ties)
    kept = kept_count(n * k, sparsity)
    layer.keep(select(layer.scores(), kept))
    x = torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, tokens, n, dtype=torch.float64)

    y = layer(x)
    got = torch.autograd.grad(y, [x, *layer.factors()], upstream)
    wanted_y, mask = brute_force(x, layer.weight, layer.bias, layer.factors(), kept)
    wanted = torch.autograd.grad(wanted_y, [x, *layer.factors()], upstream)

    assert int(mask.sum()) == kept
    torch.testing.assert_close(y, wanted_y, rtol=1e-11, atol=1e-11)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_that_no_threshold_describes(shape: tuple[int, int, int]) -> None:
    tokens, n, k = shape
    layer = make_layer(n, k, torch.float64, ties=False)
    mask = torch.rand(n, k) < 0.3
    layer.keep(explicit(mask))
    x = torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    upstream = torch.randn_like(y)
    wanted_y, _ = brute_force(x, layer.weight, layer.bias, layer.factors(), 0, mask.double())
    torch.testing.assert_close(y, wanted_y, rtol=1e-11, atol=1e-11)
    got = torch.autograd.grad(y, [x, *layer.factors()], upstream)
    wanted = torch.autograd.grad(wanted_y, [x, *layer.factors()], upstream)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-4), (torch.bfloat16, 6e-2), (torch.float16, 1e-2)])
def test_other_dtypes_follow_float64(dtype: torch.dtype, tolerance: float) -> None:
    layer = make_layer(33, 47, dtype, ties=False)
    kept = kept_count(33 * 47, 0.8)
    layer.keep(select(layer.scores(), kept))
    x = torch.randn(5, 47, dtype=dtype, requires_grad=True)
    y = layer(x)
    got = torch.autograd.grad(y, [x, *layer.factors()], torch.ones_like(y))
    exact = Factors(*(factor.detach().double().requires_grad_() for factor in layer.factors()))
    x64 = x.detach().double().requires_grad_()
    wanted_y, _ = brute_force(x64, layer.weight.double(), layer.bias.double(), exact, kept)
    wanted = torch.autograd.grad(wanted_y, [x64, *exact], torch.ones_like(wanted_y))
    assert y.dtype == dtype
    for one, other in zip([y, *got], [wanted_y, *wanted], strict=True):
        assert (one.double() - other).norm() <= tolerance * other.norm()


def test_a_trained_bias_gets_its_gradient() -> None:
    layer = make_layer(6, 5, torch.float64, ties=False)
    assert layer.bias is not None
    layer.bias.requires_grad_(True)
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    (grad,) = torch.autograd.grad(layer(x).sum(), [layer.bias])
    assert torch.equal(grad, torch.full((6,), 12.0, dtype=torch.float64))


def test_starts_as_the_pretrained_layer() -> None:
    layer = make_layer(24, 16, torch.float32, ties=True)
    x = torch.randn(3, 16)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_of_the_weights_shape_only_the_mask_is_saved_for_backward() -> None:
    n, k = 48, 80
    layer = make_layer(n, k, torch.float32, ties=False)
    layer.keep(select(layer.scores(), kept_count(n * k, 0.9)))
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(5, k, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    weight, mask = (tensor for tensor in saved if tensor.numel() >= n * k)
    assert weight.data_ptr() == layer.weight.data_ptr()
    assert mask.dtype == torch.bool and torch.equal(mask, layer.masked() != 0)
    assert sum(t.numel() for t in saved) == 2 * n * k + x.numel() + 1 + sum(f.numel() for f in layer.factors())
    y.sum().backward()
    assert layer.update_v.grad is not None
    assert layer.weight.grad is None
    assert kept_bytes(lambda: layer(x).sum(), layer) == 4 * x.numel() + 4  # what rows add: x, and a threshold


@pytest.mark.parametrize("given", [False, True])
def test_scores_are_compared_once_a_step(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_layer(12, 7, torch.float64, ties=False)
    by_scores: list[bool] = []

    def watched(scores: Tensor, selection: Selection) -> Tensor:
        by_scores.append(selection.mask is None)
        return mask_(scores, selection)

    monkeypatch.setattr(reference, "mask_", watched)
    layer.select(20)
    if given:  # by a search over all layers
        layer.keep(select(layer.scores(), 20))
    layer(torch.randn(3, 7, dtype=torch.float64)).sum().backward()
    assert by_scores == [True, False]
