"""One job from its folder to a verified export: prepare, dense, train, merge, export, verify, report.

The folder holds ``spec.json`` and the rows; the run writes ``checkpoints/``, ``dense/``, ``export/``, ``verify/`` and
``report.json``. A run that finds a checkpoint goes on from it, and ends as if it had never been interrupted.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from torch import nn

from pst import machine, report, tasks
from pst import spec as specs
from pst.config import FrozenWeights, TrainSettings
from pst.errors import PSTError
from pst.export import huggingface, structured, verify
from pst.export.merge import MergedMatrix, merge, recount
from pst.export.quantize import quantize
from pst.files.packing import nothing
from pst.files.shards import Tensors
from pst.layers.inject import frozen, inject, learning_rates
from pst.messages import Message
from pst.model import memory
from pst.model.data import Row
from pst.model.loading import Opened, Place, described, load_tokenizer, matched_specs, read_config, state_of
from pst.model.vocabulary import trim
from pst.plan.families import architecture
from pst.plan.methods import METHODS
from pst.report.answers import Compared
from pst.report.carbon import Carbon
from pst.report.measures import complete
from pst.report.mistakes import confusion, wrong_rows
from pst.report.perturb import answers_needed, limit_of
from pst.report.pictures import Pretrained, picture_data
from pst.spec import Spec
from pst.tasks import Answers
from pst.training import checkpoint, teacher
from pst.training.distill import Teacher, start_head
from pst.training.parallel import ALONE, Peers
from pst.training.step import autocast
from pst.training.trainer import Hooks, Stopped, Trainer

__all__ = ["Stopped", "export", "run"]

VALIDATION_SHARE = 0.2
EXPORT_FOLDER = "export"
VERIFY_FOLDER = "verify"
TRIMMED_FOLDER = "trimmed"
STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MODELS_SHARE = 0.5  # of the free memory that the report's two models may take
SAMPLES = 10  # generated texts shown in the report

Emit = Callable[[dict[str, Any]], None]


def run(
    folder: Path,
    *,
    emit: Emit,
    should_stop: Callable[[], bool],
    quick: bool = False,
    peers: Peers = ALONE,
    weights: Tensors | None = None,
    merged: Callable[[transformers.PreTrainedModel, tasks.Task], None] | None = None,
) -> dict[str, Any]:
    """Do the whole job; returns the report, which is also written to ``folder/report.json``.

    ``quick`` leaves out the verifier and all that only the report measures: for trials whose model nobody will use.
    With ``peers`` each process calls this; all but the first return an empty report once training has ended.
    ``weights`` are the base model's where its folder has but config and tokenizer; ``merged`` is shown what is going to
    be exported.
    Raises :class:`Stopped` after ``should_stop()`` was true (a checkpoint has been written), and
    :class:`pst.errors.PSTError` for what the user can put right.
    """
    with Carbon(on=not quick and peers.first) as carbon:
        run = _Run(folder, emit, should_stop, carbon, quick=quick, peers=peers, weights=weights)
        if merged is not None:
            run.merged = merged
        return run.run()


def export(folder: Path, *, emit: Emit) -> dict[str, Any]:
    """Merge, export and verify again from the best state of the newest checkpoint; returns the report.

    Raises :class:`pst.errors.PSTError` when no checkpoint has reached the final sparsity.
    """
    found = checkpoint.newest(folder)
    trained = None if found is None or found.state["phase"] != "train" else found.state["trainer"]
    if trained is None or trained["best_score"] is None:
        raise PSTError(
            Message("No checkpoint in {folder} has reached the final sparsity; run train first.", folder=folder)
        )
    with Carbon(on=True) as carbon:
        return _Run(folder, emit, lambda: False, carbon).run(export_only=True)


class _Run:
    def __init__(
        self,
        folder: Path,
        emit: Emit,
        should_stop: Callable[[], bool],
        carbon: Carbon,
        *,
        quick: bool = False,
        peers: Peers = ALONE,
        weights: Tensors | None = None,
    ) -> None:
        self.weights = weights
        self.merged: Callable[[transformers.PreTrainedModel, tasks.Task], None] = lambda model, task: None
        self.folder, self.should_stop = folder.resolve(), should_stop
        self.emit: Emit = emit if peers.first else lambda event: None
        self.carbon, self.quick, self.peers = carbon, quick, peers
        self.spec: Spec = specs.read(folder)
        self.settings: TrainSettings = self.spec.settings
        self.storage = STORAGE[self.settings.storage_dtype]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.phases = ["prepare", "dense", "train", "merge", "export", "verify", "report"]
        if self.settings.method == "dense" or not self.settings.compare_dense:
            self.phases.remove("dense")
        if quick:
            self.phases.remove("verify")
        self.seconds: dict[str, float] = {}
        self.dense: dict[str, Answers] = {}  # the dense model's answers to each set of rows

    def run(self, *, export_only: bool = False) -> dict[str, Any]:
        with self._phase("prepare"):
            self._prepare()
            found = self._resume()
        self.peers.wait()  # nobody writes before all have read
        if "dense" in self.phases and not self._dense_is_known(export_only):
            with self._phase("dense"):
                self._train_dense(found.pop("dense", None), "train" in found)
        with self._phase("train"):
            trainer, model = self._trainer(found.pop("train", None), taught=not export_only)
            found.clear()
            if not self.settings.compare_dense and self.peers.first and not self.dense:
                self.dense = self._untrained(trainer, model)
            if not export_only:
                trainer.run()
                trainer.checkpoint()
        if not self.peers.first:
            return {}
        trainer.load_best()
        with self._phase("merge"):
            pictures = None if self.quick else self._pictures(trainer)
            self.trained = sum(parameter.numel() for parameter in trainer.trained.values())
            trainer.release()
            matrices = merge(model, trainer.sites, self.storage)
            if METHODS[self.settings.method].prunes:
                model, removed = structured.shrink(model, self.spec.task, self.settings.structure)
                for message in removed:
                    self._log("info", message)
            storing = quantize(model, self.tensors, self.settings, self.storage)
            matrices = recount(matrices, model)
            answers = self._answers(model, self.raw_rows if self.quick else self.needed)
            known = self.dense or answers
            self.merged(model, self.task)
        with self._phase("export"):
            sizes = huggingface.export(
                model,
                self.base,
                self.spec.labels,
                self.storage,
                self.task.max_length,
                self.folder / EXPORT_FOLDER,
                task=self.spec.task,
                storing=storing,
                dense_file=self.settings.dense_file,
            )
        verified = None if self.quick else self._verify(trainer, model, answers["validation"])
        with self._phase("report"):
            result = self._report(trainer, model, matrices, answers, known, sizes, verified)
            if pictures is not None:
                result = complete(
                    result,
                    compared=Compared(self.task, self.needed, answers, known, self.settings.seed, self.limit),
                    rows=self.task.validation,
                    export=self.folder / EXPORT_FOLDER,
                    models=self._both(),
                    pictures=pictures,
                    carbon=self.carbon.stop(sum(self._seconds_now().values())),
                )
        result["seconds"] = dict(self.seconds)
        for path in (self.folder, self.folder / EXPORT_FOLDER):
            report.write(result, path / report.REPORT_FILE)
        return result

    def _verify(self, trainer: Trainer, model: transformers.PreTrainedModel, answers: Answers) -> dict[str, Any]:
        """What the verifier says of the export, given the answers to the validation rows. The device is its own
        meanwhile: of ``model`` nothing but the shapes is left."""
        at, rows = self.folder / EXPORT_FOLDER, self.raw_rows["validation"]
        with self._phase("verify"):
            if self.settings.frozen_weights != "float32":  # what is rounded so coarsely depends on a batch's other rows
                rows = list(verify.chosen(self.task, rows))
                answers = self.task.predict(model, self.task.encode(rows))
            for module in (model, *(site.layer for site in trainer.sites)):
                module.to("meta")
            memory.release()
            return verify.elsewhere(at, self.folder / VERIFY_FOLDER, self.task, rows, answers)

    def _pictures(self, trainer: Trainer) -> dict[str, Any]:
        opened = self.task.open(self.base, self.settings.seed, Place(weights=None, source=self.weights))
        return picture_data(trainer.sites, Pretrained(opened, trainer.sites))

    def _both(self) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedModel] | None:
        """A model of the dense shape and the exported one, both in float32 on the CPU; None where they are too large
        for it."""
        if MODELS_SHARE * machine.available_bytes() < 2 * self.plan.total_params * torch.float32.itemsize:
            self._log("info", "Two copies of the model are too large for this machine: its speed is not measured.")
            return None
        base = self.task.open(self.base, self.settings.seed, Place(source=self.weights))
        return base.finish(), self.task.load(self.folder / EXPORT_FOLDER, self.settings.seed)

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
        spec, settings = self.spec, self.settings
        self.base, self.model = spec.base_model, spec.describe(read_config(spec.base_model))
        architecture(self.model.config, spec.task)
        if not settings.trim_vocabulary:
            self.plan, self.sparsity = specs.plan(spec, self.model)
        self.task = task = self._task()
        train = task.read(spec.train)
        if spec.validation is None:
            train, validation = task.split(train, VALIDATION_SHARE, settings.seed)
        else:
            validation = task.read(spec.validation)
        rows = {"train": train, "validation": task.held_out(validation)}
        if spec.test is not None:
            rows["test"] = task.held_out(task.read(spec.test))
        for warning in task.check(train, validation):
            self._log("warning", warning)
        self.raw_rows = rows
        self.limit = limit_of(task.name)
        self.needed = answers_needed(rows, settings.seed, self.limit)
        self.rows = {name: task.encode(found) for name, found in rows.items()}
        if settings.trim_vocabulary:
            task = self._trim()
            self.plan, self.sparsity = specs.plan(spec, self.model)
        task.learn(self.rows["train"], self.rows["validation"])
        self._log(
            "info",
            f"{len(train)} training, {len(rows['validation'])} validation and {len(rows.get('test', []))} test rows; "
            f"{self.plan.prunable_params:,} of {self.plan.total_params:,} parameters can be pruned.",
        )

    def _task(self) -> tasks.Task:
        tokenizer = load_tokenizer(self.base)
        length = min(self.settings.max_length, int(tokenizer.model_max_length), self.model.max_tokens)
        return tasks.make(self.spec.task, self.spec.labels, tokenizer, length, self.settings, self.model.config)

    def _trim(self) -> tasks.Task:
        """Go on with a copy of the base model that lacks the tokens of no row; returns the task with its tokenizer."""
        spec, before = self.spec, [row for rows in self.rows.values() for row in rows]
        target = self.folder / (TRIMMED_FOLDER if self.peers.first else f"{TRIMMED_FOLDER}-{self.peers.rank}")
        kept = trim(self.base, before, spec.task, spec.labels, self.settings.seed, target)
        self.base = target
        held = int(self.model.config["vocab_size"])
        self.model = spec.describe(read_config(self.base))
        self.task = self._task()
        self.rows = {name: self.task.encode(rows) for name, rows in self.raw_rows.items()}
        kept.check(before, [row for rows in self.rows.values() for row in rows])
        self._log("info", f"The vocabulary is trimmed from {held:,} to {len(kept.kept):,} tokens.")
        return self.task

    def _resume(self) -> dict[str, checkpoint.Checkpoint]:
        """The checkpoint of each phase that came furthest."""
        self.key, self.dense_key = self.spec.fingerprint(), teacher.fingerprint(self.spec)
        found = {phase: checkpoint.newest(self.folder, phase) for phase in checkpoint.PHASES}
        known = {phase: one for phase, one in found.items() if one is not None}
        for one in known.values():
            if one.state["fingerprint"] != self.key:
                raise PSTError(
                    Message(
                        "The checkpoint {path} belongs to a run with other settings, rows or base model; remove it to "
                        "start over.",
                        path=one.path,
                    )
                )
        if known:
            last = max(known.values(), key=lambda one: checkpoint.place(one.state))
            self.seconds = dict(last.state["seconds"])
            kept = last.tensors(prefix="dense.")
            self.dense = teacher.unflatten({name.removeprefix("dense."): tensor for name, tensor in kept.items()})
            self._log("info", f"Going on from the checkpoint of step {last.state['step']}.")
        return known

    def _dense_is_known(self, export_only: bool) -> bool:
        """Whether an earlier run left the dense model's answers, and its weights if the student learns from them."""
        if not self._all_answered():
            self.dense = teacher.load_answers(self.folder, self.dense_key)
        if teacher.teaches_live(self.task, self.settings) and not export_only:
            return self._all_answered() and teacher.holds_model(self.folder, self.dense_key)
        return self._all_answered()

    def _all_answered(self) -> bool:
        """Whether the dense model has answered all that is asked of it."""
        return self.needed.keys() <= self.dense.keys()

    def _open(self, frozen: FrozenWeights = "float32") -> Opened:
        """The base model on its way to the device."""
        opened = self.task.open(self.base, self.settings.seed, Place(self.device, frozen, self.weights))
        self.origin = nothing if self.weights is not None else opened.origin(self.base)
        self.tensors = matched_specs(opened.model, self.model)
        return opened

    def _train_dense(self, found: checkpoint.Checkpoint | None, further: bool) -> None:
        """Fine-tune the dense model that the sparse one is compared with, unless that has been done, and keep its
        answers; ``further``: there is a checkpoint of the sparse one already."""
        settings = replace(self.settings, method="dense", weight_decay=0.0)
        model: transformers.PreTrainedModel = self._open().finish()
        if teacher.holds_model(self.folder, self.dense_key):
            teacher.fill(model, self.folder, self.model, self.origin)
        else:
            trainer = Trainer(
                model,
                [],
                learning_rates(model, self.tensors, settings),
                self.task,
                settings,
                {},
                self._hooks(),
                phase="dense",
                epochs=settings.dense_epochs,
                peers=self.peers,
            )
            if found is not None:
                trainer.load(found.tensors(self.origin), found.state["trainer"])
            trainer.run()
            if self.peers.first:
                trainer.load_best()
                teacher.save_model(self.folder, self.dense_key, model, self.model, self.origin)
                if not further:
                    self._save(None)
            trainer.release()
        if self.peers.first:
            self.dense = self._answers(model, self.needed)
            if self.task.name != "generation":
                self.dense["train"] = self.task.predict(model, self.rows["train"])
            teacher.save_answers(self.folder, self.dense_key, self.dense)
            if not further:
                self._save(None)
        self.peers.wait()
        if not self.peers.first:
            self.dense = teacher.load_answers(self.folder, self.dense_key)

    def _hooks(self) -> Hooks:
        return Hooks(self.emit, self.should_stop, self._save if self.peers.first else None)

    def _teacher(self) -> Teacher:
        if not self.settings.distill or not self.dense:
            return Teacher()
        if not teacher.teaches_live(self.task, self.settings):
            return Teacher(logits=self.dense["train"]["logits"])
        model: nn.Module = self._open().finish()
        return Teacher(model=teacher.fill(model, self.folder, self.model, self.origin))

    def _trainer(
        self, found: checkpoint.Checkpoint | None, *, taught: bool
    ) -> tuple[Trainer, transformers.PreTrainedModel]:
        """The trainer of the method, at its first step or where the checkpoint left it."""
        settings = self.settings
        teaching = self._teacher() if taught else Teacher()
        opened = self._open(settings.frozen_weights)
        sites = inject(opened.model, self.tensors, settings, opened.fill)
        model = opened.finish()
        start_head(model, teaching, self.tensors)
        structured = settings.structure == "structured"
        trainer = Trainer(
            model,
            sites,
            learning_rates(model, self.tensors, settings),
            self.task,
            settings,
            self.sparsity if sites else {},
            self._hooks(),
            phase="train",
            epochs=settings.dense_epochs if settings.method == "dense" else settings.epochs,
            teacher=teaching,
            units=self.model.unit_families if structured else (),
            peers=self.peers,
        )
        torch.manual_seed(settings.seed)  # dropout does not depend on how many numbers the layers drew
        if found is not None and found.state["trainer"] is not None:
            trainer.load(found.tensors(self.origin), found.state["trainer"])
        return trainer, model

    def _save(self, trainer: Trainer | None) -> None:
        """Write a checkpoint; without a trainer, one of the dense model alone."""
        tensors = {f"dense.{name}": tensor for name, tensor in teacher.flatten(self.dense).items()}
        state = {
            "fingerprint": self.key,
            "phase": "train" if trainer is None else trainer.phase,
            "step": 0 if trainer is None else trainer.step,
            "seconds": self._seconds_now(),
            "trainer": None if trainer is None else trainer.state(),
        }
        more = {} if trainer is None else trainer.tensors()
        path = checkpoint.save(self.folder, tensors | more, state, self.origin)
        asked = teacher.teaches_live(self.task, self.settings) or not self._all_answered()
        needs = []
        if state["phase"] == "train" and "dense" in self.phases and asked:
            needs = [f"{teacher.FOLDER}/{teacher.WEIGHTS}"]
        self.emit(
            {
                "type": "checkpoint",
                "path": path.relative_to(self.folder).as_posix(),
                "step": state["step"],
                "phase": state["phase"],
                "bytes": path.stat().st_size,
                "needs": needs,
            }
        )

    def _answers(self, model: transformers.PreTrainedModel, rows: Mapping[str, Sequence[Row]]) -> dict[str, Answers]:
        """Answers to all of ``rows`` but the training rows."""
        return {
            name: self.task.predict(model, self.rows[name] if name in self.rows else self.task.encode(found))
            for name, found in rows.items()
            if name != "train"
        }

    def _untrained(self, trainer: Trainer, model: transformers.PreTrainedModel) -> dict[str, Answers]:
        """Answers of the base model as it comes, with which a run is compared that fine-tunes no dense one: no layer
        has learned or pruned anything yet."""
        with frozen(trainer.sites), autocast(self.device, self.settings, training=False):
            return self._answers(model, self.raw_rows if self.quick else self.needed)

    def _metrics(self, answers: dict[str, Answers]) -> dict[str, Any]:
        seed = self.settings.seed
        return {
            name: self.task.metrics(answers[name], self.raw_rows[name], seed) if name in answers else None
            for name in ("validation", "test")
        }

    def _report(
        self,
        trainer: Trainer,
        model: transformers.PreTrainedModel,
        matrices: list[MergedMatrix],
        answers: dict[str, Answers],
        known: dict[str, Answers],
        sizes: huggingface.Exported,
        verified: dict[str, Any] | None,
    ) -> dict[str, Any]:
        split = "test" if "test" in answers else "validation"
        pruned_from = sum(site.layer.weight.numel() for site in trainer.sites)
        kept = sum(matrix.nonzeros for matrix in matrices)
        plan, state = self.plan, state_of(model, described(model, self.spec.task))
        others = sum(t.numel() for t in state.values()) - sum(state[matrix.name].numel() for matrix in matrices)
        prunes = METHODS[self.settings.method].prunes
        wanted = sum(group.weights * self.sparsity[group.name] for group in plan.groups) / plan.prunable_params
        result = {
            "task": self.task.name,
            "primary": self.task.primary,
            "method": self.settings.method,
            "labels": list(self.task.labels),
            "settings": {name: getattr(self.settings, name) for name in TrainSettings.__dataclass_fields__},
            "plan": plan.to_dict() | {"sparsity_by_group": self.sparsity},
            "seed": self.settings.seed,
            "rows": {name: len(rows) for name, rows in self.rows.items()},
            "metrics": self._metrics(answers),
            "dense": self._metrics(known),
            "agreement": self.task.agreement(answers[split], known[split]),
            "agreement_split": split,
            "confusion": None,
            "errors": None,
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
                "trainable": self.trained,
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
        if self.task.name == "classification":
            logits, labels, rows = answers[split]["logits"], self.spec.labels, self.raw_rows[split]
            result["confusion"] = confusion(split, labels, logits, rows)
            result["errors"] = wrong_rows(split, labels, logits, known[split]["logits"], rows)
        if self.task.name == "generation":
            texts = self.task.texts(answers[split]), self.task.texts(known[split])  # type: ignore[attr-defined]
            result["samples"] = [
                {"source": row.text, "references": list(row.references), "text": ours, "dense": theirs}
                for row, ours, theirs in zip(self.raw_rows[split][:SAMPLES], *texts, strict=False)
            ]
        return result
