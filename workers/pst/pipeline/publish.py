"""Phases merge, export and verify: from a trained model to a checked folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from pst.export import huggingface, structured, verify
from pst.export.merge import MergedMatrix, merge, recount
from pst.export.quantize import quantize
from pst.files.formats import Storing
from pst.model import memory
from pst.model.loading import TensorLocation
from pst.pipeline.context import Run
from pst.pipeline.prepared import Prepared
from pst.pipeline.saving import answers_of
from pst.pipeline.trained import Trained
from pst.plan.methods import METHODS
from pst.report.pictures import Pretrained, picture_data
from pst.tasks import Answers, Task

EXPORT_FOLDER = "export"
VERIFY_FOLDER = "verify"

Shown = Callable[[PreTrainedModel, Task], None]


@dataclass(frozen=True)
class Merged:
    """The plain model as it will be published: its matrices, how its tensors are stored, its answers, the pictures of
    its masks (none of a quick run), and how many parameters were trained."""

    model: PreTrainedModel
    matrices: list[MergedMatrix]
    storing: dict[str, Storing]
    answers: dict[str, Answers]
    pictures: dict[str, Any] | None
    trained_params: int


def merged(run: Run, prepared: Prepared, trained: Trained, shown: Shown | None) -> Merged:
    """The best state of the training, merged. The trainer lets go of what only it needs."""
    trainer, model, settings = trained.trainer, trained.model, run.settings
    pictures = None if run.quick else _pictures(run, prepared, trained)
    params = sum(parameter.numel() for parameter in trainer.trained.values())
    trainer.release()
    matrices = merge(model, trainer.modules, run.storage)
    if METHODS[settings.method].prunes:
        model, removed = structured.shrink(model, run.spec.task, settings.structure)
        for message in removed:
            run.log("info", message)
    storing = quantize(model, prepared.model.tensors, settings, run.storage)
    matrices = recount(matrices, model)
    answers = answers_of(model, prepared, prepared.asked(run))
    if shown is not None:
        shown(model, prepared.task)
    return Merged(model, matrices, storing, answers, pictures, params)


def _pictures(run: Run, prepared: Prepared, trained: Trained) -> dict[str, Any]:
    opened = prepared.task.open(prepared.base, run.settings.seed, TensorLocation(weights=None, source=run.weights))
    modules = trained.trainer.modules
    return picture_data(modules, Pretrained(opened, modules))


def exported(run: Run, prepared: Prepared, found: Merged) -> huggingface.Exported:
    """Write the folder; returns its sizes."""
    return huggingface.export(
        found.model,
        prepared.base,
        run.spec.labels,
        run.storage,
        prepared.task.max_length,
        run.folder / EXPORT_FOLDER,
        task=run.spec.task,
        storing=found.storing,
        dense_file=run.settings.dense_file,
    )


def verified(run: Run, prepared: Prepared, trained: Trained, found: Merged) -> dict[str, Any]:
    """What the verifier says of the export. The device is its own meanwhile: of the model nothing but the shapes is
    left."""
    task, rows, answers = prepared.task, prepared.rows["validation"], found.answers["validation"]
    if run.settings.frozen_weights != "float32":  # what is rounded so coarsely depends on a batch's other rows
        rows = list(verify.chosen(task, rows))
        answers = task.predict(found.model, task.encode(rows))
    for module in (found.model, *(module.layer for module in trained.trainer.modules)):
        module.to("meta")
    memory.release()
    return verify.elsewhere(run.folder / EXPORT_FOLDER, run.folder / VERIFY_FOLDER, task, rows, answers)
