"""Layers together are as layers one by one; checkpointing leaves out the last product; 8-bit layers; autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pst import layers as module
from pst.grouped import group_layers, together
from pst.kernels.reference import Scales
from pst.layers import PSTLinear


def make(n: int, k: int, seed: int) -> PSTLinear:
    generator = torch.Generator().manual_seed(seed)
    layer = PSTLinear(
        torch.randn(n, k, generator=generator),
        torch.randn(n, generator=generator),
        update_rank=4,
        score_rank=2,
        scales=Scales(1.0, 1.0, 1.0),
        init_scale=0.3,
        generator=generator,
    )
    with torch.no_grad():
        for factor in layer.factors():
            factor.copy_(torch.randn(factor.shape, generator=generator) * 0.3)
    return layer


def third(layer: PSTLinear) -> int:
    return layer.weight.numel() // 3


@pytest.mark.parametrize("autocast", [False, True])
def test_together_is_as_one_by_one(autocast: bool) -> None:
    ones = [make(12, 10, seed) for seed in range(3)] + [make(7, 10, 9)]
    others = [copy.deepcopy(layer) for layer in ones]
    x = torch.randn(5, 10)

    def total(layers: list[PSTLinear]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return sum((layer(x).float().square().sum() for layer in layers), torch.zeros(()))

    for layer in ones:
        layer.select(third(layer))
    total(ones).backward()
    groups = group_layers(others)
    assert [len(group.layers) for group in groups] == [3, 1]
    with together(groups, lambda group: third(group.layers[0])):
        total(others).backward()
    for one, other in zip(ones, others, strict=True):
        assert other.frozen is None
        assert torch.equal(one.masked(), other.masked())
        for wanted, got in zip(one.factors(), other.factors(), strict=True):
            assert wanted.grad is not None and got.grad is not None
            assert (wanted.grad - got.grad).norm() <= (2e-2 if autocast else 1e-5) * wanted.grad.norm()


def test_a_checkpointed_block_does_not_repeat_its_last_product(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = make(12, 10, 1), make(10, 12, 2)
    products: list[int] = []
    linear = module.F.linear

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        products.append(weight.shape[0])
        return linear(x, weight, bias)

    monkeypatch.setattr(module.F, "linear", counted)
    x = torch.randn(5, 10, requires_grad=True)
    inputs = [x, *first.factors(), *last.factors()]

    def gradients(checkpointed: bool) -> tuple[Tensor, ...]:
        first.select(30)
        last.select(30)
        products.clear()
        y = checkpoint(lambda v: v + last(first(v)), x, use_reentrant=False) if checkpointed else x + last(first(x))
        return torch.autograd.grad(y.square().sum(), inputs)

    plain = gradients(False)
    assert products == [12, 10]
    again = gradients(True)
    assert products == [12, 10, 12]
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_a_layer_in_8_bits_trains() -> None:
    layer = make(12, 10, 3)
    before = layer.masked()
    layer.hold_in_8_bits()
    assert layer.weight.dtype == torch.int8
    assert (layer.masked() - before).norm() <= 0.01 * before.norm()
    layer.select(20)
    layer(torch.randn(4, 10)).sum().backward()
    assert int((layer.masked() != 0).sum()) == 20
    assert layer.update_v.grad is not None and layer.weight.grad is None
