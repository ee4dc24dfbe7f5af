"""The training loop: one class for every method, deterministic under its seed, resumable at any step.

Loss with a teacher (Hinton et al. 2015, arXiv 1503.02531), w = distill_weight, tau = distill_temperature:

    L = (1 - w) CE(z, y) + w tau^2 KL(softmax(t / tau) || softmax(z / tau))

Legend: z student logits, t teacher logits, both (rows, labels); y gold label indices (rows).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.data import Encoded, collate, epoch_batches, steps_per_epoch
from pst.errors import TrainingError
from pst.evaluate import accuracy, gold_of, predict
from pst.inject import Site, frozen, mean_sparsity, select_all
from pst.schedule import cooldown_start, cubic_sparsity, linear_rate

PROGRESS_SECONDS = 0.5
CHECKPOINT_SECONDS = 15.0
CHECKPOINT_SHARE = 0.05  # of the time that may go into writing checkpoints


class Stopped(Exception):
    """The run was asked to stop, and has."""


@dataclass(frozen=True)
class Hooks:
    """The outside world of a trainer. ``save`` is None where a phase is simply run again after a stop."""

    emit: Callable[[dict[str, Any]], None]
    should_stop: Callable[[], bool]
    save: Callable[[Trainer], None] | None


@dataclass(frozen=True)
class Task:
    """What is learned: tokenised rows, and how to weigh and pad them."""

    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    labels: int
    pad_id: int
    device: torch.device
    teacher: Tensor | None = None  # logits (train rows, labels) on the CPU


def loss_of(
    logits: Tensor, gold: Tensor, teacher: Tensor | None, weights: Tensor | None, settings: TrainSettings
) -> Tensor:
    """L as a 0-dim tensor; ``weights`` (labels) weighs the classes."""
    loss = F.cross_entropy(logits.float(), gold, weight=weights)
    if teacher is None:
        return loss
    tau, share = settings.distill_temperature, settings.distill_weight
    student = F.log_softmax(logits.float() / tau, dim=-1)
    distance = F.kl_div(student, F.log_softmax(teacher / tau, dim=-1), reduction="batchmean", log_target=True)
    return (1 - share) * loss + share * tau * tau * distance


def class_weights(rows: Sequence[Encoded], labels: int) -> Tensor:
    """Inverse frequencies (labels) with mean 1 over the rows; a label without rows gets 0."""
    counts = torch.bincount(gold_of(rows), minlength=labels).double()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(rows) / (present * counts.clamp(min=1)), 0.0).float()


class Trainer:
    """Trains ``model`` in place. ``rates`` gives each trained parameter's peak rate, ``sparsity`` each group's target.

    Without sites every evaluation may become the best; with sites only those at the final sparsity.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        rates: Mapping[str, float],
        task: Task,
        settings: TrainSettings,
        sparsity: Mapping[str, float],
        hooks: Hooks,
        *,
        phase: str,
        epochs: float,
    ) -> None:
        self.model, self.sites, self.task, self.settings = model, sites, task, settings
        self.sparsity, self.hooks, self.phase = dict(sparsity), hooks, phase
        self.per_epoch = steps_per_epoch(len(task.train), settings.batch_size)
        self.total = max(1, math.ceil(epochs * self.per_epoch))
        self.step = 0
        self.best: dict[str, Tensor] = {}
        self.best_score: tuple[float, float] | None = None  # accuracy, minus the loss on validation
        self.best_step = 0
        self.metric: float | None = None
        self.trained = {name: p for name, p in model.named_parameters() if name in rates}
        self.weights = class_weights(task.train, task.labels).to(task.device) if settings.class_weights else None
        by_rate: dict[float, list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self.trained.items():
            by_rate[rates[name]].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "lr": rate, "peak": rate} for rate, group in by_rate.items()],
            weight_decay=settings.weight_decay,
        )
        count = settings.evaluations if sites else min(settings.evaluations, math.ceil(epochs))
        self.evaluations = {math.ceil((i + 1) * self.total / count) for i in range(count)}
        self._batches: tuple[int, list[list[int]]] = (-1, [])
        self._checkpointed, self._checkpoint_cost = time.monotonic(), 0.0
        self._reported = -math.inf

    def run(self) -> None:
        """Train from ``self.step`` to the end. Raises :class:`Stopped` or :class:`pst.errors.TrainingError`."""
        self.model.train()
        begin, first = time.monotonic(), self.step
        while self.step < self.total:
            if self.hooks.should_stop():
                self.checkpoint()
                raise Stopped
            loss = self._optimise()
            self.step += 1
            evaluated = self.step in self.evaluations
            if evaluated:
                self._evaluate()
            self._progress(loss, begin, first)
            waited = time.monotonic() - self._checkpointed
            pause = self._checkpoint_cost / CHECKPOINT_SHARE
            if self.step < self.total and waited > (pause if evaluated else max(pause, CHECKPOINT_SECONDS)):
                self.checkpoint()

    def sparsities(self, step: int) -> dict[str, float]:
        """Scheduled sparsity of each group at ``step``."""
        s = self.settings
        return {
            group: cubic_sparsity(
                step,
                self.total,
                initial=min(s.initial_sparsity, final),
                final=final,
                warmup_fraction=s.warmup_fraction,
                cooldown_fraction=s.cooldown_fraction,
            )
            for group, final in self.sparsity.items()
        }

    def batch_rows(self, step: int) -> list[int]:
        """Row numbers of the batch of ``step``."""
        epoch, place = divmod(step, self.per_epoch)
        if self._batches[0] != epoch:
            lengths = [len(row.input_ids) for row in self.task.train]
            self._batches = epoch, epoch_batches(lengths, self.settings.batch_size, self.settings.seed, epoch)
        return self._batches[1][place]

    def _optimise(self) -> float:
        """One optimiser step; returns the loss."""
        task, settings = self.task, self.settings
        select_all(self.sites, self.sparsities(self.step), settings.threshold)
        factor = linear_rate(self.step, self.total, warmup_ratio=settings.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        rows = self.batch_rows(self.step)
        inputs, gold = collate([task.train[row] for row in rows], task.pad_id, task.device)
        teacher = None if task.teacher is None else task.teacher[rows].to(task.device)
        loss = loss_of(self.model(**inputs).logits, gold, teacher, self.weights, settings)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss became {value} at step {self.step + 1} of {self.total} ({self.phase}); "
                "lower the learning rates or raise warmup_ratio."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.trained.values()), settings.max_grad_norm)
        self.optimizer.step()
        return value

    def _evaluate(self) -> None:
        """Score the validation split with the present weights at the present sparsity; remember the best."""
        sparsity = self.sparsities(self.step - 1)
        select_all(self.sites, sparsity, self.settings.threshold)
        with frozen(self.sites) if self.sites else nullcontext():
            logits = predict(self.model, self.task.validation, self.task.pad_id, self.task.device)
        gold = gold_of(self.task.validation)
        self.metric = accuracy(logits.argmax(-1), gold)
        self.hooks.emit(
            {
                "type": "metric",
                "phase": self.phase,
                "step": self.step,
                "name": "accuracy",
                "split": "validation",
                "value": self.metric,
                "sparsity": mean_sparsity(self.sites, sparsity),
            }
        )
        score = self.metric, -float(F.cross_entropy(logits, gold))
        final = not self.sites or self.step > cooldown_start(self.total, self.settings.cooldown_fraction)
        if final and (self.best_score is None or score > self.best_score):
            self.best_score, self.best_step = score, self.step
            self.best = {name: parameter.detach().clone() for name, parameter in self.trained.items()}

    def _progress(self, loss: float, begin: float, first: int) -> None:
        now = time.monotonic()
        if now - self._reported < PROGRESS_SECONDS and self.step < self.total:
            return
        self._reported = now
        pace = (now - begin) / (self.step - first)
        self.hooks.emit(
            {
                "type": "progress",
                "phase": self.phase,
                "step": self.step,
                "total_steps": self.total,
                "loss": loss,
                "sparsity": mean_sparsity(self.sites, self.sparsities(self.step - 1)),
                "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
                "metric": self.metric,
                "eta_seconds": pace * (self.total - self.step),
            }
        )

    def checkpoint(self) -> None:
        """Hand the state to ``hooks.save``, and note what it cost."""
        if self.hooks.save is None:
            return
        begin = time.monotonic()
        self.hooks.save(self)
        self._checkpointed = time.monotonic()
        self._checkpoint_cost = self._checkpointed - begin

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the best trained tensors back and select at the final sparsity."""
        if self.best_score is None:
            raise RuntimeError("no evaluation at the final sparsity has been made")
        for name, tensor in self.best.items():
            self.trained[name].copy_(tensor)
        select_all(self.sites, self.sparsity, self.settings.threshold)

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed trainer needs, as tensors on the CPU."""
        result = {"rng": torch.get_rng_state()}
        if self.task.device.type == "cuda":
            result["rng_cuda"] = torch.cuda.get_rng_state(self.task.device)
        for name, parameter in self.trained.items():
            result[f"trained.{name}"] = parameter.detach().cpu()
            moments = self.optimizer.state.get(parameter)
            if moments:
                result[f"exp_avg.{name}"] = moments["exp_avg"].cpu()
                result[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"].cpu()
        return result | {f"best.{name}": tensor.cpu() for name, tensor in self.best.items()}

    def state(self) -> dict[str, Any]:
        """The JSON part of the state."""
        score = None if self.best_score is None else list(self.best_score)
        return {"step": self.step, "metric": self.metric, "best_score": score, "best_step": self.best_step}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`tensors` and :meth:`state` gave."""
        self.step, self.metric, self.best_step = state["step"], state["metric"], state["best_step"]
        self.best_score = None if state["best_score"] is None else (state["best_score"][0], state["best_score"][1])
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[f"trained.{name}"])
            if f"exp_avg.{name}" in tensors:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(parameter.device),
                }
            if self.best_score is not None:
                self.best[name] = tensors[f"best.{name}"].to(parameter.device)
        torch.set_rng_state(tensors["rng"])
        if "rng_cuda" in tensors and self.task.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng_cuda"], self.task.device)
