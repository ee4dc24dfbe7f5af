"""Layers together are as layers one by one; checkpointing leaves out the last product; 8-bit layers; autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pst.layers import linear as module
from pst.layers.batched import Selector, group_layers, search, together
from pst.layers.inject import TargetModule, select_all
from pst.layers.kernels.reference import Scales
from pst.layers.linear import PrunableLinear, PSTLinear
from pst.layers.methods.magnitude import MagnitudeLinear
from pst.sparsity.masks import Selection, kept_count, mask_of, select


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


@pytest.mark.parametrize("kind", ["normal", "coarse", "negative", "equal"])
def test_counts_on_the_device_select_as_counts_on_the_host(kind: str) -> None:
    torch.manual_seed(3)
    scores = torch.randn(4, 37, 53)
    if kind == "coarse":
        scores = (scores * 2).round() / 2  # many equal scores, -0.0 among them
    elif kind == "negative":
        scores = -scores.abs()
    elif kind == "equal":
        scores = torch.zeros_like(scores)
    for kept in ([1, 37 * 53, 1000, 37], [2, 3, 1960, 500]):
        found = search(scores.flatten(1), torch.tensor(kept))
        for one, count, threshold, cut in zip(scores, kept, found.threshold, torch.as_tensor(found.cut), strict=True):
            mask = mask_of(one, Selection(threshold, cut))
            assert torch.equal(mask, mask_of(one, select(one.contiguous(), count)))
            assert int(mask.sum()) == count


@pytest.mark.parametrize("threshold", ["matrix", "global"])
@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_all_layers_are_selected_at_once_as_one_after_the_other(threshold: str, method: str) -> None:
    shapes = [(12, 10), (7, 10), (12, 10), (10, 12), (12, 10)]
    layers: list[PrunableLinear] = [make(n, k, seed) for seed, (n, k) in enumerate(shapes)]
    if method == "magnitude":
        layers = [MagnitudeLinear(layer.weight, layer.bias) for layer in layers]
    modules = [TargetModule(str(i), "attention" if i % 2 else "ffn", layer) for i, layer in enumerate(layers)]
    shares = {"attention": 0.7, "ffn": 0.9}
    select_all(modules, shares, threshold)
    wanted = [layer.masked().clone() for layer in layers]
    sizes = [(module.group, module.layer.weight.numel()) for module in modules]
    if threshold == "global":
        sizes = [(group, sum(n for g, n in sizes if g == group)) for group in ("ffn", "attention")]
    kept = torch.tensor([kept_count(numel, shares[group]) for group, numel in sizes])
    for layer in layers:
        layer.select(layer.weight.numel())
    x = {k: torch.randn(3, k) for _, k in shapes}
    with Selector(modules, threshold).selected(kept):
        for layer, masked in zip(layers, wanted, strict=True):
            assert torch.equal(layer.masked(), masked)
            inputs = x[masked.shape[1]]
            torch.testing.assert_close(layer(inputs), torch.nn.functional.linear(inputs, masked, layer.bias))
    assert all(layer.frozen is None for layer in layers)
