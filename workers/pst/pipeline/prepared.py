"""Phase prepare: base model, plan, rows and what an earlier attempt left. What is wrong with the user's input comes up
here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pst import spec as specs
from pst import tasks
from pst.config import FrozenWeights
from pst.errors import PSTError
from pst.files.packing import Like, nothing
from pst.messages import Message
from pst.model.data import Encoded, Row, split_off
from pst.model.loading import LazyModel, TensorLocation, load_tokenizer, matched_specs, read_config
from pst.model.vocabulary import Vocabulary, trim
from pst.pipeline.context import Run
from pst.plan.families import ModelDescription, architecture
from pst.plan.planner import Plan
from pst.report.perturb import answers_needed, limit_of
from pst.tasks import Answers, Task
from pst.training import checkpoint, teacher

VALIDATION_SHARE = 0.2
TRIMMED_FOLDER = "trimmed"

Rows = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Prepared:
    """The model to start from, the plan, and the rows by split.

    ``needed`` are the rows to which the report wants answers, of at most ``limit`` a split where it perturbs texts;
    ``encoded`` are those of ``rows``.
    """

    base: Path
    model: ModelDescription
    task: Task
    plan: Plan
    sparsity: dict[str, float]
    rows: Rows
    encoded: Mapping[str, list[Encoded]]
    needed: Rows
    limit: int

    def answered(self, answers: Mapping[str, Answers]) -> bool:
        """Whether ``answers`` has all that is asked of a model."""
        return self.needed.keys() <= answers.keys()

    def asked(self, run: Run) -> Rows:
        """The rows that the sparse model must answer."""
        return self.rows if run.quick else self.needed


@dataclass(frozen=True)
class Resumed:
    """The fingerprints of this run and of its dense model, and the dense answers that an earlier attempt knew."""

    key: str
    dense_key: str
    answers: dict[str, Answers]


def prepare(run: Run) -> Prepared:
    """Raises :class:`PSTError` with a sentence for the user."""
    spec, settings = run.spec, run.settings
    base, model = spec.base_model, spec.describe(read_config(spec.base_model))
    architecture(model.config, spec.task)
    planned = None if settings.trim_vocabulary else specs.plan(spec, model)
    task = _task(run, base, model)
    train = task.read(spec.train)
    if spec.validation is None:
        classes, single = [task.classes_of(row) for row in train], task.name == "classification"
        train, validation = split_off(train, classes, VALIDATION_SHARE, settings.seed, single=single)
    else:
        validation = task.read(spec.validation)
    rows = {"train": train, "validation": task.held_out(validation)}
    if spec.test is not None:
        rows["test"] = task.held_out(task.read(spec.test))
    for warning in task.check(train, validation):
        run.log("warning", warning)
    encoded = {name: task.encode(found) for name, found in rows.items()}
    if planned is None:
        before = [row for found in encoded.values() for row in found]
        base, kept = _trimmed(run, before)
        held, model = int(model.config["vocab_size"]), spec.describe(read_config(base))
        task = _task(run, base, model)
        encoded = {name: task.encode(found) for name, found in rows.items()}
        kept.check(before, [row for found in encoded.values() for row in found])
        run.log("info", f"The vocabulary is trimmed from {held:,} to {len(kept.kept):,} tokens.")
        planned = specs.plan(spec, model)
    task.learn(encoded["train"], encoded["validation"])
    plan, sparsity = planned
    run.log(
        "info",
        f"{len(train)} training, {len(rows['validation'])} validation and {len(rows.get('test', []))} test rows; "
        f"{plan.prunable_params:,} of {plan.total_params:,} parameters can be pruned.",
    )
    limit = limit_of(task.name)
    needed = answers_needed(rows, settings.seed, limit)
    return Prepared(base, model, task, plan, sparsity, rows, encoded, needed, limit)


def _task(run: Run, base: Path, model: ModelDescription) -> Task:
    tokenizer = load_tokenizer(base)
    length = min(run.settings.max_length, int(tokenizer.model_max_length), model.max_tokens)
    return tasks.make(run.spec.task, run.spec.labels, tokenizer, length, run.settings, model.config)


def _trimmed(run: Run, rows: Sequence[Encoded]) -> tuple[Path, Vocabulary]:
    """A copy of the base model that lacks the tokens of no row."""
    spec = run.spec
    into = run.folder / (TRIMMED_FOLDER if run.peers.is_main else f"{TRIMMED_FOLDER}-{run.peers.rank}")
    return into, trim(spec.base_model, rows, spec.task, spec.labels, run.settings.seed, into)


def resume(run: Run) -> tuple[Resumed, dict[str, checkpoint.Checkpoint]]:
    """What an earlier attempt left, and the checkpoint of each phase that came furthest."""
    key, dense_key = run.spec.fingerprint(), teacher.fingerprint(run.spec)
    found = {phase: checkpoint.newest(run.folder, phase) for phase in checkpoint.PHASES}
    known = {str(phase): one for phase, one in found.items() if one is not None}
    for one in known.values():
        if one.state["fingerprint"] != key:
            raise PSTError(
                Message(
                    "The checkpoint {path} belongs to a run with other settings, rows or base model; remove it to "
                    "start over.",
                    path=one.path,
                )
            )
    if not known:
        return Resumed(key, dense_key, {}), {}
    last = max(known.values(), key=lambda one: checkpoint.place(one.state))
    run.clock.go_on(last.state["seconds"])
    kept = last.tensors(prefix="dense.")
    answers = teacher.unflatten({name.removeprefix("dense."): tensor for name, tensor in kept.items()})
    run.log("info", f"Going on from the checkpoint of step {last.state['step']}.")
    return Resumed(key, dense_key, answers), known


@dataclass(frozen=True)
class Base:
    """The base model on its way to the device, and what each of its tensors was in the file."""

    opened: LazyModel
    origin: Like


def open_base(run: Run, prepared: Prepared, frozen: FrozenWeights = "float32") -> Base:
    """Raises :class:`PSTError` where its tensors are not those that its config describes."""
    opened = prepared.task.open(prepared.base, run.settings.seed, TensorLocation(run.device, frozen, run.weights))
    matched_specs(opened.model, prepared.model)
    return Base(opened, nothing if run.weights is not None else opened.origin(prepared.base))
