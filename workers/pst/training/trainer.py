"""The training loop: one class for every method and task, resumable at any step, deterministic under its seed on a CPU.

What a step computes is in :mod:`pst.training.step` (and :mod:`pst.training.graphs` for small models on a GPU), what the
loss is in :mod:`pst.tasks`, how a method prunes in its layers.

At the final sparsity the trained tensors are averaged, and what is evaluated and kept is their average (an exponential
moving one, as in Tarvainen and Valpola 2017, arXiv 1703.01780): near the threshold a mask changes with every step, and
small data make every step noisy. Full fine-tuning keeps none, which would be one more copy of the model.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.errors import TrainingError
from pst.layers.inject import (
    Site,
    begin_step,
    calibrate,
    frozen,
    mean_sparsity,
    restore_selections,
    select_all,
    selections,
)
from pst.messages import Message
from pst.model.data import epoch_batches, equal_length_batches, steps_per_epoch
from pst.model.dropout import quicken
from pst.plan.methods import METHODS
from pst.sparsity.patterns import UnitFamily
from pst.sparsity.schedule import average_decay, cooldown_start, cubic_sparsity, linear_rate
from pst.tasks import Task
from pst.training.distill import Teacher
from pst.training.graphs import GraphedSteps, can_capture
from pst.training.parallel import ALONE, Peers
from pst.training.step import Stepper, autocast, total

PROGRESS_SECONDS = 0.5
CALIBRATED_AT_ONCE = 32  # rows
CHECKPOINT_SECONDS = 15.0
DENSE_CHECKPOINT_SECONDS = 60.0  # the dense model's checkpoints are large, and the phase is short
CHECKPOINT_SHARE = 0.05  # of the time that may go into writing checkpoints
WHOLE = 2**62  # more rows than any batch has: no micro-batches


class Stopped(Exception):
    """The run was asked to stop, and has."""


@dataclass(frozen=True)
class Hooks:
    """The outside world of a trainer. ``save`` is None where nothing is to be kept."""

    emit: Callable[[dict[str, Any]], None]
    should_stop: Callable[[], bool]
    save: Callable[[Trainer], None] | None


class Trainer:
    """Trains ``model``, which lies on its device, in place. ``rates`` gives each trained parameter's peak rate,
    ``sparsity`` each group's target.

    Only an evaluation at the final sparsity may become the best; for a method that doesn't prune any may.
    ``peers`` are the processes that train together; only the first needs ``hooks`` that do something.
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
        teacher: Teacher | None = None,
        units: Sequence[UnitFamily] = (),
        peers: Peers = ALONE,
    ) -> None:
        self.peers = peers
        self.model, self.sites, self.task, self.settings = model, sites, task, settings
        self.traits, self.units = METHODS[settings.method], units
        self.sparsity = {site.group: sparsity[site.group] if self.traits.prunes else 0.0 for site in sites}
        self.hooks, self.phase = hooks, phase
        self.device = next(model.parameters()).device
        if self.device.type == "cpu":
            quicken(model)
        self.per_epoch = steps_per_epoch(len(task.train), settings.batch_size)
        self.total = max(1, math.ceil(epochs * self.per_epoch))
        self.step = 0
        self.best: dict[str, Tensor] = {}
        self.average: list[Tensor] = []  # of the trained tensors, at the final sparsity
        self.best_score: tuple[float, float] | None = None
        self.best_step = 0
        self.worse = 0  # evaluations at the final sparsity since the best
        self.ended = False
        self.metric: float | None = None
        self.trained = {name: p for name, p in model.named_parameters() if name in rates}
        self.optimizer = self._optimizer(rates)
        self.steady = not self.traits.prunes or self.traits.one_shot  # the masks are those of the first step
        self.stepper = Stepper(
            model, self.trained, self.optimizer, task, settings, teacher or Teacher(), self._log, peers
        )
        self.graphs: GraphedSteps | None = None
        # Layers that are told of the last phase, because they compute otherwise in it.
        self._told = any(site.layer.differs_at_the_end for site in sites)
        count = settings.evaluations if sites else min(settings.evaluations, math.ceil(epochs))
        self.evaluations = {math.ceil((i + 1) * self.total / count) for i in range(count)}
        self._ready = False  # preflight done, or taken from a checkpoint
        self._lengths = [total(task.length(row)) for row in task.train]
        self._batches: tuple[int, list[list[int]]] = (-1, [])
        self._checkpointed, self._checkpoint_cost, self._kept_step = time.monotonic(), 0.0, 0
        self._reported = -math.inf
        self._loss = torch.zeros((), device=self.device)
        self._failed = torch.full((), -1, device=self.device)  # the first step whose loss was no number
        if self.traits.calibration_rows and sites:
            with autocast(self.device, settings, training=False):
                calibrate(model, sites, self._calibration_batches(self.traits.calibration_rows))

    def _calibration_batches(self, count: int) -> Iterator[dict[str, Tensor]]:
        """Inputs of at most ``count`` training rows, without padding; how far it is is told after each batch."""
        rows = self.task.train[:: max(1, len(self.task.train) // count)][:count]  # rows may be sorted by label
        done = 0
        for batch in equal_length_batches([self.task.length(row) for row in rows], CALIBRATED_AT_ONCE):
            inputs, _ = self.task.collate([rows[place] for place in batch])
            yield {name: tensor.to(self.device) for name, tensor in inputs.items()}
            done += len(batch)
            now = time.monotonic()
            if now - self._reported > PROGRESS_SECONDS:
                self._reported = now
                self._tell_progress(done, len(rows), part="calibration")

    def _optimizer(self, rates: Mapping[str, float]) -> torch.optim.Optimizer:
        by_rate: dict[float, list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self.trained.items():
            by_rate[rates[name]].append(parameter)
        cuda = self.device.type == "cuda"
        groups = [
            {
                "params": group,
                "lr": torch.tensor(rate, dtype=torch.float32, device=self.device) if cuda else rate,
                "peak": rate,
            }
            for rate, group in by_rate.items()
        ]
        return torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay, fused=True, capturable=cuda)

    def run(self) -> None:
        """Train from ``self.step`` to the end. Raises :class:`Stopped` or :class:`pst.errors.TrainingError`."""
        self.model.train()
        if not self._ready:
            self.stepper.preflight()
            self._ready = True
        if not self.ended:
            self._capture()
        begin, first, self._reported = time.monotonic(), self.step, -math.inf
        while self.step < self.total and not self.ended:
            if self._shall_stop():
                self.checkpoint()
                self.peers.wait()  # an ended process would end the first, which still writes
                raise Stopped
            self._optimise()
            self.step += 1
            self._average()
            evaluated = self.step in self.evaluations
            if evaluated:
                self._evaluate()
            self._progress(begin, first)
            if self.step < self.total and self._checkpoint_is_due(evaluated):
                self.checkpoint()
        self._check_losses()
        self.graphs = None

    def _shall_stop(self) -> bool:
        """Whether any process is asked to. Where memory ran out in one, all go on as that one does: a checkpoint says
        it for all."""
        asked = self.hooks.should_stop()
        if self.peers.size == 1:
            return asked
        micro_batch = self.stepper.micro_batch or WHOLE
        stop, again, least = self.peers.most(int(asked), int(self.stepper.checkpointing), -micro_batch)
        self.stepper.restore(0 if -least == WHOLE else -least, bool(again))
        return bool(stop)

    def sparsities(self, step: int) -> dict[str, float]:
        """Scheduled sparsity of each group at ``step``."""
        if self.traits.one_shot:
            return self.sparsity
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

    def _first_final(self) -> int:
        """The first step that runs at the final sparsity."""
        if not self.sites or self.steady:
            return 0
        return cooldown_start(self.total, self.settings.cooldown_fraction)

    def is_final(self, step: int) -> bool:
        """Whether ``step`` runs at the final sparsity."""
        return step >= self._first_final()

    def _renews(self, step: int) -> bool:
        """Whether ``step`` selects anew: every ``mask_every``-th does, and the first at the final sparsity."""
        return step % self.settings.mask_every == 0 or (self.is_final(step) and not self.is_final(step - 1))

    def rate(self, step: int) -> float:
        """Factor on the peak learning rates."""
        s = self.settings
        return linear_rate(step, self.total, warmup_ratio=s.warmup_ratio, hold_ratio=s.hold_ratio)

    def batch_rows(self, step: int) -> list[int]:
        """Row numbers of the batch of ``step``."""
        epoch, place = divmod(step, self.per_epoch)
        if self._batches[0] != epoch:
            batches = epoch_batches(self._lengths, self.settings.batch_size, self.settings.seed, epoch)
            self._batches = epoch, batches
        return self._batches[1][place]

    def _capture(self) -> None:
        """Let graphs do the steps where the model is small, on a GPU, and its selections can be found there, in every
        step. Several processes must speak within a step, which no graph does here."""
        if not can_capture(self.model, self.device) or self.peers.size > 1 or self.settings.mask_every > 1:
            return
        split = 0 < self.stepper.micro_batch < self.settings.batch_size
        if split or self.stepper.checkpointing or self.settings.structure != "unstructured":
            return
        for parameter in self.trained.values():
            if not self.optimizer.state[parameter]:
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=self.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        if self.steady:
            self._select(self.sparsity)
        sites = [] if self.steady else self.sites
        try:
            self.graphs = GraphedSteps(self.stepper, sites, self.total, self.sparsities, self.rate)
        except RuntimeError as error:
            self._not_captured(error)

    def _not_captured(self, error: RuntimeError) -> None:
        """Whatever can't be captured can still be run: the reason is told, nothing is lost but time."""
        self._log("warning", f"The step is not run as a CUDA graph: {str(error).splitlines()[0]}")
        self.graphs = None

    @torch.no_grad()
    def _average(self) -> None:
        """Take the step's trained tensors into their average, once sparsity has reached its target."""
        decay, done = self.settings.average_decay, self.step - self._first_final() - 1
        if not decay or self.traits.full or done < 0:
            return
        present = [parameter.detach() for parameter in self.trained.values()]
        if self.average:
            torch._foreach_lerp_(self.average, present, 1 - average_decay(done, decay))
        else:
            self.average = [tensor.clone() for tensor in present]

    def _swap(self) -> None:
        """The trained tensors with their average, where there is one."""
        if self.average:
            for parameter, tensor in zip(self.trained.values(), self.average, strict=True):
                parameter.data, tensor.data = tensor.data, parameter.data

    def _select(self, sparsity: Mapping[str, float], *, later: bool = False) -> None:
        s = self.settings
        select_all(self.sites, sparsity, s.threshold, s.structure, self.units, later=later)

    def _optimise(self) -> None:
        """One optimiser step."""
        rows = self.batch_rows(self.step)
        self.peers.draw(self.settings.seed, self.step)
        if self.graphs is not None:
            final = self.is_final(self.step)
            try:
                begin_step(self.sites, final)
                loss = self.graphs.step(self.step, rows, final and self._told)
            except RuntimeError as error:
                self._not_captured(error)
            else:
                self._note(loss)
                return
        self.stepper.step(rows, self._begin, self._note)

    def _begin(self) -> None:
        if self._renews(self.step):
            self._select(self.sparsities(self.step), later=True)
        begin_step(self.sites, self.is_final(self.step))
        factor = self.rate(self.step)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(group["peak"] * factor)
            else:
                group["lr"] = group["peak"] * factor

    def _note(self, loss: Tensor) -> None:
        """Keep a step's loss; one that is no number is remembered on a GPU, which is not waited for, and raised at once
        on a CPU."""
        self._loss = loss
        new = ~torch.isfinite(loss) & (self._failed < 0)
        self._failed = torch.where(new, self.step, self._failed)
        if self.device.type == "cpu":
            self._check_losses()

    def _check_losses(self) -> None:
        """Raise :class:`TrainingError` if a loss was no number; the best state so far is kept in a checkpoint."""
        failed = int(self._failed)
        if failed < 0:
            return
        if self.best_step > self._kept_step and self.hooks.save is not None:
            self._go_back()
            self.hooks.save(self)
        raise TrainingError(
            Message(
                "The loss became {loss} at step {step} of {total} ({phase}); lower the "
                "learning rates or raise warmup_ratio.",
                loss=float(self._loss),
                step=failed + 1,
                total=self.total,
                phase=self.phase,
            )
        )

    @torch.no_grad()
    def _go_back(self) -> None:
        """To the best state, with a new optimiser."""
        for name, tensor in self.best.items():
            self.trained[name].copy_(tensor)
        self.optimizer.state.clear()
        self.average.clear()
        self.step = self.best_step

    def _evaluate(self) -> None:
        """Score the validation split with the average, or before there is one with the present weights."""
        self._check_losses()
        self._swap()
        try:
            self._score()
        finally:
            self._swap()
        if self.average and self.settings.mask_every > 1:
            self._select(self.sparsities(self.step - 1))  # steps that select nothing go on with masks of their own

    def _score(self) -> None:
        """Score the validation split with the trained tensors at the present sparsity; remember the best."""
        sparsity = self.sparsities(self.step - 1)
        self._select(sparsity)
        self.peers.check_equal(self.trained, lambda: [site.layer.selection for site in self.sites])
        found = None
        if self.peers.first:
            with torch.no_grad(), frozen(self.sites), autocast(self.device, self.settings, training=False):
                found = self.task.score(self.model)  # type: ignore[arg-type]
        score = self.peers.told(found)
        self.metric = score[0]
        self.hooks.emit(
            {
                "type": "metric",
                "phase": self.phase,
                "step": self.step,
                "name": self.task.metric,
                "split": "validation",
                "value": self.metric,
                "sparsity": mean_sparsity(self.sites, sparsity),
            }
        )
        if not self.is_final(self.step - 1):
            return
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step, self.worse = score, self.step, 0
            self.best = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
            return
        self.worse += 1
        if self.worse == self.settings.early_stop:
            self.ended = True
            self._log("info", f"Stopped early at step {self.step}: step {self.best_step} was the best.")

    def _progress(self, begin: float, first: int) -> None:
        if not self.peers.first:  # what follows goes by the clock
            return
        now, done = time.monotonic(), self.step == self.total or self.ended
        if now - self._reported < PROGRESS_SECONDS and not done:
            return
        self._reported = now
        self._check_losses()
        pace = (now - begin) / (self.step - first)
        # The rate of most of what is trained: the head has one of its own.
        peak = max(self.optimizer.param_groups, key=lambda group: sum(map(torch.numel, group["params"])))["peak"]
        self._tell_progress(
            self.step,
            self.total,
            loss=float(self._loss),
            sparsity=mean_sparsity(self.sites, self.sparsities(self.step - 1)),
            learning_rate=peak * self.rate(self.step - 1),
            metric=self.metric,
            eta_seconds=0.0 if done else pace * (self.total - self.step),
        )

    def _tell_progress(self, step: int, total: int, **more: Any) -> None:
        self.hooks.emit({"type": "progress", "phase": self.phase, "step": step, "total_steps": total, **more})

    def _log(self, level: str, message: str) -> None:
        self.hooks.emit({"type": "log", "level": level, "message": message})

    def _checkpoint_is_due(self, evaluated: bool) -> bool:
        waited = time.monotonic() - self._checkpointed
        pause = self._checkpoint_cost / CHECKPOINT_SHARE
        if self.phase == "dense":
            return waited > max(pause, DENSE_CHECKPOINT_SECONDS)
        return waited > (pause if evaluated else max(pause, CHECKPOINT_SECONDS))

    def checkpoint(self) -> None:
        """Hand the state to ``hooks.save``, and note what it cost."""
        if self.hooks.save is None:
            return
        self._check_losses()
        begin = time.monotonic()
        self.hooks.save(self)
        self._checkpointed, self._kept_step = time.monotonic(), self.step
        self._checkpoint_cost = self._checkpointed - begin

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the best trained tensors back and select at the final sparsity."""
        if self.best_score is None:
            raise RuntimeError("no evaluation at the final sparsity has been made")
        for name, tensor in self.best.items():
            self.trained[name].copy_(tensor)
        self._select(self.sparsity)

    def release(self) -> None:
        """Let go of what only training needs, once it has ended and its best state is in place."""
        self.optimizer.state.clear()
        self.average.clear()
        self.best.clear()
        self.stepper.teacher = Teacher()

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed trainer needs, as tensors on the CPU."""
        result = {"rng": torch.get_rng_state()}
        if self.device.type == "cuda":
            result["rng_cuda"] = torch.cuda.get_rng_state(self.device)
        for name, tensor in zip(self.trained, self.average, strict=False):  # there may be none
            result[f"average.{name}"] = tensor.cpu()
        for name, parameter in self.trained.items():
            result[f"trained.{name}"] = parameter.detach().cpu()
            moments = self.optimizer.state.get(parameter)
            if moments:
                result[f"exp_avg.{name}"] = moments["exp_avg"].cpu()
                result[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"].cpu()
        if self.settings.mask_every > 1:
            result |= selections(self.sites)
        return result | {f"best.{name}": tensor.cpu() for name, tensor in self.best.items()}

    def state(self) -> dict[str, Any]:
        """The JSON part of the state."""
        return {
            "step": self.step,
            "metric": self.metric,
            "best_score": None if self.best_score is None else list(self.best_score),
            "best_step": self.best_step,
            "worse": self.worse,
            "ended": self.ended,
            "micro_batch": self.stepper.micro_batch,
            "checkpointing": self.stepper.checkpointing,
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`tensors` and :meth:`state` gave."""
        self.step, self.metric, self.best_step = state["step"], state["metric"], state["best_step"]
        self.worse, self.ended = state["worse"], state["ended"]
        self.best_score = None if state["best_score"] is None else (state["best_score"][0], state["best_score"][1])
        self.stepper.restore(state["micro_batch"], state["checkpointing"])
        self._ready, self._kept_step = True, self.step
        for name, parameter in self.trained.items():
            parameter.copy_(tensors[f"trained.{name}"])
            if f"exp_avg.{name}" in tensors:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.step), device=self.device),
                    "exp_avg": tensors[f"exp_avg.{name}"].to(self.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(self.device),
                }
            if self.best_score is not None:
                self.best[name] = tensors[f"best.{name}"].to(self.device)
        kept = [tensors.get(f"average.{name}") for name in self.trained]
        self.average = [tensor.to(self.device) for tensor in kept if tensor is not None]
        if self.settings.mask_every > 1:
            restore_selections(self.sites, tensors)
        torch.set_rng_state(tensors["rng"])
        if "rng_cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["rng_cuda"], self.device)
