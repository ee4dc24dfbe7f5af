"""Phase report: what a run has come to, as ``report.json`` says it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import safetensors
import torch
import transformers
from transformers import PreTrainedModel

from pst import machine
from pst.config import TrainSettings
from pst.export import huggingface
from pst.model.loading import TensorLocation, described, state_of
from pst.pipeline.context import Run
from pst.pipeline.prepared import Prepared
from pst.pipeline.publish import EXPORT_FOLDER, Merged
from pst.pipeline.trained import Trained
from pst.plan.methods import METHODS
from pst.report.answers import Compared
from pst.report.measures import complete
from pst.report.mistakes import confusion, wrong_rows
from pst.tasks import Answers

MODELS_SHARE = 0.5  # of the free memory that the report's two models may take
SAMPLES = 10  # generated texts shown in the report


def result_of(
    run: Run,
    prepared: Prepared,
    trained: Trained,
    found: Merged,
    sizes: huggingface.Exported,
    verified: dict[str, Any] | None,
) -> dict[str, Any]:
    """The whole report but for the seconds; of a quick run without the measures."""
    known = trained.known or found.answers
    result = _facts(run, prepared, trained, found, sizes, known) | {"verify": verified}
    result |= _by_task(run, prepared, found.answers, known)
    if found.pictures is None:
        return result
    return complete(
        result,
        compared=Compared(prepared.task, prepared.needed, found.answers, known, run.settings.seed, prepared.limit),
        rows=prepared.task.validation,
        export=run.folder / EXPORT_FOLDER,
        models=_both(run, prepared),
        pictures=found.pictures,
        carbon=run.carbon.stop(sum(run.clock.seconds().values())),
    )


def _both(run: Run, prepared: Prepared) -> tuple[PreTrainedModel, PreTrainedModel] | None:
    """A model of the dense shape and the exported one, both in float32 on the CPU; None where they are too large for
    it."""
    if MODELS_SHARE * machine.available_bytes() < 2 * prepared.plan.total_params * torch.float32.itemsize:
        run.log("info", "Two copies of the model are too large for this machine: its speed is not measured.")
        return None
    base = prepared.task.open(prepared.base, run.settings.seed, TensorLocation(source=run.weights))
    return base.finish(), prepared.task.load(run.folder / EXPORT_FOLDER, run.settings.seed)


def _split(answers: Mapping[str, Answers]) -> str:
    return "test" if "test" in answers else "validation"


def _metrics(run: Run, prepared: Prepared, answers: Mapping[str, Answers]) -> dict[str, Any]:
    seed, task = run.settings.seed, prepared.task
    return {
        name: task.metrics(answers[name], prepared.rows[name], seed) if name in answers else None
        for name in ("validation", "test")
    }


def _facts(
    run: Run,
    prepared: Prepared,
    trained: Trained,
    found: Merged,
    sizes: huggingface.Exported,
    known: Mapping[str, Answers],
) -> dict[str, Any]:
    task, plan, settings, trainer = prepared.task, prepared.plan, run.settings, trained.trainer
    split = _split(found.answers)
    return {
        "task": task.name,
        "primary": task.primary,
        "method": settings.method,
        "labels": list(task.labels),
        "settings": {name: getattr(settings, name) for name in TrainSettings.__dataclass_fields__},
        "plan": plan.to_dict() | {"sparsity_by_group": prepared.sparsity},
        "seed": settings.seed,
        "rows": {name: len(rows) for name, rows in prepared.encoded.items()},
        "metrics": _metrics(run, prepared, found.answers),
        "dense": _metrics(run, prepared, known),
        "agreement": task.agreement(found.answers[split], known[split]),
        "agreement_split": split,
        **_weights(run, prepared, trained, found),
        "bytes": {"dense": plan.dense_bytes, "sparse": sizes.sparse, "expanded": sizes.expanded},
        "best_step": trainer.best.step,
        "steps": trainer.course.total,
        "device": {
            "type": run.device.type,
            "name": torch.cuda.get_device_name() if run.device.type == "cuda" else platform.machine(),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "safetensors": safetensors.__version__,
        },
    }


def _weights(run: Run, prepared: Prepared, trained: Trained, found: Merged) -> dict[str, Any]:
    """How many weights there were, and how many are left."""
    plan, matrices, model = prepared.plan, found.matrices, found.model
    pruned_from = sum(module.layer.weight.numel() for module in trained.trainer.modules)
    kept = sum(matrix.nonzeros for matrix in matrices)
    state = state_of(model, described(model, run.spec.task))
    others = sum(t.numel() for t in state.values()) - sum(state[matrix.name].numel() for matrix in matrices)
    prunes = METHODS[run.settings.method].prunes
    wanted = sum(group.weights * prepared.sparsity[group.name] for group in plan.groups) / plan.prunable_params
    return {
        "sparsity": {
            "target": wanted if prunes else 0.0,
            "reached": 1 - kept / pruned_from if pruned_from else 0.0,
            "matrices": [
                {"name": m.name, "shape": list(m.shape), "sparsity": m.sparsity, "nonzeros": m.nonzeros}
                for m in matrices
            ],
        },
        "params": {
            "total": plan.total_params,
            "prunable": plan.prunable_params,
            "nonzero": others + kept,
            "trainable": found.trained_params,
        },
    }


def _by_task(
    run: Run, prepared: Prepared, answers: Mapping[str, Answers], known: Mapping[str, Answers]
) -> dict[str, Any]:
    """What only a classifier, or only a model that generates, is asked."""
    task, split = prepared.task, _split(answers)
    result: dict[str, Any] = {"confusion": None, "errors": None}
    if task.name == "classification":
        logits, labels, rows = answers[split]["logits"], run.spec.labels, prepared.rows[split]
        result["confusion"] = confusion(split, labels, logits, rows)
        result["errors"] = wrong_rows(split, labels, logits, known[split]["logits"], rows)
    if task.name == "generation":
        texts = task.texts(answers[split]), task.texts(known[split])  # type: ignore[attr-defined]
        result["samples"] = [
            {"source": row.text, "references": list(row.references), "text": ours, "dense": theirs}
            for row, ours, theirs in zip(prepared.rows[split][:SAMPLES], *texts, strict=False)
        ]
    return result
