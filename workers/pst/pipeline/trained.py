"""Phase train: the sparse model, at its first step or where a checkpoint left it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from pst.layers.inject import frozen, inject, learning_rates
from pst.pipeline.context import Run
from pst.pipeline.prepared import Prepared, Resumed, open_base
from pst.pipeline.saving import Saver, answers_of
from pst.tasks import Answers
from pst.training import checkpoint, teacher
from pst.training.distill import Teacher, start_head
from pst.training.step import autocast
from pst.training.trainer import Trainer


@dataclass(frozen=True)
class Trained:
    """The model with its layers, the trainer that has trained them, and the answers of what the sparse model is
    compared with: none, where that is the model itself."""

    model: PreTrainedModel
    trainer: Trainer
    known: Mapping[str, Answers]


def train(
    run: Run,
    prepared: Prepared,
    resumed: Resumed,
    answers: dict[str, Answers],
    found: checkpoint.Checkpoint | None,
    *,
    export_only: bool,
) -> Trained:
    """Train to the end; with ``export_only`` only to where the checkpoint is. ``answers`` are the dense model's."""
    trainer, model, save = _at_the_start(run, prepared, resumed, answers, taught=not export_only)
    if found is not None and found.state["trainer"] is not None:
        trainer.load(found.tensors(save.origin), found.state["trainer"])
    del found  # its tensors are not needed while the trainer runs
    if not run.settings.compare_dense and run.peers.is_main and not answers:
        answers = untrained(run, prepared, trainer, model)
        trainer.hooks = replace(save, answers=answers).hooks()
    if not export_only:
        trainer.run()
        trainer.checkpoint()
    return Trained(model, trainer, answers)


def _at_the_start(
    run: Run, prepared: Prepared, resumed: Resumed, answers: dict[str, Answers], *, taught: bool
) -> tuple[Trainer, PreTrainedModel, Saver]:
    """The trainer of the method at its first step, its model, and what saves it."""
    teaching = _teacher(run, prepared, answers) if taught else Teacher()
    settings, described = run.settings, prepared.model
    base = open_base(run, prepared, settings.frozen_weights)
    modules = inject(base.opened.model, described.tensors, settings, base.opened.fill)
    model = base.opened.finish()
    start_head(model, teaching, described.tensors)
    save = Saver(run, prepared, resumed, answers, base.origin)
    trainer = Trainer(
        model,
        modules,
        learning_rates(model, described.tensors, settings),
        prepared.task,
        settings,
        prepared.sparsity if modules else {},
        save.hooks(),
        phase="train",
        epochs=settings.dense_epochs if settings.method == "dense" else settings.epochs,
        teacher=teaching,
        units=described.unit_families if settings.structure == "structured" else (),
        peers=run.peers,
    )
    torch.manual_seed(settings.seed)  # dropout does not depend on how many numbers the layers drew
    return trainer, model, save


def _teacher(run: Run, prepared: Prepared, answers: Mapping[str, Answers]) -> Teacher:
    if not run.settings.distill or not answers:
        return Teacher()
    if not teacher.teaches_live(prepared.task, run.settings):
        return Teacher(logits=answers["train"]["logits"])
    base = open_base(run, prepared)
    model: nn.Module = base.opened.finish()
    return Teacher(model=teacher.fill(model, run.folder, prepared.model, base.origin))


def untrained(run: Run, prepared: Prepared, trainer: Trainer, model: PreTrainedModel) -> dict[str, Answers]:
    """Answers of the base model as it comes, with which a run is compared that fine-tunes no dense one: no layer has
    learned or pruned anything yet."""
    with frozen(trainer.modules), autocast(run.device, run.settings, training=False):
        return answers_of(model, prepared, prepared.asked(run))
