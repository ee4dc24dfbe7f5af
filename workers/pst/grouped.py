"""Small models: layers of equal shape are searched, masked and differentiated together, in one launch per kernel.

A small matrix keeps a GPU busy for less time than its launches take. A :class:`Group` moves the tensors of its layers
into stacked ones, of which the layers' own become slices: names, modules and optimiser see no difference.

Legend as in :mod:`pst.kernels.reference`, with a leading axis for the layers of the group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pst import kernels
from pst.kernels.reference import Factors
from pst.layers import PSTLinear
from pst.masks import Selection


class Group:
    """Layers of one shape, dtype, device, ranks and scales, none of them in 8 bits. The layers must not be moved
    after."""

    def __init__(self, layers: Sequence[PSTLinear]) -> None:
        self.layers = list(layers)
        self.scales = self.layers[0].scales
        self.weight = _stack([layer.weight for layer in self.layers])
        self.factors = Factors(*(_stack(list(same)) for same in zip(*(x.factors() for x in self.layers), strict=True)))

    def masked(self, kept: int) -> tuple[Tensor, ...]:
        """Renew every layer's selection with ``kept`` weights, and give their M * D, differentiable."""
        trained = [factor for layer in self.layers for factor in layer.factors()]
        return _Masked.apply(self, kept, *trained)  # type: ignore[no-untyped-call,no-any-return]


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """A stack of which the tensors become slices."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, stacked, strict=True):
        tensor.data = part
    return stacked


def group_layers(layers: Sequence[PSTLinear]) -> list[Group]:
    """Groups of all layers that can be together, in order of first appearance."""
    alike: dict[Hashable, list[PSTLinear]] = defaultdict(list)
    for layer in layers:
        shapes = tuple(factor.shape for factor in layer.factors())
        alike[layer.weight.shape, layer.weight.dtype, layer.weight.device, shapes, layer.scales].append(layer)
    return [Group(members) for members in alike.values()]


@contextmanager
def together(groups: Sequence[Group], kept: Callable[[Group], int]) -> Iterator[None]:
    """Within, the layers apply their masked weights, made here at once with ``kept(group)`` weights each; a backward
    pass brings the gradients of all factors."""
    for group in groups:
        for layer, masked in zip(group.layers, group.masked(kept(group)), strict=True):
            layer.frozen = masked
    try:
        yield
    finally:
        for group in groups:
            for layer in group.layers:
                layer.frozen = None


class _Masked(torch.autograd.Function):
    """The M * D of a group from its factors."""

    @staticmethod
    def forward(ctx: Any, group: Group, kept: int, *trained: Tensor) -> tuple[Tensor, ...]:
        ctx.group = group
        if kernels.backend_of(group.weight) == "triton":
            ctx.selection, masked = kernels.select_masked(group.weight, group.factors, group.scales, kept)
            chosen, parts = _selections(ctx.selection), masked.unbind(0)
        else:
            each = [kernels.select_masked(x.weight, x.factors(), group.scales, kept) for x in group.layers]
            chosen, parts = [selection for selection, _ in each], tuple(masked for _, masked in each)
        for layer, selection in zip(group.layers, chosen, strict=True):
            layer.selection = selection
        ctx.chosen = chosen
        return parts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        group: Group = ctx.group
        if kernels.backend_of(group.weight) == "triton":
            stacked, _ = kernels.gradients(torch.stack(grads), group.weight, group.factors, group.scales, ctx.selection)
            found = [part for one in zip(*stacked, strict=True) for part in one]
        else:
            found = []
            for grad, layer, selection in zip(grads, group.layers, ctx.chosen, strict=True):
                result, _ = kernels.gradients(grad, layer.weight, layer.factors(), group.scales, selection)
                found += result
        return None, None, *found


def _selections(selection: Selection) -> list[Selection]:
    """One by one from the tensors of a batch."""
    cuts = torch.as_tensor(selection.cut)
    return [Selection(threshold, cut) for threshold, cut in zip(selection.threshold, cuts, strict=True)]
