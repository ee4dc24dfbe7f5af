"""Small models: layers of equal shape are searched, masked and differentiated together, in one launch per kernel.

A small matrix keeps a GPU busy for less time than its launches take. :class:`BatchedLayers` moves its layers' tensors
into stacked ones, of which the layers' own become slices: names, modules and optimiser see no difference.

:func:`search` finds exact selections with counts that lie on the device, without a wait for the device, so that a
captured step can follow the schedule: by the kernels' radix search where there are kernels. Elsewhere, with s the sort
key of a score (a whole number of the same order), it builds

    t = the largest key of which at least ``kept`` scores have a key >= t

bit by bit, from the highest; the scores equal to t stay in the order of their index until ``kept`` is reached.

Legend as in :mod:`pst.layers.kernels.reference`, with a leading axis for the layers of the group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pst.layers import kernels
from pst.layers.inject import TargetModule
from pst.layers.kernels.reference import Factors
from pst.layers.linear import PrunableLinear, PSTLinear
from pst.sparsity.masks import Selection

CHUNK = 1024
MAGNITUDE_BITS = 0x7FFFFFFF  # of a float32: all but its sign


class BatchedLayers:
    """Layers of one shape, dtype, device, ranks and scales, none of them in 8 bits. The layers must not be moved
    after."""

    def __init__(self, layers: Sequence[PSTLinear]) -> None:
        self.layers = list(layers)
        self.scales = self.layers[0].scales
        self.weight = _stack([layer.weight for layer in self.layers])
        self.factors = Factors(*(_stack(list(same)) for same in zip(*(x.factors() for x in self.layers), strict=True)))

    @torch.no_grad()
    def scores(self) -> Tensor:
        """S (layers, n, k)."""
        if kernels.backend_of(self.weight) == "triton":
            return kernels.scores(self.weight, self.factors, self.scales)
        return torch.stack([layer.scores() for layer in self.layers])

    def masked(self, chosen: int | Tensor | Selection) -> tuple[Tensor, ...]:
        """Every layer's M * D, differentiable, and its selection set: with ``chosen`` weights each (a tensor (layers)
        that lies on the device is for Triton's kernels alone), or as a selection of stacked thresholds and cuts
        (layers) says."""
        trained = [factor for layer in self.layers for factor in layer.factors()]
        return _Masked.apply(self, chosen, *trained)  # type: ignore[no-untyped-call,no-any-return]


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """A stack of which the tensors become slices."""
    stacked = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, stacked, strict=True):
        tensor.data = part
    return stacked


def group_layers(layers: Sequence[PSTLinear]) -> list[BatchedLayers]:
    """Groups of all layers that can be together, in order of first appearance."""
    alike: dict[Hashable, list[PSTLinear]] = defaultdict(list)
    for layer in layers:
        shapes = tuple(factor.shape for factor in layer.factors())
        alike[layer.weight.shape, layer.weight.dtype, layer.weight.device, shapes, layer.scales].append(layer)
    return [BatchedLayers(members) for members in alike.values()]


@contextmanager
def together(
    groups: Sequence[BatchedLayers], chosen: Callable[[BatchedLayers], int | Tensor | Selection]
) -> Iterator[None]:
    """Within, the layers apply their masked weights, made here at once as :meth:`BatchedLayers.masked` makes them; a
    backward pass brings the gradients of all factors."""
    for group in groups:
        for layer, masked in zip(group.layers, group.masked(chosen(group)), strict=True):
            layer.frozen = layer.unscaled(masked)
    try:
        yield
    finally:
        for group in groups:
            for layer in group.layers:
                layer.frozen = None


class _Masked(torch.autograd.Function):
    """The M * D of a group from its factors."""

    @staticmethod
    def forward(
        ctx: Any, group: BatchedLayers, chosen: int | Tensor | Selection, *trained: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.group = group
        if kernels.backend_of(group.weight) == "triton":
            if isinstance(chosen, Selection):
                selection = chosen
                masked = kernels.masked_weight(group.weight, group.factors, group.scales, selection)
            else:
                selection, masked = kernels.select_masked(group.weight, group.factors, group.scales, chosen)
            ctx.selection = selection
            each, parts = _selections(selection), masked.unbind(0)
        elif isinstance(chosen, Selection):
            each = _selections(chosen)
            parts = tuple(
                kernels.masked_weight(layer.weight, layer.factors(), group.scales, selection)
                for layer, selection in zip(group.layers, each, strict=True)
            )
        else:
            found = [kernels.select_masked(x.weight, x.factors(), group.scales, chosen) for x in group.layers]
            each, parts = [selection for selection, _ in found], tuple(masked for _, masked in found)
        for layer, selection in zip(group.layers, each, strict=True):
            layer.keep(selection)
        ctx.chosen = each
        return parts

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        group: BatchedLayers = ctx.group
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


def search(scores: Tensor, kept: Tensor) -> Selection:
    """Thresholds and cuts (batch) that keep exactly ``kept`` (batch, int64, 1..size) of each row of ``scores`` (batch,
    size; computed in float32)."""
    found = kernels.select_values(scores, kept)
    return _bit_by_bit(scores, kept) if found is None else found


def _bit_by_bit(scores: Tensor, kept: Tensor) -> Selection:
    scores = scores.float() + 0.0  # -0.0 and 0.0 are equal scores
    bits = scores.view(torch.int32)
    keys = torch.where(bits < 0, bits ^ MAGNITUDE_BITS, bits)
    found = torch.full((len(keys), 1), -(2**31), dtype=torch.int32, device=keys.device)
    wanted = kept.view(-1, 1)
    for bit in range(31, -1, -1):
        higher = found + (1 << bit) if bit < 31 else torch.zeros_like(found)
        count = (keys >= higher).sum(1, keepdim=True, dtype=torch.int32)
        found = torch.where(count >= wanted, higher, found)
    place = wanted - (keys > found).sum(1, keepdim=True)  # of the scores equal to the threshold, so many stay
    ties = F.pad((keys == found).int(), (0, -keys.shape[1] % CHUNK)).view(len(keys), -1, CHUNK)
    sums = ties.sum(2).cumsum(1)
    chunk = (sums < place).sum(1, keepdim=True)
    before = F.pad(sums, (1, 0)).gather(1, chunk)
    inside = ties.gather(1, chunk.unsqueeze(2).expand(-1, 1, CHUNK)).squeeze(1).cumsum(1)
    cut = chunk * CHUNK + (inside < place - before).sum(1, keepdim=True)
    value = torch.where(found < 0, found ^ MAGNITUDE_BITS, found).view(torch.float32)
    return Selection(value.squeeze(1), cut.squeeze(1))


class Selector:
    """Renews the selections of all modules at once, with counts that lie on the device.

    ``kept`` of its methods is (modules) for a threshold a matrix; with a threshold for a whole group of the model
    ("global") it is (groups), in the order of first appearance. Raises :class:`RuntimeError` for layers that it can't
    serve.
    """

    def __init__(self, modules: Sequence[TargetModule], threshold: str) -> None:
        self.pooled = threshold == "global"
        pst = [
            module.layer
            for module in modules
            if isinstance(module.layer, PSTLinear) and module.layer.row_scales is None
        ]
        self.groups = group_layers(pst)
        self.own = [(i, x.layer) for i, x in enumerate(modules) if x.layer.device_select]
        if self.own and self.pooled:
            raise RuntimeError("these layers' selections can't share a threshold on the device")
        alone = {id(layer) for _, layer in self.own} | {id(layer) for layer in pst}
        alike: dict[Hashable, list[PrunableLinear]] = defaultdict(list)
        for module in modules:
            if id(module.layer) not in alone:
                alike[module.layer.weight.shape].append(module.layer)
        self.others = list(alike.values())
        order: list[PrunableLinear] = [layer for group in self.groups for layer in group.layers]
        order += [layer for layers in self.others for layer in layers]
        place = {module.layer: index for index, module in enumerate(modules)}
        device = modules[0].layer.weight.device
        self._places = torch.tensor([place[layer] for layer in order], dtype=torch.int64, device=device)
        pools = list(dict.fromkeys(module.group for module in modules))
        places = {layer: index for index, layer in enumerate(order)}
        self._pools = [
            [places[module.layer] for module in modules if module.group == pool and module.layer in places]
            for pool in pools
        ]
        self._none = torch.full((), float("nan"), device=device)

    @contextmanager
    def selected(self, kept: Tensor) -> Iterator[None]:
        """Within, every layer's selection keeps the wanted number of its scores as they stood at the entrance."""
        with torch.no_grad():
            for index, layer in self.own:
                layer.select(kept[index])  # type: ignore[arg-type]
            stacks = [torch.stack([layer.scores() for layer in layers]) for layers in self.others]
            first = len(self.groups)
            if self.pooled:
                found = self._top_k_of_group([*(group.scores() for group in self.groups), *stacks], kept)
                wanted: list[Tensor | Selection] = [*found[:first]]
                rest = found[first:]
            else:
                counts = [len(x.layers) for x in self.groups] + [len(x) for x in self.others]
                parts = torch.split(kept[self._places], counts)
                wanted = [_wanted(*each) for each in zip(self.groups, parts[:first], strict=True)]
                rest = [search(*each) for each in zip((s.flatten(1) for s in stacks), parts[first:], strict=True)]
            for layers, stack, selection in zip(self.others, stacks, rest, strict=True):
                for layer, mask in zip(layers, _masks(stack, selection), strict=True):
                    layer.keep(Selection(self._none, -1, mask))
        chosen = dict(zip(map(id, self.groups), wanted, strict=True))
        with together(self.groups, lambda group: chosen[id(group)]):
            yield

    def _top_k_of_group(self, scores: Sequence[Tensor], kept: Tensor) -> list[Selection]:
        flat = [matrix.reshape(-1) for stack in scores for matrix in stack]
        thresholds, cuts = [self._none] * len(flat), [self._none] * len(flat)
        for pool, members in enumerate(self._pools):
            chosen = search(torch.cat([flat[index] for index in members]).unsqueeze(0), kept[pool : pool + 1])
            start = 0
            for index in members:
                thresholds[index] = chosen.threshold[0]
                cuts[index] = (torch.as_tensor(chosen.cut)[0] - start).clamp(-1, flat[index].numel() - 1)
                start += flat[index].numel()
        result, at = [], 0
        for stack in scores:
            result.append(
                Selection(torch.stack(thresholds[at : at + len(stack)]), torch.stack(cuts[at : at + len(stack)]))
            )
            at += len(stack)
        return result


def _wanted(group: BatchedLayers, kept: Tensor) -> Tensor | Selection:
    """What :meth:`BatchedLayers.masked` takes: with kernels, M * D is made as the scores are searched."""
    return kept if kernels.backend_of(group.weight) == "triton" else search(group.scores().flatten(1), kept)


def _masks(scores: Tensor, selection: Selection) -> Tensor:
    """The boolean masks (layers, n, k) of stacked selections."""
    flat = scores.float().flatten(1)
    threshold, cut = selection.threshold.unsqueeze(1), torch.as_tensor(selection.cut).unsqueeze(1)
    index = torch.arange(flat.shape[1], device=flat.device)
    return ((flat > threshold) | ((flat == threshold) & (index <= cut))).view(scores.shape)
