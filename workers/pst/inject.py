"""Put prunable layers into a model, and take them out again. Which matrices: the table in :mod:`pst.families`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.families import TensorSpec
from pst.kernels.reference import Scales
from pst.layers import MagnitudeLinear, PrunableLinear, PSTLinear
from pst.masks import kept_count, select_global


@dataclass(frozen=True)
class Site:
    """One pruned matrix of the model: module path, group, and the layer that stands there."""

    name: str
    group: str
    layer: PrunableLinear


def _pst(linear: nn.Linear, settings: TrainSettings, generator: torch.Generator) -> PSTLinear:
    return PSTLinear(
        linear.weight,
        linear.bias,
        update_rank=settings.update_rank,
        score_rank=settings.score_rank,
        scales=Scales(settings.beta, settings.alpha1, settings.alpha2),
        init_scale=settings.init_scale,
        generator=generator,
    )


def _magnitude(linear: nn.Linear, settings: TrainSettings, generator: torch.Generator) -> MagnitudeLinear:
    return MagnitudeLinear(linear.weight, linear.bias)


LAYERS: dict[str, Callable[[nn.Linear, TrainSettings, torch.Generator], PrunableLinear]] = {
    "pst": _pst,
    "magnitude": _magnitude,
}


def inject(model: nn.Module, specs: Sequence[TensorSpec], settings: TrainSettings) -> list[Site]:
    """Replace every matrix that has a group by the method's layer, in place. The dense method replaces none."""
    if settings.method == "dense":
        return []
    build = LAYERS[settings.method]
    generator = torch.Generator().manual_seed(settings.seed)
    sites = []
    for spec in specs:
        if spec.group is None:
            continue
        name = spec.name.removesuffix(".weight")
        linear = model.get_submodule(name)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name} is a {type(linear).__name__}, not a Linear")
        layer = build(linear, settings, generator)
        _replace(model, name, layer)
        sites.append(Site(name, spec.group, layer))
    return sites


def eject(model: nn.Module, sites: Sequence[Site], weights: Mapping[str, Tensor]) -> None:
    """Put an ordinary Linear with the given weight (n, k) in the place of each site's layer, in place."""
    for site in sites:
        n, k = site.layer.weight.shape
        linear = nn.Linear(k, n, bias=site.layer.bias is not None, device="meta")
        linear.weight = nn.Parameter(weights[site.name])
        if site.layer.bias is not None:
            linear.bias = nn.Parameter(site.layer.bias.detach())
        _replace(model, site.name, linear)


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def learning_rates(model: nn.Module, specs: Sequence[TensorSpec], settings: TrainSettings) -> dict[str, float]:
    """Peak rate of every trained parameter by name; all others are frozen, in place."""
    if settings.method != "pst":
        return {name: settings.dense_learning_rate for name, _ in model.named_parameters()}
    kinds = {
        "update_u": settings.learning_rate,
        "update_v": settings.learning_rate,
        "score_a": settings.score_learning_rate,
        "score_b": settings.score_learning_rate,
        "score_r": settings.score_learning_rate,
        "score_c": settings.score_learning_rate,
    }
    head = {spec.name for spec in specs if spec.head}
    rates = {}
    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        if name in head:
            rates[name] = settings.head_learning_rate
        elif kind in kinds:
            rates[name] = kinds[kind]
        parameter.requires_grad_(name in rates)
    return rates


def select_all(sites: Sequence[Site], sparsity: Mapping[str, float], threshold: str) -> None:
    """Renew the selection of every layer, exact in count: per matrix, or pooled over each group ("global")."""
    for members in _by_group(sites).values():
        share = sparsity[members[0].group]
        if threshold == "global":
            scores = [site.layer.scores() for site in members]
            chosen = select_global(scores, kept_count(sum(s.numel() for s in scores), share))
            for site, selection in zip(members, chosen, strict=True):
                site.layer.selection = selection
        else:
            for site in members:
                site.layer.select(kept_count(site.layer.weight.numel(), share))


def _by_group(sites: Sequence[Site]) -> dict[str, list[Site]]:
    groups: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        groups[site.group].append(site)
    return groups


@contextmanager
def frozen(sites: Sequence[Site]) -> Iterator[None]:
    """Compute each masked weight once, for many forward passes without gradients."""
    for site in sites:
        site.layer.frozen = site.layer.masked()
    try:
        yield
    finally:
        for site in sites:
            site.layer.frozen = None


def mean_sparsity(sites: Sequence[Site], sparsity: Mapping[str, float]) -> float:
    """Share of pruned weights over all sites at these shares by group; 0 without sites."""
    total = sum(site.layer.weight.numel() for site in sites)
    return math.fsum(site.layer.weight.numel() * sparsity[site.group] for site in sites) / total if total else 0.0
