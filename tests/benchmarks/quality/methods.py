"""The methods of :mod:`pst.layers.methods` and :mod:`pst.layers.linear`, with a leading axis of experiments; the maths
is there.

Legend: E experiments, L matrices of a stack, (n, k) one matrix; S, M and weights (E, L, n, k).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pst.config import TrainSettings
from pst.layers.methods.l0 import BETA, GAMMA, INITIAL, OPENING, SPREAD, ZETA
from pst.plan.methods import update_rank
from tests.benchmarks.quality.model import GROUPS, MAPS, Params, repeat

SAMPLE = 2048
HALVINGS = 14  # of a bracket of a few per cent of the scores: the count is met to within a few weights

Stacks = dict[str, Tensor]


class _Masked(torch.autograd.Function):
    """D M with dD = G M, dS = G D (straight through the mask, into the scores)."""

    @staticmethod
    def forward(ctx: Any, updated: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(updated, mask)
        return updated * mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        updated, mask = ctx.saved_tensors
        return grads[0] * mask, grads[0] * updated, None


def _threshold(parts: Sequence[Tensor], share: Tensor) -> Tensor:
    """t (E, R) such that ``share`` (E) of all entries of the parts, each (E, R, .), are at least t."""
    total = sum(part.shape[-1] for part in parts)
    kept = (total - (share * total).floor()).unsqueeze(1)
    stride = max(1, total // SAMPLE) | 1
    sample = torch.cat([part[..., ::stride] for part in parts], -1).sort(-1).values
    drawn = sample.shape[-1]
    middle = share * drawn
    slack = 4 * (drawn * share * (1 - share)).sqrt() + 2

    def at(place: Tensor) -> Tensor:
        chosen = place.long().clamp(0, drawn - 1).view(-1, 1, 1).expand(-1, sample.shape[1], 1)
        return sample.gather(2, chosen).squeeze(2)

    def above(bound: Tensor) -> Tensor:
        counts = [(part >= bound.unsqueeze(-1)).sum(-1) for part in parts]
        return torch.stack(counts).sum(0)

    least = torch.stack([part.amin(-1) for part in parts]).amin(0)
    low, high = at(middle - slack), at(middle + slack)
    low = torch.where(above(low) >= kept, low, least)
    for _ in range(HALVINGS):
        half = (low + high) / 2
        enough = above(half) >= kept
        low, high = torch.where(enough, half, low), torch.where(enough, high, half)
    return torch.where(kept >= total, least, low)


@torch.no_grad()
def masks(scores: Stacks, share: Tensor, threshold: str) -> Stacks:
    """M as floats: ``share`` (E) of the weights pruned in each matrix, or pooled over each group ("global")."""
    flat = {name: s.detach().flatten(2) for name, s in scores.items()}
    bounds: Stacks = {}
    for stacks in GROUPS.values():
        if threshold == "global":
            found = _threshold([flat[name].flatten(1).unsqueeze(1) for name in stacks], share)
            bounds |= dict.fromkeys(stacks, found)
        else:
            bounds |= {name: _threshold([flat[name]], share) for name in stacks}
    return {name: (s >= bounds[name].unsqueeze(-1).unsqueeze(-1)).to(s.dtype) for name, s in scores.items()}


class LowRank:
    """PST: W frozen, U, V, A, B, R, C trained. ``scales`` is a (E, L, 1, k), 1 without an activation power."""

    def __init__(self, base: Params, settings: TrainSettings, seeds: Sequence[int], scales: Stacks) -> None:
        self.settings, self.frozen, self.scales = settings, {}, scales
        self.params: Params = {}
        count = len(seeds)
        for name in MAPS:
            weight = base[f"weight.{name}"]
            matrices, n, k = weight.shape
            self.frozen[name] = weight.unsqueeze(0) * scales[name]

            def gaussian(rank: int, salt: int, matrices: int = matrices, n: int = n) -> Tensor:
                drawn = [
                    torch.randn(matrices, n, rank, generator=torch.Generator().manual_seed(7 * seed + salt))
                    for seed in seeds
                ]
                return torch.stack(drawn).mul_(settings.init_scale).to(base["norms"].device)

            rank = update_rank(settings, n, k)
            self.params[f"u.{name}"] = gaussian(rank, 1)
            self.params[f"a.{name}"] = gaussian(settings.score_rank, 2)
            for key, shape in (
                ("v", (rank, k)),
                ("b", (settings.score_rank, k)),
                ("r", (n, 1)),
                ("c", (1, k)),
            ):
                self.params[f"{key}.{name}"] = torch.zeros(count, matrices, *shape, device=weight.device)

    def rates(self, searched: Tensor) -> dict[str, Tensor]:
        return dict.fromkeys(self.params, searched)

    def apply(self, share: Tensor, final: bool, train: bool, reused: Stacks | None = None) -> tuple[Stacks, Stacks]:
        """D * M and M; ``reused`` masks are not selected anew."""
        updated, scores = {}, {}
        for name, weight in self.frozen.items():
            p = {key: self.params[f"{key}.{name}"] for key in "uvabrc"}
            updated[name] = weight + p["u"] @ p["v"]
            scores[name] = updated[name].abs() + p["a"] @ p["b"] + p["r"] + p["c"]
        kept = reused or masks(scores, share, self.settings.threshold)
        applied = {
            name: _Masked.apply(updated[name], scores[name], kept[name]) / self.scales[name]  # type: ignore[no-untyped-call]
            for name in MAPS
        }
        return applied, kept


class Full:
    """Full fine-tuning: dense (nothing pruned), or magnitude (the smallest |W| masked)."""

    def __init__(self, base: Params, settings: TrainSettings, seeds: Sequence[int], scales: Stacks) -> None:
        self.settings = settings
        self.params: Params = {f"weight.{name}": repeat(base[f"weight.{name}"], len(seeds)) for name in MAPS}

    def rates(self, searched: Tensor) -> dict[str, Tensor]:
        return dict.fromkeys(self.params, searched)

    def weight(self, name: str) -> Tensor:
        return self.params[f"weight.{name}"]

    def apply(self, share: Tensor, final: bool, train: bool) -> tuple[Stacks, Stacks]:
        if self.settings.method == "dense":
            weights = {name: self.weight(name) for name in MAPS}
            return weights, {name: torch.ones((), device=share.device) for name in MAPS}
        kept = masks({name: self.weight(name).abs() for name in MAPS}, share, self.settings.threshold)
        return {name: self.weight(name) * kept[name] for name in MAPS}, kept


class Movement(Full):
    """Full fine-tuning and a score for each weight, trained straight through the mask."""

    def __init__(self, base: Params, settings: TrainSettings, seeds: Sequence[int], scales: Stacks) -> None:
        super().__init__(base, settings, seeds, scales)
        for name in MAPS:
            self.params[f"score.{name}"] = torch.zeros_like(self.weight(name))

    def rates(self, searched: Tensor) -> dict[str, Tensor]:
        """The rate of the weights is what is searched: under Adam the scores rank the same at any rate."""
        gates = torch.full_like(searched, self.settings.gate_learning_rate)
        return {name: gates if name.startswith("score") else searched for name in self.params}

    def apply(self, share: Tensor, final: bool, train: bool) -> tuple[Stacks, Stacks]:
        scores = {name: self.params[f"score.{name}"] for name in MAPS}
        kept = masks(scores, share, self.settings.threshold)
        applied = {name: _Masked.apply(self.weight(name), scores[name], kept[name]) for name in MAPS}  # type: ignore[no-untyped-call]
        return applied, kept


class L0(Movement):
    """Full fine-tuning and hard concrete gates, whose expected number is bound by a shift of their logits."""

    def __init__(self, base: Params, settings: TrainSettings, seeds: Sequence[int], scales: Stacks) -> None:
        super().__init__(base, settings, seeds, scales)
        for name in MAPS:
            self.params[f"score.{name}"].normal_(INITIAL, SPREAD)

    def rates(self, searched: Tensor) -> dict[str, Tensor]:
        """The rate of the gates is what is searched."""
        full = torch.full_like(searched, self.settings.dense_learning_rate)
        return {name: searched if name.startswith("score") else full for name in self.params}

    def apply(self, share: Tensor, final: bool, train: bool) -> tuple[Stacks, Stacks]:
        logits = {name: self.params[f"score.{name}"] for name in MAPS}
        kept = masks(logits, share, self.settings.threshold)
        applied: Stacks = {}
        random = train and not final
        for name in MAPS:
            shift = self._shift(logits[name].detach(), share, kept[name], fixed=not random)
            moved = logits[name] - shift
            if random:
                noise = torch.logit(torch.rand_like(moved), eps=1e-6)
                gate = (torch.sigmoid((noise + moved) / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)
            else:
                gate = (torch.sigmoid(moved) * (ZETA - GAMMA) + GAMMA).clamp(0, 1) * kept[name]
            applied[name] = self.weight(name) * gate
        return applied, kept

    @torch.no_grad()
    def _shift(self, logits: Tensor, share: Tensor, kept: Tensor, *, fixed: bool) -> Tensor:
        """b (E, L, 1, 1): see :func:`pst.layers.methods.l0.shift_for`; found here by halving."""
        flat, wanted = logits.flatten(2) + OPENING, (1 - share).unsqueeze(1)
        low = torch.zeros_like(flat[..., 0])
        high = flat.amax(-1) - torch.logit(wanted, eps=1e-6)
        for _ in range(HALVINGS + 4):
            half = (low + high) / 2
            over = torch.sigmoid(flat - half.unsqueeze(-1)).mean(-1) > wanted
            low, high = torch.where(over, half, low), torch.where(over, high, half)
        shift = high.clamp(min=0)
        if fixed:
            least = logits.masked_fill(kept == 0, math.inf).flatten(2).amin(-1)
            shift = torch.minimum(shift, least)
        return shift.unsqueeze(-1).unsqueeze(-1)


Make = Callable[[Params, TrainSettings, Sequence[int], Stacks], "LowRank | Full"]
KINDS: Mapping[str, Make] = {"dense": Full, "magnitude": Full, "movement": Movement, "l0": L0, "pst": LowRank}
