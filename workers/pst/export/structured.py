"""Physical removal of neurons and heads that contribute nothing, or the same for every input.

    FFN neuron j      y += W_out[:, j] a_j,    a_j = act(w_j x + b_j),  gated: a_j = act(g_j x + c_j) (w_j x + b_j)
    attention head i  y += W_out[:, i] (P_i x W_v,i^T + b_v,i),         the rows of P_i sum to 1

A unit is empty when its columns of W_out are zero (it adds nothing), or when what it adds does not depend on x: a_j is
constant where w_j = 0 (gated: both rows, or one of them and the other factor is 0), a head where W_v,i = 0, whatever
its queries and keys. A constant is folded into the bias of the output map, exactly up to rounding; where that map has
no bias, only units whose constant is zero are removed.

Where the mask is made of aligned fours along rows or columns (2:4, blocks), whole aligned fours go, so that what stays
keeps its place in the pattern.

A plain config says one size for all layers: every part under one config entry loses the same number of units, as many
as the part that has the fewest empty ones. The result is an ordinary, smaller model of the same class.

Legend: W_out (h, f) output map, g gate, h hidden size; j unit, "count" units of a part.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from pst.files.shards import Given
from pst.model.loading import LazyModel, TensorLocation, described, skeleton, state_of
from pst.plan.families import Attention, FeedForward, ModelDescription, UnitFamily

State = Mapping[str, Tensor]

FREE = ("unstructured", "structured")  # structures without a pattern that a removed row or column could shift
FOUR = 4


def empty_units(state: State, model: ModelDescription) -> dict[str, list[int]]:
    """The units that :func:`remove_units` can take away, by family name: those that add nothing come first."""
    found = {}
    for family in model.unit_families:
        empty, shifts = _empty(family, state, _transposed(model))
        adding = torch.zeros_like(empty)
        for units, rows in shifts.values():
            adding[units[(rows != 0).any(1).cpu()]] = True
        found[family.name] = [*_places(empty & ~adding), *_places(empty & adding)]
    return found


def remove_units(
    state: dict[str, Tensor], model: ModelDescription, keep: Mapping[str, Sequence[int]]
) -> ModelDescription:
    """Turn ``state``, in place and one tensor after the other, into that of the model in which each family named in
    ``keep`` has only the units listed, in order. Returns the smaller model's description.

    Raises ValueError when a unit that is not empty would go, or when the config can't say the numbers of units that
    remain; ``state`` is unchanged then.
    """
    changes = dict[str, int]()
    transposed = _transposed(model)
    gone: dict[str, Tensor] = {}
    for family in model.unit_families:
        kept = len(keep.get(family.name, range(family.count)))
        for key, value in family.changes(kept).items():
            if kept != family.least(kept) or changes.setdefault(key, value) != value:
                raise ValueError(f"the config can't say that {family.name} keeps {kept} of {family.count} units")
        lost = torch.ones(family.count, dtype=torch.bool)
        lost[list(keep.get(family.name, range(family.count)))] = False
        if not lost.any():
            continue
        empty, _ = _empty(family, state, transposed)
        if (lost & ~empty).any():
            raise ValueError(f"unit {_places(lost & ~empty)[0]} of {family.name} is not empty")
        gone[family.name] = lost
    for family in model.unit_families:
        if family.name in gone:
            _remove(family, state, transposed, gone[family.name], torch.as_tensor(keep[family.name], dtype=torch.long))
    return model.resized(_differing(changes, model.config))


def _remove(family: UnitFamily, state: dict[str, Tensor], transposed: set[str], gone: Tensor, kept: Tensor) -> None:
    for name, (units, rows) in _empty(family, state, transposed)[1].items():
        lost = rows[gone[units].to(rows.device)]
        if (lost != 0).any():
            bias = state[name]
            state[name] = (bias.double() + lost.sum(0)).to(bias.dtype)
    biases = {name.removesuffix("weight") + "bias" for name, axis in family.members if axis == 0} & state.keys()
    for name, axis in family.members:
        # The stored matrix of a Conv1D is the map's transposed.
        state[name] = _slices(state[name], 1 - axis if name in transposed else axis, family.count, kept)
    for name in biases:
        state[name] = _slices(state[name], 0, family.count, kept)
    for name in {part.position_bias for part in family.parts if isinstance(part, Attention)} - {""}:
        state[name] = _slices(state[name], 1, family.count, kept)


def shrink(
    model: PreTrainedModel, task: str = "classification", structure: str = "unstructured"
) -> tuple[PreTrainedModel, list[str]]:
    """``model`` without its empty units, as far as its config can say so, and a sentence for each kind of unit removed.

    ``structure`` is the setting by which the model was pruned. The model itself is returned, unchanged, when there is
    nothing to remove; else a new one of the same class, dtype and device, in eval mode, and the old one has lost its
    weights to it.
    """
    description = described(model, task)
    state = state_of(model, description)
    empty = empty_units(state, description)
    together: dict[tuple[tuple[str, int], ...], list[UnitFamily]] = defaultdict(list)
    for family in description.unit_families:
        together[family.config_keys].append(family)
    shapes = {spec.name: spec.map_shape for spec in description.tensors if spec.group is not None}
    keep, messages = {}, []
    for families in together.values():
        first = families[0]
        widths = [shapes[name][axis] // family.count for family in families for name, axis in family.members]
        run = 1 if structure in FREE else FOUR // math.gcd(FOUR, *widths)
        runs = {family.name: _runs(empty[family.name], run) for family in families}
        most = min(len(found) for found in runs.values())
        least = next(n for n in range(first.count - most * run, first.count + 1, run) if first.least(n) == n)
        if least == first.count:
            continue
        for family in families:
            gone = {unit for found in runs[family.name][: (first.count - least) // run] for unit in found}
            keep[family.name] = [unit for unit in range(family.count) if unit not in gone]
        kind = "neurons" if first.kind == "ffn" else "groups of heads" if len(first.config_keys) > 1 else "heads"
        groups = " and ".join(sorted({family.group for family in families}))
        messages.append(f"{first.count - least} of {first.count} {kind} are removed from each layer of {groups}.")
    if not keep:
        return model, []
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)  # the state alone holds the weights, and loses them one by one
    smaller = remove_units(state, description, keep)
    shape = copy.deepcopy(model.config)
    for key, value in _differing(smaller.config, description.config).items():
        setattr(shape, key, value)
    result = skeleton(type(model)._from_config, shape)
    if model.can_generate():
        result.generation_config = model.generation_config
    return LazyModel(result, Given(state), smaller, TensorLocation(model.device, None)).finish(), messages


def _runs(units: Sequence[int], length: int) -> list[range]:
    """The aligned runs of ``length`` units that consist of ``units``, in the order of their first in ``units``."""
    held = set(units)
    starts = dict.fromkeys(unit - unit % length for unit in units)
    runs = (range(start, start + length) for start in starts)
    return [run for run in runs if held.issuperset(run)]


def _differing(values: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in config or config[key] != value}


def _transposed(model: ModelDescription) -> set[str]:
    """Names of the matrices that are stored as (k, n)."""
    return {spec.name for spec in model.tensors if spec.conv1d}


def _places(mask: Tensor) -> list[int]:
    return [int(place) for place in mask.nonzero()]


def _slices(tensor: Tensor, axis: int, count: int, kept: Tensor) -> Tensor:
    """Of ``count`` equal slices along ``axis`` those at ``kept``."""
    width = tensor.shape[axis] // count
    index = (kept[:, None] * width + torch.arange(width)).reshape(-1)
    return tensor.index_select(axis, index.to(tensor.device)).contiguous()


Shifts = dict[str, tuple[Tensor, Tensor]]
"""By the name of a bias: units (u) whose constant it can take over, and what each adds (u, h), in float64."""


def _empty(family: UnitFamily, state: State, transposed: set[str]) -> tuple[Tensor, Shifts]:
    """Which units are empty (count), and what those of them that are not zero add to each output bias."""
    empty = torch.ones(family.count, dtype=torch.bool)
    shifts = {}
    for part in family.parts:
        # (count, width of a unit): NaN where a unit's factor depends on x
        value = _neurons(part, state, transposed) if isinstance(part, FeedForward) else _heads(part, state, transposed)
        output, _ = _map(part.output, state, transposed)
        columns = output.reshape(len(output), *value.shape)  # (h, count, width)
        silent = (columns == 0).all(2).all(0).cpu()
        units = (~silent & ~value.isnan().any(1).cpu()).nonzero().flatten()
        place = units.to(columns.device)
        rows = torch.einsum("hcw,cw->ch", columns[:, place].double(), value[place])
        name = f"{part.output}.bias"
        if name not in state:
            units = units[(rows == 0).all(1).cpu()]
            rows = rows.new_zeros(len(units), rows.shape[1])
        constant = silent.clone()
        constant[units] = True
        empty &= constant
        shifts[name] = units, rows
    return empty, shifts


def _map(name: str, state: State, transposed: set[str]) -> tuple[Tensor, Tensor]:
    """Weight (n, k), and bias (n; zeros where there is none) in float64."""
    weight = state[f"{name}.weight"]
    weight = weight.T if f"{name}.weight" in transposed else weight
    bias = state.get(f"{name}.bias")
    return weight, weight.new_zeros(weight.shape[0], dtype=torch.float64) if bias is None else bias.double()


def _neurons(part: FeedForward, state: State, transposed: set[str]) -> Tensor:
    """What each neuron always is (f, 1), NaN if it depends on x."""
    factors = []
    for place, name in enumerate(part.inputs):
        weight, bias = _map(name, state, transposed)
        value = ACT2FN[part.activation](bias) if place == 0 else bias
        factors.append(torch.where((weight == 0).all(1), value, torch.nan))
    value = factors[0] if len(factors) == 1 else factors[0] * factors[1]
    for factor in factors:
        value = torch.where(factor == 0, 0.0, value)  # 0 times anything
    return value[:, None]


def _heads(part: Attention, state: State, transposed: set[str]) -> Tensor:
    """What each head always gives (kv_heads, width of its queries), NaN if it depends on x."""
    weight, bias = _map(part.value, state, transposed)
    heads = (part.kv_heads, part.head_dim)
    unchanged = (weight.reshape(*heads, -1) == 0).all(2)
    value = torch.where(unchanged.all(1, keepdim=True), bias.view(heads), torch.nan)
    return value.repeat(1, part.heads // part.kv_heads)  # queries that share a head of values
