"""Trainers of the toy task, at their first step."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pst import tasks
from pst.config import TrainSettings
from pst.layers.inject import inject, learning_rates
from pst.model.data import Row
from pst.model.loading import load_model, load_tokenizer, matched_specs, read_config
from pst.plan.families import ModelDescription
from pst.tasks import Task
from pst.training.distill import Teacher
from pst.training.parallel import ALONE, Peers
from pst.training.trainer import Hooks, Trainer
from tests.pst.conftest import LABELS, QUICK, toy_rows

SPARSITY = {"attention": 0.8, "ffn": 0.9}
METHODS = ["pst", "magnitude", "movement", "l0", "smp", "wanda", "lora", "dense"]


PLAIN: dict[str, Any] = {
    "activation_power": 0.0,
    "threshold": "matrix",
    "hold_ratio": 0.0,
    "initial_sparsity": 0.0,
    "warmup_fraction": 0.1,
    "cooldown_fraction": 0.3,
    "distill_weight": 0.5,
    "distill_hidden_weight": 0.0,
    "train_norms": False,
}
"""The published recipe; the default one is tested where it matters."""


def settings_of(**changes: Any) -> TrainSettings:
    values: dict[str, Any] = {**QUICK, **PLAIN, "precision": "float32", **changes}
    return TrainSettings(**values)


def task_of(base: Path, settings: TrainSettings) -> Task:
    """64 training and 24 validation rows."""
    task = tasks.make("classification", LABELS, load_tokenizer(base), 32, settings, read_config(base))

    def rows(count: int, seed: int) -> Any:
        return task.encode([Row(row["text"], None, LABELS.index(row["label"])) for row in toy_rows(count, seed)])

    task.learn(rows(64, 1), rows(24, 3))
    return task


@cache
def _loaded(base: Path, seed: int) -> Any:
    return load_model(base, "classification", LABELS, seed)


def model_of(base: Path, seed: int = 42) -> Any:
    """A copy of the loaded model: reading the files again would take as long as a short training."""
    model = deepcopy(_loaded(base, seed))
    torch.manual_seed(seed)  # as loading does
    return model


def make(
    base: Path,
    settings: TrainSettings,
    *,
    emit: Callable[[dict[str, Any]], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    save: Callable[[Trainer], None] | None = None,
    teacher: Teacher | None = None,
    sparsity: dict[str, float] = SPARSITY,
    change: Callable[[nn.Module], Any] = lambda model: None,
    peers: Peers = ALONE,
) -> Trainer:
    """``change`` may alter the model before it gets its layers."""
    model = model_of(base, settings.seed)
    change(model)
    specs = matched_specs(model, ModelDescription(read_config(base), labels=len(LABELS)))
    modules = inject(model, specs, settings)
    rates = learning_rates(model, specs, settings)
    hooks = Hooks(emit, should_stop, save)
    task = task_of(base, settings)
    torch.manual_seed(settings.seed)
    return Trainer(
        model, modules, rates, task, settings, sparsity if modules else {}, hooks,
        phase="train", epochs=settings.epochs, teacher=teacher, peers=peers,
    )  # fmt: skip
