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

from pst.base import load_state, state_of
from pst.families import Attention, FeedForward, UnitFamily, tensors, unit_families

State = Mapping[str, Tensor]

FREE = ("unstructured", "structured")  # structures without a pattern that a removed row or column could shift
FOUR = 4


def empty_units(state: State, config: Mapping[str, Any], task: str = "classification") -> dict[str, list[int]]:
    """The units that :func:`remove_units` can take away, by family name: those that add nothing come first."""
    found = {}
    for family in unit_families(config, task):
        empty, shifts = _empty(family, state, _transposed(config, task))
        silent = torch.stack([(shift == 0).all(1) for shift in shifts.values()]).all(0)
        found[family.name] = [*_places(empty & silent), *_places(empty & ~silent)]
    return found


def remove_units(
    state: State, config: Mapping[str, Any], keep: Mapping[str, Sequence[int]], task: str = "classification"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state and config of the model in which each family named in ``keep`` has only the units listed, in order.

    Neither argument is changed. Raises ValueError when a unit that is not empty would go, or when the config can't say
    the numbers of units that remain.
    """
    result, changes = dict(state), dict[str, int]()
    transposed = _transposed(config, task)
    for family in unit_families(config, task):
        kept = torch.as_tensor(keep.get(family.name, range(family.count)), dtype=torch.long)
        gone = torch.ones(family.count, dtype=torch.bool)
        gone[kept] = False
        for key, value in family.changes(len(kept)).items():
            if len(kept) != family.least(len(kept)) or changes.setdefault(key, value) != value:
                raise ValueError(f"the config can't say that {family.name} keeps {len(kept)} of {family.count} units")
        if not gone.any():
            continue
        empty, shifts = _empty(family, state, transposed)
        if (gone & ~empty).any():
            raise ValueError(f"unit {_places(gone & ~empty)[0]} of {family.name} is not empty")
        for name, shift in shifts.items():
            if (shift[gone] != 0).any():
                bias = result[name]
                result[name] = (bias.double() + shift[gone].sum(0).to(bias.device)).to(bias.dtype)
        for name, axis in family.members:
            # The stored matrix of a Conv1D is the map's transposed.
            result[name] = _slices(result[name], 1 - axis if name in transposed else axis, family.count, kept)
            bias_name = name.removesuffix("weight") + "bias"
            if axis == 0 and bias_name in state:
                result[bias_name] = _slices(result[bias_name], 0, family.count, kept)
        for name in {part.position_bias for part in family.parts if isinstance(part, Attention)} - {""}:
            result[name] = _slices(result[name], 1, family.count, kept)
    return result, {**config, **_differing(changes, config)}


def shrink(
    model: PreTrainedModel, task: str = "classification", structure: str = "unstructured"
) -> tuple[PreTrainedModel, list[str]]:
    """``model`` without its empty units, as far as its config can say so, and a sentence for each kind of unit removed.

    ``structure`` is the setting by which the model was pruned. The model itself is returned, unchanged, when there is
    nothing to remove; else a new one of the same class, dtype and device, in eval mode.
    """
    config = model.config.to_dict()
    state = state_of(model, config, task)
    empty = empty_units(state, config, task)
    together: dict[tuple[tuple[str, int], ...], list[UnitFamily]] = defaultdict(list)
    for family in unit_families(config, task):
        together[family.config_keys].append(family)
    shapes = {spec.name: spec.map_shape for spec in tensors(config, 1, task) if spec.group is not None}
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
    state, smaller = remove_units(state, config, keep, task)
    shape = copy.deepcopy(model.config)
    for key in _differing(smaller, config):
        setattr(shape, key, smaller[key])
    result: PreTrainedModel = type(model)(shape)
    load_state(result, state, smaller, task)
    if model.can_generate():
        result.generation_config = model.generation_config
    result.to(device=model.device, dtype=model.dtype)  # type: ignore[call-arg]
    result.eval()  # type: ignore[no-untyped-call]
    return result, messages


def _runs(units: Sequence[int], length: int) -> list[range]:
    """The aligned runs of ``length`` units that consist of ``units``, in the order of their first in ``units``."""
    held = set(units)
    starts = dict.fromkeys(unit - unit % length for unit in units)
    runs = (range(start, start + length) for start in starts)
    return [run for run in runs if held.issuperset(run)]


def _differing(values: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in config or config[key] != value}


def _transposed(config: Mapping[str, Any], task: str) -> set[str]:
    """Names of the matrices that are stored as (k, n)."""
    return {spec.name for spec in tensors(config, 1, task) if spec.conv1d}


def _places(mask: Tensor) -> list[int]:
    return [int(place) for place in mask.nonzero()]


def _slices(tensor: Tensor, axis: int, count: int, kept: Tensor) -> Tensor:
    """Of ``count`` equal slices along ``axis`` those at ``kept``."""
    width = tensor.shape[axis] // count
    index = (kept[:, None] * width + torch.arange(width)).reshape(-1)
    return tensor.index_select(axis, index.to(tensor.device)).contiguous()


def _empty(family: UnitFamily, state: State, transposed: set[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Which units are empty (count), and for each output bias what they add to it (count, h) in float64."""
    empty = torch.ones(family.count, dtype=torch.bool)
    shifts = {}
    for part in family.parts:
        if isinstance(part, FeedForward):
            constant, columns = _neurons(part, state, transposed)
        else:
            constant, columns = _heads(part, state, transposed)
        # (count, width of a unit): NaN where a unit's factor depends on x; columns (h, count, width of a unit).
        silent = (columns == 0).all(2).all(0)
        shift = torch.einsum("hcw,cw->ch", columns, constant.nan_to_num())
        shift[silent] = 0
        constant = silent | ~constant.isnan().any(1)
        name = f"{part.output}.bias"
        if name not in state:
            constant &= (shift == 0).all(1)
        empty &= constant
        shifts[name] = shift
    return empty, shifts


def _map(name: str, state: State, transposed: set[str]) -> tuple[Tensor, Tensor]:
    """Weight (n, k) and bias (n; zeros where there is none), in float64 on the CPU."""
    weight = state[f"{name}.weight"].double().cpu()
    weight = weight.T if f"{name}.weight" in transposed else weight
    bias = state.get(f"{name}.bias")
    return weight, torch.zeros(weight.shape[0], dtype=torch.float64) if bias is None else bias.double().cpu()


def _neurons(part: FeedForward, state: State, transposed: set[str]) -> tuple[Tensor, Tensor]:
    output, _ = _map(part.output, state, transposed)
    factors = []
    for place, name in enumerate(part.inputs):
        weight, bias = _map(name, state, transposed)
        value = ACT2FN[part.activation](bias) if place == 0 else bias
        factors.append(torch.where((weight == 0).all(1), value, torch.nan))
    value = factors[0] if len(factors) == 1 else factors[0] * factors[1]
    for factor in factors:
        value = torch.where(factor == 0, 0.0, value)  # 0 times anything
    return value[:, None], output[:, :, None]


def _heads(part: Attention, state: State, transposed: set[str]) -> tuple[Tensor, Tensor]:
    output, _ = _map(part.output, state, transposed)
    weight, bias = _map(part.value, state, transposed)
    heads = (part.kv_heads, part.head_dim)
    unchanged = (weight.view(*heads, -1) == 0).all(2)
    value = torch.where(unchanged.all(1, keepdim=True), bias.view(heads), torch.nan)
    queries = part.heads // part.kv_heads  # that share a head of values
    return value.repeat(1, queries), output.reshape(part.width, part.kv_heads, -1)
