"""Trains a stack of experiments of one method on one task: the same rows, steps, schedules and losses as
:mod:`pst.training.trainer`, with the best checkpoint chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pst.config import TrainSettings
from pst.layers.linear import MAX_INPUT_SCALE
from pst.plan.methods import METHODS
from pst.sparsity.schedule import average_decay, cooldown_start, cubic_sparsity, linear_rate
from tests.benchmarks.quality.data import Split
from tests.benchmarks.quality.methods import KINDS, Full, LowRank, Stacks
from tests.benchmarks.quality.model import MAPS, Params, forward, repeat

CALIBRATION_ROWS = 128
EVALUATIONS = 10
TEST_BATCH = 128
HEAD = ("pooler.weight", "pooler.bias", "head.weight", "head.bias")


@dataclass(frozen=True)
class Experiment:
    """One run: the searched rate, the final sparsity, and the seed (1, 2, ...) of its batches and its start."""

    rate: float
    sparsity: float
    seed: int


@dataclass
class Result:
    """Accuracies at the checkpoint with the best validation score, and the sparsity of its masks."""

    validation: float
    test: float
    sparsity: float
    step: int


@dataclass(frozen=True)
class Rows:
    """A split on the device."""

    ids: Tensor
    types: Tensor
    lengths: Tensor
    labels: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> Rows:
        return cls(*(torch.from_numpy(x).to(device) for x in (split.ids, split.types, split.lengths, split.labels)))

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, types and mask (E, B, T) of row numbers (E, B), padded to a multiple of 16 tokens."""
        lengths = self.lengths[rows]
        tokens = math.ceil(int(lengths.max()) / 16) * 16
        mask = torch.arange(tokens, device=rows.device) < lengths.unsqueeze(-1)
        return self.ids[rows][..., :tokens], self.types[rows][..., :tokens], mask


class Adam:
    """AdamW without decay, with one rate for each experiment, after clipping each experiment's gradients."""

    def __init__(self, params: Params, rates: Mapping[str, Tensor], max_norm: float) -> None:
        self.params, self.rates, self.max_norm, self.step_ = params, rates, max_norm, 0
        self.first = {name: torch.zeros_like(p) for name, p in params.items()}
        self.second = {name: torch.zeros_like(p) for name, p in params.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.step_ += 1
        grads = {name: p.grad for name, p in self.params.items() if p.grad is not None}
        norms = torch.stack([grad.square().flatten(1).sum(1) for grad in grads.values()]).sum(0).sqrt()
        clip = (self.max_norm / (norms + 1e-6)).clamp(max=1)
        for name, grad in grads.items():
            p = self.params[name]
            shape = (-1,) + (1,) * (p.dim() - 1)
            grad = grad.mul_(clip.view(shape))
            first, second = self.first[name].lerp_(grad, 0.1), self.second[name]
            second.mul_(0.999).addcmul_(grad, grad, value=0.001)
            size = (second / (1 - 0.999**self.step_)).sqrt_().add_(1e-8)
            p.sub_(first / size * (self.rates[name] * (factor / (1 - 0.9**self.step_))).view(shape))
            p.grad = None


def _head(labels: int, hidden: int, count: int, device: torch.device) -> Params:
    drawn = torch.randn(labels, hidden, generator=torch.Generator().manual_seed(0)) * 0.02
    return {
        "head.weight": repeat(drawn.to(device), count),
        "head.bias": torch.zeros(count, labels, device=device),
    }


@torch.no_grad()
def input_scales(base: Params, rows: Rows, settings: TrainSettings) -> Stacks:
    """a (1, L, 1, k) of each stack, as :meth:`pst.layers.linear.PSTLinear.calibrated` finds it."""
    device = rows.ids.device
    chosen = torch.arange(len(rows.ids), device=device)[:: max(1, len(rows.ids) // CALIBRATION_ROWS)]
    ids, types, mask = rows.batch(chosen[None, :CALIBRATION_ROWS])
    params = {name: p.unsqueeze(0) for name, p in base.items() if name not in ("words", "places", "types")}
    params |= {name: base[name] for name in ("words", "places", "types")}
    params |= _head(2, base["norms"].shape[-1], 1, device)
    seen: dict[str, list[Tensor]] = {name: [] for name in MAPS}
    forward(params, {name: params[f"weight.{name}"] for name in MAPS}, ids, types, mask, train=False, seen=seen)
    result = {}
    for name, inputs in seen.items():
        size = torch.stack([x[0][mask.reshape(-1)].square().sum(0).sqrt() for x in inputs])
        size = size.pow(settings.activation_power)
        relative = (size / size.mean(-1, keepdim=True)).clamp(1 / MAX_INPUT_SCALE, MAX_INPUT_SCALE)
        result[name] = torch.exp2(relative.log2().round())[None, :, None]
    return result


class Run:
    """``teacher`` holds the dense models' params and stacks ``weight.*``, one for each seed from 1 on. ``plain``: the
    head has no rate of its own, but that of the weights."""

    def __init__(
        self,
        base: Params,
        splits: Mapping[str, Rows],
        settings: TrainSettings,
        experiments: Sequence[Experiment],
        steps: int,
        teacher: Params | None,
        *,
        plain: bool = False,
    ) -> None:
        self.settings, self.splits, self.experiments, self.total = settings, splits, experiments, steps
        rows, count = splits["train"], len(experiments)
        self.device = rows.ids.device
        seeds = [experiment.seed for experiment in experiments]
        scales = input_scales(base, rows, settings) if settings.method == "pst" else {}
        self.method: LowRank | Full = KINDS[settings.method](base, settings, seeds, scales)
        labels = int(rows.labels.max()) + 1
        others = {name: p for name, p in base.items() if not name.startswith("weight.")}
        full = METHODS[settings.method].full
        trained = {*others, *HEAD} if full else set(HEAD)
        others |= {name: repeat(p, count) if name in trained else p for name, p in others.items()}
        others |= _head(labels, base["norms"].shape[-1], count, self.device)
        for name, p in others.items():  # frozen ones are seen by every experiment
            if name not in trained and name not in ("words", "places", "types"):
                others[name] = p.unsqueeze(0).expand(count, *p.shape)
        self.others = others
        searched = torch.tensor([experiment.rate for experiment in experiments], device=self.device)
        params = self.method.params | {name: others[name] for name in trained}
        weights = torch.full_like(searched, settings.dense_learning_rate) if settings.method == "l0" else searched
        rates = self.method.rates(searched) | dict.fromkeys(trained, weights)
        if not plain:
            rates |= dict.fromkeys(HEAD, torch.full_like(searched, settings.head_learning_rate))
        for p in params.values():
            p.requires_grad_()
        self.optimizer = Adam(params, rates, settings.max_grad_norm)
        self.teacher: Params | None = None
        if settings.distill and teacher is not None:
            chosen = torch.tensor([seed - 1 for seed in seeds], device=self.device)
            self.teacher = {name: p[chosen] for name, p in teacher.items()}
            for name in HEAD:
                others[name].data.copy_(self.teacher[name])
        self.results = [Result(-1, -1, -1, -1) for _ in experiments]
        self.best = [-math.inf] * count
        self.kept: Params = {}
        self.evaluated = {math.ceil((i + 1) * steps / EVALUATIONS) for i in range(EVALUATIONS)}
        self.masks: Stacks | None = None  # of the last step, where the next one may use them again
        self.average: Params = {}  # of what is trained, at the final sparsity

    def _renews(self, step: int) -> bool:
        """As :meth:`pst.training.trainer.Trainer` does: every ``mask_every``-th step, the first at the final sparsity,
        and what follows an evaluation."""
        first = step == cooldown_start(self.total, self.settings.cooldown_fraction)
        return step % self.settings.mask_every == 0 or first or step in self.evaluated

    def _share(self, step: int) -> Tensor:
        s = self.settings
        shares = [
            cubic_sparsity(
                step,
                self.total,
                initial=min(s.initial_sparsity, experiment.sparsity),
                final=experiment.sparsity,
                warmup_fraction=s.warmup_fraction,
                cooldown_fraction=s.cooldown_fraction,
            )
            for experiment in self.experiments
        ]
        return torch.tensor(shares, device=self.device)

    def run(self, *, keep: bool = False) -> list[Result]:
        """Train; with ``keep`` the best state of each experiment is in ``kept``."""
        rows, size = self.splits["train"], self.settings.batch_size
        per_epoch = len(rows.ids) // size
        last = cooldown_start(self.total, self.settings.cooldown_fraction)
        order: list[Tensor] = []
        for step in range(self.total):
            if step % per_epoch == 0:
                order = [
                    torch.randperm(
                        len(rows.ids), generator=torch.Generator().manual_seed(e.seed * 1_000_003 + step)
                    ).to(self.device)
                    for e in self.experiments
                ]
            begin = step % per_epoch * size
            self._step(step, torch.stack([one[begin : begin + size] for one in order]), final=step >= last)
            self._average(step - last)
            if step + 1 in self.evaluated and (self.settings.method == "dense" or step >= last):
                self._swap()
                self._evaluate(step + 1, keep)
                self._swap()
        return self.results

    @torch.no_grad()
    def _average(self, done: int) -> None:
        """As :meth:`pst.training.trainer.Trainer._average`; ``done`` steps at the final sparsity came before."""
        decay = self.settings.average_decay
        if not decay or METHODS[self.settings.method].full or done < 0:
            return
        for name, p in self.optimizer.params.items():
            if done:
                self.average[name].lerp_(p, 1 - average_decay(done, decay))
            else:
                self.average[name] = p.detach().clone()

    def _swap(self) -> None:
        """The trained tensors with their average, where there is one."""
        for name, average in self.average.items():
            p = self.optimizer.params[name]
            p.data, average.data = average.data, p.data

    def _step(self, step: int, chosen: Tensor, *, final: bool) -> None:
        s, rows = self.settings, self.splits["train"]
        if isinstance(self.method, LowRank):
            reused = None if self._renews(step) else self.masks
            weights, self.masks = self.method.apply(self._share(step), final, True, reused)
        else:
            weights, _ = self.method.apply(self._share(step), final, True)
        ids, types, mask = rows.batch(chosen)
        logits, blocks = forward(self.others, weights, ids, types, mask, train=True)
        gold = rows.labels[chosen]
        loss = F.cross_entropy(logits.flatten(0, 1), gold.flatten(), reduction="none").view_as(gold).mean(1)
        if self.teacher is not None:
            with torch.no_grad():
                stacks = {name: self.teacher[f"weight.{name}"] for name in MAPS}
                wanted, hidden = forward(self.teacher, stacks, ids, types, mask, train=False)
            tau = s.distill_temperature
            soft, hard = F.log_softmax(logits / tau, -1), F.log_softmax(wanted / tau, -1)
            distance = F.kl_div(soft, hard, reduction="none", log_target=True).sum(-1).mean(1)
            loss = (1 - s.distill_weight) * loss + s.distill_weight * tau * tau * distance
            there = mask.flatten(1).float()
            for ours, theirs in zip(blocks, hidden, strict=True):
                far = (ours - theirs).square().sum(-1) / theirs.square().sum(-1)
                loss = loss + s.distill_hidden_weight / len(blocks) * (far * there).sum(1) / there.sum(1)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(linear_rate(step, self.total, warmup_ratio=s.warmup_ratio, hold_ratio=s.hold_ratio))

    @torch.no_grad()
    def _evaluate(self, step: int, keep: bool) -> None:
        share = torch.tensor([experiment.sparsity for experiment in self.experiments], device=self.device)
        weights, masks = self.method.apply(share, True, False)
        answers = {name: self._predict(weights, self.splits[name]) for name in ("validation", "test")}
        accuracy = {
            name: (logits.argmax(-1) == self.splits[name].labels).float().mean(1).tolist()
            for name, logits in answers.items()
        }
        gold = self.splits["validation"].labels.expand(len(self.experiments), -1)
        loss = F.cross_entropy(answers["validation"].flatten(0, 1), gold.flatten(), reduction="none")
        loss = loss.view_as(gold).mean(1)
        total = sum(one.numel() for one in weights.values()) / len(self.experiments)
        left = sum(one.expand_as(weights[name]).flatten(1).sum(1) for name, one in masks.items())
        for place, result in enumerate(self.results):
            score = accuracy["validation"][place] - 1e-4 * float(loss[place])
            if score > self.best[place]:
                self.best[place] = score
                result.validation, result.test = accuracy["validation"][place], accuracy["test"][place]
                result.sparsity, result.step = 1 - float(left[place]) / total, step
                if keep:
                    self._keep(place, weights)

    def _keep(self, place: int, weights: Stacks) -> None:
        state = {**self.others, **{f"weight.{name}": one for name, one in weights.items()}}
        if not self.kept:
            self.kept = {name: p.detach().clone() for name, p in state.items()}
        for name, p in state.items():
            self.kept[name][place] = p.detach()[place]

    def _predict(self, weights: Stacks, rows: Rows) -> Tensor:
        """Logits (E, rows, labels)."""
        order, count = rows.lengths.argsort(), len(self.experiments)
        outputs = []
        for begin in range(0, len(order), TEST_BATCH):
            ids, types, mask = rows.batch(order[None, begin : begin + TEST_BATCH].expand(count, -1))
            outputs.append(forward(self.others, weights, ids, types, mask, train=False)[0])
        joined = torch.cat(outputs, 1)
        result = torch.empty_like(joined)
        result[:, order] = joined
        return result
