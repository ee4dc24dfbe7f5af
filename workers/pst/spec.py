"""``spec.json``: what one run shall do. Read and checked here, whoever wrote it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from pst.config import SettingsError, TaskName, TrainSettings, from_dict
from pst.errors import PSTError
from pst.messages import Message
from pst.plan.families import ModelDescription
from pst.plan.methods import METHODS
from pst.plan.planner import MAX_SPARSITY, MIN_SPARSITY, Plan, Target
from pst.plan.planner import plan as make_plan

SPEC_FILE = "spec.json"
TASKS: tuple[TaskName, ...] = get_args(TaskName)
ROWS = ("train", "validation", "test")
BASE_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "sparse/*")
SCORE = ["score"]  # the one output of a regression's head


@dataclass(frozen=True)
class Spec:
    """A checked spec. Paths are absolute. ``planned`` is the whole plan where somebody has made it, ``groups`` its
    sparsities, or those alone that were asked for; None: they are planned."""

    base_model: Path
    task: TaskName
    labels: list[str]
    train: Path
    validation: Path | None
    test: Path | None
    settings: TrainSettings
    target: Target
    groups: dict[str, float] | None
    planned: Plan | None = None

    def describe(self, config: Mapping[str, Any]) -> ModelDescription:
        """The model with this ``config`` for the spec's task and labels."""
        return ModelDescription(config, self.task, len(self.labels))

    def fingerprint(self) -> str:
        """sha256 of what a checkpoint depends on: settings, rows and base model. Paths are left out: a retried run lies
        in another folder."""
        content = [self.task, self.labels, asdict(self.settings), asdict(self.target), self.groups, self.content()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def content(self) -> dict[str, str]:
        """sha256 of every file that a run learns from: rows, and the base model's config, tokenizer and weights."""
        rows = {name: path for name in ROWS if (path := getattr(self, name)) is not None}
        base = {
            path.relative_to(self.base_model).as_posix(): path
            for pattern in BASE_FILES
            for path in self.base_model.glob(pattern)
            if path.is_file()
        }
        return {name: _sha256(path.resolve()) for name, path in (rows | base).items()}


def _sha256(path: Path) -> str:
    found = path.stat()
    return _hashed(path, found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=1024)
def _hashed(path: Path, size: int, changed: int, number: int) -> str:
    """A file is read once as long as it stays the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> Spec:
    """Read ``folder/spec.json``. Raises :class:`PSTError` naming the entry that is wrong."""
    try:
        value = json.loads((folder / SPEC_FILE).read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise PSTError(Message("{path} can't be read: {error}", path=folder / SPEC_FILE, error=error)) from error
    if not isinstance(value, dict):
        raise PSTError(Message("spec.json must hold a JSON object."))
    task = value.get("task", "classification")
    if task not in TASKS:
        raise PSTError(
            Message(
                "spec.json: the task {task} is not known; known are {tasks}.", task=repr(task), tasks=", ".join(TASKS)
            )
        )
    try:
        settings = from_dict(_mapping(value, "settings"))
    except SettingsError as error:
        raise PSTError(Message("spec.json, settings: {error}", error=error)) from error
    base, train = _path(folder, value, "base_model"), _path(folder, value, "train")
    if base is None or train is None:
        raise PSTError(Message("spec.json must name base_model and train."))
    groups, planned = _plan(value)
    return Spec(
        base_model=base,
        task=task,
        labels=_labels(value, task),
        train=train,
        validation=_path(folder, value, "validation"),
        test=_path(folder, value, "test"),
        settings=settings,
        target=_target(value, settings),
        groups=groups,
        planned=planned,
    )


def plan(spec: Spec, model: ModelDescription) -> tuple[Plan, dict[str, float]]:
    """The plan and the sparsity of each group. The spec's own plan holds; the target is planned where it has none, and
    the sizes where they are not this model's: nobody knew how many tokens a trimmed vocabulary keeps. Sparsities in
    the spec override the plan's.

    Raises :class:`PSTError`: the family is unknown or has no class for the task, or the target can't be met.
    """
    planned = None if spec.settings.trim_vocabulary else spec.planned
    if planned is None or planned.weights() != model.weights():
        planned = make_plan(model, spec.target, storage_dtype=spec.settings.storage_dtype, settings=spec.settings)
    sparsity = planned.sparsities()
    if not METHODS[spec.settings.method].prunes:
        return planned, sparsity
    if spec.groups is not None:
        if set(spec.groups) != set(sparsity):
            raise PSTError(
                Message(
                    "spec.json: plan must give a sparsity for each of {sparsity}.", sparsity=", ".join(sorted(sparsity))
                )
            )
        sparsity = spec.groups
    return planned, sparsity


def _mapping(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    entry = value.get(name) or {}
    if not isinstance(entry, dict):
        raise PSTError(Message("spec.json: {name} must be an object.", name=name))
    return entry


def _path(folder: Path, value: Mapping[str, Any], name: str) -> Path | None:
    entry = value.get(name)
    if entry is None:
        return None
    if not isinstance(entry, str) or not entry:
        raise PSTError(Message("spec.json: {name} must be a path.", name=name))
    return (folder / entry).resolve()


def _labels(value: Mapping[str, Any], task: TaskName) -> list[str]:
    labels = value.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise PSTError(Message("spec.json: labels must be a list of strings."))
    if task == "generation":
        return []
    if task == "regression":
        return SCORE
    least = 2 if task == "classification" else 1
    if len(labels) < least or len(set(labels)) != len(labels):
        words = {1: "one label", 2: "two different labels"}[least]
        raise PSTError(Message("spec.json: labels must hold at least {words}, each once.", words=words))
    return labels


def _target(value: Mapping[str, Any], settings: TrainSettings) -> Target:
    entry = _mapping(value, "target")
    known = {item.name for item in fields(Target)}
    for name, number in entry.items():
        if name not in known:
            raise PSTError(
                Message(
                    "spec.json: target {name} is not known; known are {known}.",
                    name=repr(name),
                    known=", ".join(sorted(known)),
                )
            )
        if name == "groups":
            _shares("target groups", number or {})
        elif number is not None and not _is_number(number):
            raise PSTError(Message("spec.json: target {name} must be a number.", name=name))
    if not METHODS[settings.method].prunes and not any(entry.values()):
        return Target(sparsity=MIN_SPARSITY)  # such a run prunes nothing, whatever its target
    return Target(**entry)


def _plan(value: Mapping[str, Any]) -> tuple[dict[str, float] | None, Plan | None]:
    """The sparsities that the entry asks for, and the whole plan where it holds one."""
    entry = _mapping(value, "plan")
    if not entry:
        return None, None
    if not isinstance(entry.get("groups"), list):
        return _shares("plan", entry), None
    try:
        planned = Plan.from_dict(entry)
    except ValueError as error:
        raise PSTError(Message("spec.json: plan {entry} is missing or of a wrong kind.", entry=str(error))) from error
    return _shares("plan", planned.sparsities()), planned


def _shares(name: str, entry: Any) -> dict[str, float]:
    if not isinstance(entry, dict):
        raise PSTError(Message("spec.json: {name} must be an object.", name=name))
    for group, share in entry.items():
        if not _is_number(share) or not 0 <= share <= MAX_SPARSITY:
            raise PSTError(
                Message(
                    "spec.json: {name} {group} must be between 0 and {most}, not {share}.",
                    name=name,
                    group=group,
                    most=MAX_SPARSITY,
                    share=repr(share),
                )
            )
    return {group: float(share) for group, share in entry.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
