"""The weight that inputs' activations give to |D|: exact in every dtype, undone by merging, and the documented S."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pst.layers.batched import group_layers, together
from pst.layers.kernels.int8 import Int8Weight
from pst.layers.kernels.reference import Scales
from pst.layers.linear import MAX_INPUT_SCALE, PSTLinear

N, K = 12, 8


def weight(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(1)).to(dtype)


def inputs() -> Tensor:
    """Feature j is (j + 1)^2 times as active as the first; the last one is never active."""
    x = torch.randn(50, K, generator=torch.Generator().manual_seed(2)) * torch.arange(1, K + 1) ** 2
    x[:, -1] = 0
    return x


def layer(power: float, dtype: torch.dtype = torch.float32, *, seed: int = 3) -> PSTLinear:
    made = PSTLinear(
        weight(dtype),
        torch.arange(N).to(dtype),
        update_rank=2,
        score_rank=2,
        scales=Scales(1.0, 1.0, 1.0),
        init_scale=0.1,
        generator=torch.Generator().manual_seed(seed),
        activation_power=power,
    )
    if power:
        made.calibrated(inputs().square().sum(0))
    return made


def stirred(made: PSTLinear) -> PSTLinear:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for factor in made.factors():
            factor.add_(torch.randn(factor.shape, generator=generator) * 0.1)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_is_rounded(dtype: torch.dtype) -> None:
    made, x = layer(0.5, dtype), torch.randn(3, 5, K).to(dtype)
    assert torch.equal(made(x), F.linear(x, weight(dtype), made.bias))
    made.select(40)
    merged = made.masked()
    assert int((merged != 0).sum()) == 40
    assert torch.equal(merged, torch.where(merged != 0, weight(dtype), 0))
    made.calibrated(torch.ones(K))
    assert torch.equal(made.weight, weight(dtype))


def test_scores_are_the_documented_ones() -> None:
    made = stirred(layer(0.5))
    rms = inputs().square().mean(0).sqrt().sqrt()
    relative = (rms / rms.mean()).clamp(1 / MAX_INPUT_SCALE, MAX_INPUT_SCALE)
    a = 2.0 ** relative.log2().round()
    assert a[-1] == 1 / MAX_INPUT_SCALE
    assert made.input_scale is not None and torch.equal(made.input_scale, a)
    d = weight() * a + made.update_u @ made.update_v
    s = d.abs() + made.score_a @ made.score_b + made.score_r[:, None] + made.score_c
    torch.testing.assert_close(made.scores(), s.detach())
    made.select(40)
    torch.testing.assert_close(made.masked(), (torch.where(s >= s.flatten().sort().values[-40], d, 0) / a).detach())


def test_without_power_it_is_the_published_layer() -> None:
    made = layer(0.0)
    assert not made.calibrates
    torch.testing.assert_close(made.scores(), weight().abs() + (made.score_a @ made.score_b).detach())


def test_layers_keep_their_common_input_once() -> None:
    x, kept = torch.randn(6, 10, K, requires_grad=True), list[int]()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() == x.numel():
            kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for seed in (3, 4):
            layer(0.5, seed=seed)(x)
    assert kept == [x.data_ptr()] * 2


def test_grouped_layers_compute_and_learn_the_same() -> None:
    x = torch.randn(6, K)
    alone = [stirred(layer(0.5, seed=seed)) for seed in (3, 4)]
    joined = [stirred(layer(0.5, seed=seed)) for seed in (3, 4)]
    for one in alone:
        one.select(30)
    outputs = [one(x) for one in alone]
    sum(y.square().sum() for y in outputs).backward()  # type: ignore[union-attr]
    with together(group_layers(joined), lambda group: 30):
        others = [one(x) for one in joined]
        sum(y.square().sum() for y in others).backward()  # type: ignore[union-attr]
    for one, other, y, z in zip(alone, joined, outputs, others, strict=True):
        torch.testing.assert_close(y, z)
        for left, right in zip(one.factors(), other.factors(), strict=True):
            torch.testing.assert_close(left.grad, right.grad)


def test_a_weight_in_8_bits_is_rounded_anew_when_it_is_scaled() -> None:
    made = layer(0.5)
    exact = made.plain()
    made.calibrated(torch.ones(K))
    made.hold_in_8_bits()
    made.calibrated(inputs().square().sum(0))
    scale, held = made.input_scale, made.held(made.weight)
    assert scale is not None and isinstance(held, Int8Weight)
    # twice half a step of the row's scale, and the second one weighs a column's scale less
    error = ((made.plain() - exact) * scale).abs()
    assert (error <= held.row_scales[:, None] * 0.51 + weight().abs().amax(1, keepdim=True) / 254 * scale).all()
    made.calibrated(torch.ones(K))
    assert (((made.plain() - weight()) * scale).abs() <= 2 * held.row_scales[:, None]).all()
