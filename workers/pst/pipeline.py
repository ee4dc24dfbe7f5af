"""One job from its folder to a verified export: prepare, dense, train, merge, export, verify, report.

The folder holds ``spec.json`` and the rows; the run writes ``checkpoints/``, ``export/``, ``verify/`` and
``report.json``. A run that finds a checkpoint goes on from it, and ends as if it had never been interrupted.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

import pst
from pst import checkpoint, data, report
from pst import spec as specs
from pst.base import load_classifier, load_tokenizer, matched_specs, read_config
from pst.config import TrainSettings
from pst.errors import PSTError
from pst.evaluate import accuracy, confusion_matrix, gold_of, metrics, predict
from pst.export import huggingface
from pst.families import TensorSpec, max_tokens
from pst.inject import inject, learning_rates
from pst.merge import MergedMatrix, merge
from pst.spec import Spec
from pst.train import Hooks, Stopped, Task, Trainer

__all__ = ["Stopped", "export", "run"]

VALIDATION_SHARE = 0.2
EXPORT_FOLDER = "export"
VERIFY_FOLDER = "verify"
STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Emit = Callable[[dict[str, Any]], None]


def run(folder: Path, *, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Do the whole job; returns the report, which is also written to ``folder/report.json``.

    Raises :class:`Stopped` after ``should_stop()`` was true (a checkpoint has been written unless the dense phase was
    still running, which then runs again), and :class:`pst.errors.PSTError` for what the user can put right.
    """
    return _Run(folder, emit, should_stop).run()


def export(folder: Path, *, emit: Emit) -> dict[str, Any]:
    """Merge, export and verify again from the best state of the newest checkpoint; returns the report.

    Raises :class:`pst.errors.PSTError` when no checkpoint has reached the final sparsity.
    """
    found = checkpoint.newest(folder)
    if found is None or found.state["trainer"] is None or found.state["trainer"]["best_score"] is None:
        raise PSTError(f"No checkpoint in {folder} has reached the final sparsity; run train first.")
    return _Run(folder, emit, lambda: False).run(export_only=True)


class _Run:
    def __init__(self, folder: Path, emit: Emit, should_stop: Callable[[], bool]) -> None:
        self.folder, self.emit, self.should_stop = folder.resolve(), emit, should_stop
        self.spec: Spec = specs.read(folder)
        self.settings: TrainSettings = self.spec.settings
        self.storage = STORAGE[self.settings.storage_dtype]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.phases = ["prepare", "dense", "train", "merge", "export", "verify", "report"]
        if self.settings.method == "dense":
            self.phases.remove("dense")
        self.seconds: dict[str, float] = {}
        self.dense: dict[str, Tensor] = {}  # the dense model's answers; nothing else of it is kept

    def run(self, *, export_only: bool = False) -> dict[str, Any]:
        with self._phase("prepare"):
            self._prepare()
            found = self._resume()
        if "dense" in self.phases and not self.dense:
            with self._phase("dense"):
                self._train_dense()
        with self._phase("train"):
            trainer, model = self._trainer(found)
            if not export_only:
                trainer.run()
                trainer.checkpoint()
        trainer.load_best()
        with self._phase("merge"):
            matrices = merge(model, trainer.sites, self.storage)
            answers = self._answers(model)
            dense = self.dense or answers
        with self._phase("export"):
            sizes = huggingface.export(
                model,
                self.spec.base_model,
                self.spec.labels,
                self.storage,
                self.max_length,
                self.folder / EXPORT_FOLDER,
            )
        with self._phase("verify"):
            verified = self._verify(answers["validation"])
        with self._phase("report"):
            result = self._report(trainer, matrices, answers, dense, sizes, verified)
        result["seconds"] = dict(self.seconds)
        for path in (self.folder, self.folder / EXPORT_FOLDER):
            report.write(result, path / report.REPORT_FILE)
        return result

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Announce a phase, and add its time to what earlier attempts spent in it."""
        self.emit({"type": "phase", "phase": name, "index": self.phases.index(name), "of": len(self.phases)})
        self._begun = name, time.monotonic()
        yield
        self.seconds = self._seconds_now()

    def _seconds_now(self) -> dict[str, float]:
        name, begin = self._begun
        return {**self.seconds, name: self.seconds.get(name, 0.0) + time.monotonic() - begin}

    def _log(self, level: str, message: str) -> None:
        self.emit({"type": "log", "level": level, "message": message})

    def _prepare(self) -> None:
        """Read base model, plan and rows; everything that is wrong with the user's input comes up here."""
        spec = self.spec
        self.config = read_config(spec.base_model)
        self.plan, self.sparsity = specs.plan(spec, self.config)
        train = data.read_rows(spec.train, spec.labels)
        if spec.validation is None:
            train, validation = data.stratified_split(train, VALIDATION_SHARE, self.settings.seed)
        else:
            validation = data.read_rows(spec.validation, spec.labels)
        test = None if spec.test is None else data.read_rows(spec.test, spec.labels)
        learned = {row.label for row in train}
        unknown = sorted({row.label for row in validation} - learned)
        if unknown:
            raise PSTError(f"The label {spec.labels[unknown[0]]!r} is in the validation rows but not in training rows.")
        absent = [label for index, label in enumerate(spec.labels) if index not in learned]
        if absent:
            self._log("warning", f"No training row has the label {absent[0]!r} ({len(absent)} such labels in all).")
        tokenizer = load_tokenizer(spec.base_model)
        if tokenizer.pad_token_id is None:
            raise PSTError(f"The tokenizer in {spec.base_model} has no padding token.")
        self.pad_id = int(tokenizer.pad_token_id)
        self.max_length = min(self.settings.max_length, int(tokenizer.model_max_length), max_tokens(self.config))
        self.validation_rows = validation
        self.rows = {
            name: data.encode(tokenizer, rows, self.max_length)
            for name, rows in (("train", train), ("validation", validation), ("test", test))
            if rows is not None
        }
        self._log(
            "info",
            f"{len(train)} training, {len(validation)} validation and {len(test or [])} test rows; "
            f"{self.plan.prunable_params:,} of {self.plan.total_params:,} parameters can be pruned.",
        )

    def _resume(self) -> checkpoint.Checkpoint | None:
        found = checkpoint.newest(self.folder)
        if found is None:
            return None
        if found.state["fingerprint"] != self.spec.fingerprint():
            raise PSTError("The checkpoint belongs to a run with another spec; remove it to start over.")
        self.seconds = dict(found.state["seconds"])
        self.dense = {
            name.removeprefix("dense."): tensor for name, tensor in found.tensors.items() if name.startswith("dense.")
        }
        self._log("info", f"Going on from the checkpoint of step {found.state['step']}.")
        return found

    def _model(self) -> tuple[transformers.PreTrainedModel, list[TensorSpec]]:
        model = load_classifier(self.spec.base_model, self.spec.labels, self.settings.seed)
        model.to(self.device)  # type: ignore[arg-type]
        return model, matched_specs(model, self.config, len(self.spec.labels))

    def _task(self, teacher: Tensor | None) -> Task:
        return Task(
            train=self.rows["train"],
            validation=self.rows["validation"],
            labels=len(self.spec.labels),
            pad_id=self.pad_id,
            device=self.device,
            teacher=teacher,
        )

    def _train_dense(self) -> None:
        """Fine-tune the dense model that the sparse one is compared with, and keep its answers."""
        settings = replace(self.settings, method="dense", weight_decay=0.0)
        model, tensors = self._model()
        trainer = Trainer(
            model,
            [],
            learning_rates(model, tensors, settings),
            self._task(None),
            settings,
            {},
            Hooks(self.emit, self.should_stop, None),
            phase="dense",
            epochs=settings.dense_epochs,
        )
        trainer.run()
        trainer.load_best()
        self.dense = self._answers(model)
        if self.settings.distill:
            self.dense["train"] = predict(model, self.rows["train"], self.pad_id, self.device)
        self._save(None)

    def _trainer(self, found: checkpoint.Checkpoint | None) -> tuple[Trainer, transformers.PreTrainedModel]:
        """The trainer of the method, at its first step or where the checkpoint left it."""
        settings = self.settings
        model, tensors = self._model()
        sites = inject(model, tensors, settings)
        trainer = Trainer(
            model,
            sites,
            learning_rates(model, tensors, settings),
            self._task(self.dense.get("train")),
            settings,
            self.sparsity if sites else {},
            Hooks(self.emit, self.should_stop, self._save),
            phase="train",
            epochs=settings.dense_epochs if settings.method == "dense" else settings.epochs,
        )
        torch.manual_seed(settings.seed)  # dropout does not depend on how many numbers the layers drew
        if found is not None and found.state["trainer"] is not None:
            trainer.load(found.tensors, found.state["trainer"])
        return trainer, model

    def _save(self, trainer: Trainer | None) -> None:
        """Write a checkpoint; without a trainer, one that holds the dense results only."""
        tensors = {f"dense.{name}": tensor for name, tensor in self.dense.items()}
        state = {
            "fingerprint": self.spec.fingerprint(),
            "phase": "train",
            "step": 0 if trainer is None else trainer.step,
            "seconds": self._seconds_now(),
            "trainer": None if trainer is None else trainer.state(),
        }
        path = checkpoint.save(self.folder, tensors | ({} if trainer is None else trainer.tensors()), state)
        self.emit(
            {
                "type": "checkpoint",
                "path": path.relative_to(self.folder).as_posix(),
                "step": state["step"],
                "phase": state["phase"],
                "bytes": path.stat().st_size,
            }
        )

    def _answers(self, model: transformers.PreTrainedModel) -> dict[str, Tensor]:
        """Logits for the validation rows and, where there are any, the test rows."""
        return {
            name: predict(model, self.rows[name], self.pad_id, self.device)
            for name in ("validation", "test")
            if name in self.rows
        }

    def _verify(self, logits: Tensor) -> dict[str, Any]:
        """Run :mod:`pst.verify` in another process. Raises :class:`PSTError` when it objects."""
        at = self.folder / VERIFY_FOLDER
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        lines = [json.dumps({"text": row.text, "text_pair": row.text_pair}) for row in self.validation_rows]
        (at / "rows.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        save_file({"logits": logits}, at / "predictions.safetensors")
        source = str(Path(pst.__file__).resolve().parents[1])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "pst.verify"]
        done = subprocess.run(
            [*command, str(self.folder / EXPORT_FOLDER), str(at / "rows.jsonl"), str(at / "predictions.safetensors")],
            env=environment | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
            capture_output=True,
            text=True,
        )
        try:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise RuntimeError(f"The verifier ended with {done.returncode}: {done.stderr.strip()[-2000:]}") from None
        if done.returncode or not result["ok"]:
            raise PSTError(f"The exported model failed its check: {result['message']}")
        return result

    def _metrics(self, answers: dict[str, Tensor]) -> dict[str, Any]:
        result: dict[str, Any] = {"validation": None, "test": None}
        for name in result:
            if name in answers:
                gold = gold_of(self.rows[name])
                result[name] = metrics(answers[name].argmax(-1), gold, len(self.spec.labels), self.settings.seed)
        return result

    def _report(
        self,
        trainer: Trainer,
        matrices: list[MergedMatrix],
        answers: dict[str, Tensor],
        dense: dict[str, Tensor],
        sizes: huggingface.Exported,
        verified: dict[str, Any],
    ) -> dict[str, Any]:
        split = "test" if "test" in answers else "validation"
        labels = len(self.spec.labels)
        pruned_from = sum(site.layer.weight.numel() for site in trainer.sites)
        kept = sum(matrix.nonzeros for matrix in matrices)
        plan = self.plan
        wanted = sum(group.weights * self.sparsity[group.name] for group in plan.groups) / plan.prunable_params
        confusion = confusion_matrix(answers[split].argmax(-1), gold_of(self.rows[split]), labels)
        return {
            "task": "classification",
            "method": self.settings.method,
            "labels": self.spec.labels,
            "settings": {name: getattr(self.settings, name) for name in TrainSettings.__dataclass_fields__},
            "plan": plan.to_dict() | {"sparsity_by_group": self.sparsity},
            "seed": self.settings.seed,
            "rows": {name: len(rows) for name, rows in self.rows.items()},
            "metrics": self._metrics(answers),
            "dense": self._metrics(dense),
            "agreement": accuracy(answers[split].argmax(-1), dense[split].argmax(-1)),
            "agreement_split": split,
            "confusion": {"split": split, "labels": self.spec.labels, "matrix": confusion.tolist()},
            "sparsity": {
                "target": wanted,
                "reached": 1 - kept / pruned_from if pruned_from else 0.0,
                "matrices": [
                    {"name": m.name, "shape": list(m.shape), "sparsity": m.sparsity, "nonzeros": m.nonzeros}
                    for m in matrices
                ],
            },
            "params": {
                "total": plan.total_params,
                "prunable": plan.prunable_params,
                "nonzero": plan.total_params - pruned_from + kept,
                "trainable": sum(parameter.numel() for parameter in trainer.trained.values()),
            },
            "bytes": {"dense": plan.dense_bytes, "sparse": sizes.sparse, "expanded": sizes.expanded},
            "best_step": trainer.best_step,
            "steps": trainer.total,
            "device": {
                "type": self.device.type,
                "name": torch.cuda.get_device_name() if self.device.type == "cuda" else platform.machine(),
                "threads": torch.get_num_threads(),
            },
            "versions": {
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "transformers": transformers.__version__,
                "safetensors": safetensors.__version__,
            },
            "verify": verified,
        }
