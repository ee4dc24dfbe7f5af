"""Put prunable layers into a model, and take them out again. Which matrices: the table in :mod:`pst.plan.families`.

Which of a model's parameters a method trains, and at which peak rate:

    every method                                         the task head, at head_learning_rate
    full fine-tuning (dense, magnitude, movement, l0)    all the others too, at dense_learning_rate
    the rest, with ``train_norms``                       LayerNorms and biases too, at learning_rate
    the layer's own                                      :data:`LAYERS`
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from pst.config import Method, TrainSettings
from pst.layers.kernels.reference import Scales, compute_dtype
from pst.layers.linear import PrunableLinear, PSTLinear
from pst.layers.methods.l0 import L0Linear
from pst.layers.methods.lora import LoRALinear
from pst.layers.methods.magnitude import MagnitudeLinear
from pst.layers.methods.movement import MovementLinear
from pst.layers.methods.smp import SMPLinear
from pst.layers.methods.wanda import WandaLinear
from pst.model import memory
from pst.plan.families import TensorSpec
from pst.plan.methods import METHODS, trained_as_norm, update_rank
from pst.sparsity.masks import Selection, explicit, kept_count
from pst.sparsity.patterns import UnitFamily, named, select_pattern, units
from pst.sparsity.streaming import streaming_top_k

MAX_MEMORY_SHARE = 0.5  # of the free memory that masked weights, or scores, may take


@dataclass(frozen=True)
class TargetModule:
    """One pruned matrix of the model: module path, group, the layer that stands there, and whether the model stores
    the matrix transposed, as (k, n): in a Conv1D."""

    name: str
    group: str
    layer: PrunableLinear
    transposed: bool = False


Build = Callable[[Tensor, Tensor | None, TrainSettings, torch.Generator], PrunableLinear]
"""From weight (n, k) and bias (n); neither may be changed."""


def _pst(weight: Tensor, bias: Tensor | None, settings: TrainSettings, generator: torch.Generator) -> PSTLinear:
    layer = PSTLinear(
        weight,
        bias,
        update_rank=update_rank(settings, *weight.shape),
        score_rank=settings.score_rank,
        scales=Scales(settings.beta, settings.alpha1, settings.alpha2),
        init_scale=settings.init_scale,
        generator=generator,
        activation_power=settings.activation_power,
    )
    if settings.frozen_weights == "int8":
        layer.hold_in_8_bits()
    return layer


def _wanda(weight: Tensor, bias: Tensor | None, settings: TrainSettings, generator: torch.Generator) -> WandaLinear:
    return WandaLinear(
        weight,
        bias,
        rank=update_rank(settings, *weight.shape),
        beta=settings.beta,
        init_scale=settings.init_scale,
        generator=generator,
    )


def _lora(weight: Tensor, bias: Tensor | None, settings: TrainSettings, generator: torch.Generator) -> LoRALinear:
    return LoRALinear(
        weight,
        bias,
        rank=update_rank(settings, *weight.shape),
        beta=settings.beta,
        init_scale=settings.init_scale,
        generator=generator,
    )


@dataclass(frozen=True)
class Layers:
    """How a method's layers are made, and which setting holds the peak rate of each tensor that only they have."""

    build: Build
    rates: Mapping[str, str]


_UPDATE = {"update_u": "learning_rate", "update_v": "learning_rate"}
_IMPORTANCE = dict.fromkeys(("score_a", "score_b", "score_r", "score_c"), "score_learning_rate")
_GATE = {"score": "gate_learning_rate"}

LAYERS: dict[Method, Layers] = {
    "pst": Layers(_pst, _UPDATE | _IMPORTANCE),
    "magnitude": Layers(lambda weight, bias, settings, generator: MagnitudeLinear(weight, bias), {}),
    "movement": Layers(lambda weight, bias, settings, generator: MovementLinear(weight, bias), _GATE),
    "l0": Layers(lambda weight, bias, settings, generator: L0Linear(weight, bias, generator=generator), _GATE),
    "smp": Layers(lambda weight, bias, settings, generator: SMPLinear(weight, bias), _GATE),
    "wanda": Layers(_wanda, _UPDATE),
    "lora": Layers(_lora, _UPDATE),
}
"""Every method but dense, which leaves the model's own layers in place."""


def inject(
    model: nn.Module,
    specs: Sequence[TensorSpec],
    settings: TrainSettings,
    fill: Callable[[str], None] | None = None,
) -> list[TargetModule]:
    """Replace every matrix that has a group by the method's layer, in place. The dense method replaces none. ``specs``
    are :attr:`pst.plan.families.ModelDescription.tensors`. Raises :class:`TypeError` where a module is no linear map.

    ``fill`` reads the weights of a module whose path it is given, for a model that has none yet
    (:meth:`pst.model.loading.LazyModel.fill`): each is put into its final format before the next is read.
    """
    if settings.method not in LAYERS:
        return []
    build = LAYERS[settings.method].build
    generator = torch.Generator().manual_seed(settings.seed)
    modules = []
    for spec in specs:
        if spec.group is None:
            continue
        name = spec.name.removesuffix(".weight")
        linear = model.get_submodule(name)
        if not isinstance(linear, (nn.Linear, Conv1D)):
            raise TypeError(f"{name} is a {type(linear).__name__}, neither a Linear nor a Conv1D")
        if fill is not None:
            fill(name)
        transposed = isinstance(linear, Conv1D)
        weight = linear.weight.detach()
        layer = build(weight.T.contiguous() if transposed else weight, linear.bias, settings, generator)
        layer.train(model.training)
        _replace(model, name, layer)
        modules.append(TargetModule(name, spec.group, layer, transposed))
    return modules


def eject(model: nn.Module, module: TargetModule, weight: Tensor) -> None:
    """Put what the model had, an ordinary Linear or Conv1D, in the place of the module's layer, in place, with the
    given weight (n, k)."""
    n, k = module.layer.weight.shape
    bias = module.layer.bias
    with torch.device("meta"):  # neither memory nor random numbers for weights that are replaced
        plain: nn.Module = nn.Linear(k, n, bias=bias is not None)
        if module.transposed:
            plain = Conv1D(n, k)  # type: ignore[no-untyped-call]
    plain.weight = nn.Parameter(weight.T.contiguous() if module.transposed else weight)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach())
    _replace(model, module.name, plain)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def learning_rates(model: nn.Module, specs: Sequence[TensorSpec], settings: TrainSettings) -> dict[str, float]:
    """Peak rate of every trained parameter by name; all others are frozen, in place."""
    own: dict[str, float] = {}
    if settings.method in LAYERS:
        kinds = LAYERS[settings.method].rates
        for name, module in model.named_modules():
            if isinstance(module, PrunableLinear):
                own |= {f"{name}.{kind}": getattr(settings, setting) for kind, setting in kinds.items()}
    own |= {spec.name: settings.head_learning_rate for spec in specs if spec.head}
    if METHODS[settings.method].full:
        return {name: own.get(name, settings.dense_learning_rate) for name, _ in model.named_parameters()}
    if settings.train_norms:
        norms = (spec.name for spec in specs if trained_as_norm(spec) and not spec.head)
        own |= dict.fromkeys(norms, settings.learning_rate)
    rates = {name: own[name] for name, _ in model.named_parameters() if name in own}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in rates)
    return rates


def begin_step(modules: Sequence[TargetModule], final: bool) -> None:
    """Before the forward pass of every optimiser step; ``final``: sparsity has reached its target for good."""
    for module in modules:
        module.layer.final = final


@torch.no_grad()
def calibrate(model: nn.Module, modules: Sequence[TargetModule], batches: Iterable[Mapping[str, Tensor]]) -> None:
    """Let the layers that weigh their inputs see some: ``batches`` are the model's keyword arguments, on
    its device. Padding would count as tokens: the rows of a batch are of one length. What was seen in an earlier call
    is forgotten. Masked weights are computed once for all batches."""
    layers = [module.layer for module in modules if module.layer.calibrates]
    if not layers:
        return
    squares: dict[nn.Module, Tensor] = {}

    def observe(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        found = x.reshape(-1, x.shape[-1]).to(compute_dtype(layer.get_parameter("weight"))).square().sum(0)
        squares[layer] = squares[layer] + found if layer in squares else found

    hooks = [layer.register_forward_pre_hook(observe) for layer in layers]
    training = model.training
    model.eval()
    try:
        with frozen(modules):
            for batch in batches:
                model(**batch)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    for layer in layers:
        layer.calibrated(squares[layer])


def select_all(
    modules: Sequence[TargetModule],
    sparsity: Mapping[str, float],
    threshold: str,
    structure: str = "unstructured",
    families: Sequence[UnitFamily] = (),
    *,
    later: bool = False,
) -> None:
    """Renew the selection of every layer, exact in count: per matrix ("matrix"), or pooled over each group ("global").
    ``sparsity`` is by group, a share of 0..1. Here masks are made: what stays is searched among the layers' scores
    (n, k) by :mod:`pst.sparsity`, and each layer applies its own selection.

    ``later``: a layer that is alone with its threshold may search in its next forward pass. ``families`` says what the
    units of "structured" are; there, every layer keeps the same count.
    """
    if structure == "structured":
        _select_units(modules, sparsity, families)
        return
    for members in _by_group(modules).values():
        share, layers = sparsity[members[0].group], [module.layer for module in members]
        if threshold == "global":
            free = structure == "unstructured"
            chosen = _top_k_of_group(layers, share) if free else select_pattern(structure, layers, share, True)
            for layer, selection in zip(layers, chosen, strict=True):
                layer.keep(selection)
            continue
        for layer in layers:
            if structure == "unstructured":
                search = layer.select_later if later else layer.select
                search(kept_count(layer.weight.numel(), share))
            else:
                layer.keep(*select_pattern(structure, [layer], share, False))


def _top_k_of_group(layers: Sequence[PrunableLinear], sparsity: float) -> list[Selection]:
    """The largest scores of all ``layers``, without ever holding more of them than fit the free memory."""
    sizes = [layer.weight.numel() for layer in layers]
    room = MAX_MEMORY_SHARE * memory.free_bytes(layers[0].weight.device)
    return streaming_top_k([layer.scores for layer in layers], sizes, kept_count(sum(sizes), sparsity), room)


def _select_units(
    modules: Sequence[TargetModule], sparsity: Mapping[str, float], families: Sequence[UnitFamily]
) -> None:
    """Whole neurons and heads; a layer that no family names stays dense."""
    of = {f"{module.name}.weight": module for module in modules}
    for family in families:
        members = {name: of.pop(name) for name, _ in family.members}
        shapes = {name: (len(module.layer.weight), module.layer.weight.shape[1]) for name, module in members.items()}
        share = sparsity[next(iter(members.values())).group]
        chosen = units(shapes, lambda name, axis: members[name].layer.line_sums(axis), family, share)  # noqa: B023
        for name, module in members.items():
            module.layer.keep(chosen[name])
    for module in of.values():
        module.layer.select(module.layer.weight.numel())


def _by_group(modules: Sequence[TargetModule]) -> dict[str, list[TargetModule]]:
    groups: dict[str, list[TargetModule]] = defaultdict(list)
    for module in modules:
        groups[module.group].append(module)
    return groups


def selections(modules: Sequence[TargetModule]) -> dict[str, Tensor]:
    """The selections of all modules, as tensors on the CPU; masks take a bit a weight."""
    result = {}
    for module in modules:
        chosen, name = module.layer.selection, f"selection.{module.name}"
        if chosen.mask is None:
            result[f"{name}.threshold"] = chosen.threshold.cpu()
            result[f"{name}.cut"] = torch.as_tensor(chosen.cut).cpu()
            if chosen.pattern is not None:
                result[f"{name}.pattern"] = torch.tensor(list(chosen.pattern.name.encode()), dtype=torch.uint8)
        else:
            result[f"{name}.mask"] = torch.from_numpy(np.packbits(chosen.mask.cpu().numpy()))
        result |= {f"{name}.{kind}": getattr(module.layer, kind).cpu() for kind in module.layer.from_selection}
    return result


def restore_selections(modules: Sequence[TargetModule], tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`selections` gave."""
    for module in modules:
        name, weight = f"selection.{module.name}", module.layer.weight
        if f"{name}.mask" in tensors:
            bits = np.unpackbits(tensors[f"{name}.mask"].numpy(), count=weight.numel())
            module.layer.keep(explicit(torch.from_numpy(bits).bool().view(weight.shape).to(weight.device)))
        else:
            threshold = tensors[f"{name}.threshold"].to(weight.device)
            stored = tensors.get(f"{name}.pattern")
            pattern = None if stored is None else named(bytes(stored.tolist()).decode())
            module.layer.keep(Selection(threshold, int(tensors[f"{name}.cut"]), None, pattern))
        for kind in module.layer.from_selection:
            setattr(module.layer, kind, tensors[f"{name}.{kind}"].to(weight.device))


@contextmanager
def frozen(modules: Sequence[TargetModule]) -> Iterator[None]:
    """Within, the layers serve many forward passes without gradients. Masked weights are computed once as long as they
    fit :data:`MAX_MEMORY_SHARE` of the free memory, the others in each pass."""
    room = MAX_MEMORY_SHARE * memory.free_bytes(modules[0].layer.weight.device) if modules else 0.0
    try:
        for module in modules:
            module.layer.evaluating = True
            size = module.layer.masked_bytes()
            if size <= room:
                module.layer.frozen = module.layer.masked()
                room -= size
        yield
    finally:
        for module in modules:
            module.layer.frozen, module.layer.evaluating = None, False


def mean_sparsity(modules: Sequence[TargetModule], sparsity: Mapping[str, float]) -> float:
    """Share of pruned weights over all modules at these shares by group; 0 without modules."""
    total = sum(module.layer.weight.numel() for module in modules)
    return (
        math.fsum(module.layer.weight.numel() * sparsity[module.group] for module in modules) / total if total else 0.0
    )
