"""The training loop: one class for every method and task, resumable at any step, deterministic under its seed on a CPU.

What a step computes is in :mod:`pst.training.step` (and :mod:`pst.training.graphs` for small models on a GPU), what is
due at which step in :mod:`pst.training.course`, what the loss is in :mod:`pst.tasks`, how a method prunes in its
layers, what is kept of the weights in :mod:`pst.training.keeping`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.layers.inject import TargetModule, begin_step, calibrate, frozen, mean_sparsity, select_all
from pst.model.data import equal_length_batches
from pst.model.dropout import replace_dropout
from pst.plan.methods import METHODS
from pst.sparsity.patterns import UnitFamily
from pst.tasks import Task
from pst.training.course import Course
from pst.training.distill import Teacher
from pst.training.graphs import GraphedSteps, can_capture
from pst.training.keeping import Average, Best
from pst.training.parallel import ALONE, Peers
from pst.training.state import load, state_of, tensors_of
from pst.training.step import TrainStep, autocast, total
from pst.training.watching import CheckpointClock, Losses, Progress

CALIBRATED_AT_ONCE = 32  # rows


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
        modules: Sequence[TargetModule],
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
        self.model, self.modules, self.task, self.settings = model, modules, task, settings
        self.hooks, self.phase, self.units, self.peers = hooks, phase, units, peers
        method = METHODS[settings.method]
        self.device = next(model.parameters()).device
        if self.device.type == "cpu":
            replace_dropout(model)
        final = {module.group: sparsity[module.group] if method.prunes else 0.0 for module in modules}
        self.course = Course(settings, [total(task.length(row)) for row in task.train], epochs, final)
        self.step, self.ended = 0, False
        self.metric: float | None = None
        self.trained = {name: p for name, p in model.named_parameters() if name in rates}
        self.optimizer = adamw(self.trained, rates, settings.weight_decay, self.device)
        self.average, self.best = Average(0.0 if method.full else settings.average_decay), Best()
        self.losses, self.clock = Losses(self.device), CheckpointClock(phase)
        self.progress = Progress(lambda event: self.hooks.emit(event), phase)
        self.train_step = TrainStep(
            model, self.trained, self.optimizer, task, settings, teacher or Teacher(), self.progress.log, peers
        )
        self.graphs: GraphedSteps | None = None
        self.ready = False  # preflight done, or taken from a checkpoint
        if method.calibration_rows and modules:
            with autocast(self.device, settings, training=False):
                calibrate(
                    model, modules, calibration_batches(task, method.calibration_rows, self.device, self.progress)
                )

    def run(self) -> None:
        """Train from ``self.step`` to the end. Raises :class:`Stopped` or :class:`pst.errors.TrainingError`."""
        self.model.train()
        if not self.ready:
            self.train_step.preflight()
            self.ready = True
        if not self.ended:
            self.capture()
        begin, first = time.monotonic(), self.step
        self.progress.begin()
        while self.step < self.course.total and not self.ended:
            if self.train_step.agrees(self.hooks.should_stop()):
                self.checkpoint()
                self.peers.barrier()  # an ended process would end the first, which still writes
                raise Stopped
            self.optimise()
            self.step += 1
            self.average.add(self.trained, self.step - self.course.first_final - 1)
            evaluated = self.step in self.course.evaluations
            if evaluated:
                self.evaluate()
            self._tell(begin, first)
            if self.step < self.course.total and self.clock.due(evaluated):
                self.checkpoint()
        self._check_losses()
        self.graphs = None

    def capture(self) -> None:
        """Let graphs do the steps where the model is small, on a GPU, and its selections can be found there, in every
        step. Several processes must speak within a step, which no graph does here."""
        free = self.settings.structure == "unstructured" and self.settings.mask_every == 1
        if not free or self.peers.size > 1 or self.train_step.splits or not can_capture(self.model, self.device):
            return
        begin_moments(self.optimizer, self.trained.values())
        if self.course.steady:
            self.select(self.course.final)
        modules = [] if self.course.steady else self.modules
        try:
            self.graphs = GraphedSteps(
                self.train_step, modules, self.course.total, self.course.sparsities, self.course.rate
            )
        except RuntimeError as error:
            self._not_captured(error)

    def _not_captured(self, error: RuntimeError) -> None:
        """Whatever can't be captured can still be run: the reason is told, nothing is lost but time."""
        self.progress.log("warning", f"The step is not run as a CUDA graph: {str(error).splitlines()[0]}")
        self.graphs = None

    def select(self, sparsity: Mapping[str, float], *, later: bool = False) -> None:
        s = self.settings
        select_all(self.modules, sparsity, s.threshold, s.structure, self.units, later=later)

    def optimise(self) -> None:
        """One optimiser step."""
        rows, final = self.course.rows(self.step), self.course.is_final(self.step)
        self.peers.seed(self.settings.seed, self.step)
        if self.graphs is not None:
            # A graph serves layers that compute otherwise in the last phase in that phase alone.
            told = final and any(module.layer.differs_at_the_end for module in self.modules)
            try:
                begin_step(self.modules, final)
                loss = self.graphs.step(self.step, rows, told)
            except RuntimeError as error:
                self._not_captured(error)
            else:
                self._note(loss)
                return
        self.train_step.step(rows, self.begin, self._note)

    def begin(self) -> None:
        """What comes before the forward pass: which weights stay, and the learning rates."""
        if self.course.renews(self.step):
            self.select(self.course.sparsities(self.step), later=True)
        begin_step(self.modules, self.course.is_final(self.step))
        set_rates(self.optimizer, self.course.rate(self.step))

    def _note(self, loss: Tensor) -> None:
        self.losses.note(loss, self.step)
        if self.device.type == "cpu":
            self._check_losses()

    def _check_losses(self) -> None:
        """Raise :class:`TrainingError` if a loss was no number; the best state so far is kept in a checkpoint."""
        if self.losses.failed() is None:
            return
        if self.best.step > self.clock.step and self.hooks.save is not None:
            self.best.put_back(self.trained)
            self.optimizer.state.clear()
            self.average.values.clear()
            self.step = self.best.step
            self.hooks.save(self)
        raise self.losses.error(self.course.total, self.phase)

    def evaluate(self) -> None:
        """Score the validation split with the average, or before there is one with the present weights."""
        self._check_losses()
        with self.average.in_place(self.trained):
            self._score()
        if self.average.values and self.settings.mask_every > 1:
            # Steps that select nothing go on with masks of their own.
            self.select(self.course.sparsities(self.step - 1))

    def _score(self) -> None:
        """Score the validation split with the trained tensors at the present sparsity; remember the best."""
        sparsity = self.course.sparsities(self.step - 1)
        self.select(sparsity)
        self.peers.check_equal(self.trained, lambda: [module.layer.selection for module in self.modules])
        found = None
        if self.peers.is_main:
            with torch.no_grad(), frozen(self.modules), autocast(self.device, self.settings, training=False):
                found = self.task.score(self.model)  # type: ignore[arg-type]
        score = self.peers.broadcast(found)
        self.metric = score[0]
        reached = mean_sparsity(self.modules, sparsity)
        self.progress.metric(step=self.step, name=self.task.metric, value=self.metric, sparsity=reached)
        if not self.course.is_final(self.step - 1):
            return
        self.best.offer(score, self.step, self.trained)
        if self.best.worse and self.best.worse == self.settings.early_stop:
            self.ended = True
            self.progress.log("info", f"Stopped early at step {self.step}: step {self.best.step} was the best.")

    def _tell(self, begin: float, first: int) -> None:
        if not self.peers.is_main:  # what follows goes by the clock
            return
        done = self.step == self.course.total or self.ended
        if not self.progress.due() and not done:
            return
        self._check_losses()
        pace = (time.monotonic() - begin) / (self.step - first)
        self.progress.tell(
            self.step,
            self.course.total,
            loss=float(self.losses.last),
            sparsity=mean_sparsity(self.modules, self.course.sparsities(self.step - 1)),
            learning_rate=usual_peak(self.optimizer) * self.course.rate(self.step - 1),
            metric=self.metric,
            eta_seconds=0.0 if done else pace * (self.course.total - self.step),
        )

    def checkpoint(self) -> None:
        """Hand the state to ``hooks.save``."""
        save = self.hooks.save
        if save is not None:
            self._check_losses()
            self.clock.write(lambda: save(self), self.step)

    def load_best(self) -> None:
        """Put the best trained tensors back and select at the final sparsity."""
        if self.best.score is None:
            raise RuntimeError("no evaluation at the final sparsity has been made")
        self.best.put_back(self.trained)
        self.select(self.course.final)

    def release(self) -> None:
        """Let go of what only training needs, once it has ended and its best state is in place."""
        self.optimizer.state.clear()
        self.average.values.clear()
        self.best.tensors.clear()
        self.train_step.teacher = Teacher()

    tensors = tensors_of
    state = state_of
    load = load


def calibration_batches(
    task: Task, count: int, device: torch.device, progress: Progress
) -> Iterator[dict[str, Tensor]]:
    """Inputs of at most ``count`` training rows, without padding; how far it is is told after each batch."""
    rows = task.train[:: max(1, len(task.train) // count)][:count]  # rows may be sorted by label
    done = 0
    for batch in equal_length_batches([task.length(row) for row in rows], CALIBRATED_AT_ONCE):
        inputs, _ = task.collate([rows[place] for place in batch])
        yield {name: tensor.to(device) for name, tensor in inputs.items()}
        done += len(batch)
        if progress.due():
            progress.tell(done, len(rows), part="calibration")


def adamw(
    trained: Mapping[str, nn.Parameter], rates: Mapping[str, float], weight_decay: float, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW with a group for each peak rate, which its "peak" keeps."""
    by_rate: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trained.items():
        by_rate[rates[name]].append(parameter)
    cuda = device.type == "cuda"
    groups = [
        {
            "params": group,
            "lr": torch.tensor(rate, dtype=torch.float32, device=device) if cuda else rate,
            "peak": rate,
        }
        for rate, group in by_rate.items()
    ]
    return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True, capturable=cuda)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Let each group learn at its peak rate times ``factor``."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["peak"] * factor)
        else:
            group["lr"] = group["peak"] * factor


def usual_peak(optimizer: torch.optim.Optimizer) -> float:
    """The peak rate of most of what is trained: the head has one of its own."""
    return float(max(optimizer.param_groups, key=lambda group: sum(map(torch.numel, group["params"])))["peak"])


def begin_moments(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Make the state that AdamW's first step would make: within a graph it can't."""
    for parameter in parameters:
        if not optimizer.state[parameter]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
