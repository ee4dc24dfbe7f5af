"""Search over settings and targets by successive halving: many short runs, a few whole ones.

Each trial is a run of :mod:`pst.pipeline` in a folder of its own. All trials of a bracket run for a share of their
epochs; the best 1/eta of them run again for eta times as long, and so on until the last run whole, export and check
included (Jamieson and Talwalkar 2016, arXiv 1502.07943). A run of a share has its whole schedule in fewer steps, so
that its model has reached its sparsity and can be judged. Trials compete within a bracket only, those with the same
target and the same form on disk: against a sparser model, a less sparse one would nearly always win.

Only the validation metric decides. The dense phase, which trials share unless they search over its settings, is run
once. What is finished is in ``FOLDER/sweep/sweep.json`` and is not run again.

Legend: n trials of a bracket, R rungs; rung r = 0..R-1 runs max(1, floor(n / eta^r)) trials for a share eta^(r-R+1).
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pst import pipeline
from pst import spec as specs
from pst.config import SettingsError, TrainSettings, from_dict
from pst.errors import PSTError, TrainingError
from pst.model.loading import read_config as read_model_config
from pst.plan.planner import Target
from pst.training import checkpoint, teacher

FOLDER = "sweep"
RESULT_FILE = "sweep.json"
FORMAT, VERSION = "sparsewright-sweep", 1
MAX_TRIALS = 10_000
PATHS = ("base_model", "train", "validation", "test")
ON_DISK = ("structure", "storage_dtype", "embedding_storage", "quantize", "trim_vocabulary")
"""Settings that change the file's bytes: they belong to the bracket."""

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Search:
    """What to search over. ``values`` lists the values of each setting or part of the target; the trials are all their
    combinations, or ``trials`` of them drawn from ``seed``. Without ``rungs``, as many as leave one trial or a few."""

    values: Mapping[str, Sequence[Any]]
    trials: int | None = None
    eta: int = 3
    rungs: int | None = None
    seed: int = 0


@dataclass
class Trial:
    """One combination. ``rungs`` holds what its runs gave, the shortest first; ``state`` is waiting, stopped (left
    behind by better ones), finished or failed."""

    id: str
    values: dict[str, Any]
    bracket: dict[str, Any]
    state: str = "waiting"
    rungs: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def parse(assignments: Sequence[str]) -> dict[str, list[Any]]:
    """Values from ``name=a,b,c`` words; each value is read as JSON where it can be. Raises :class:`PSTError`."""
    values: dict[str, list[Any]] = {}
    for words in assignments:
        name, found, listed = words.partition("=")
        if not found or not name or not listed:
            raise PSTError(f"--set {words}: write it as name=value,value.")
        values[name] = [_value(word) for word in listed.split(",")]
    return values


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def read_search(path: Path) -> Search:
    """A JSON file ``{"values": {name: [..]}, "trials"?, "eta"?, "rungs"?, "seed"?}``. Raises :class:`PSTError`."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PSTError(f"The search in {path} can't be read: {error}.") from error
    known = {item.name for item in fields(Search)}
    if not isinstance(content, dict) or not isinstance(content.get("values"), dict):
        raise PSTError(f'{path} must hold an object with "values": for each name a list.')
    if odd := sorted(content.keys() - known):
        raise PSTError(f"{path}: {odd[0]!r} is not known; known are {', '.join(sorted(known))}.")
    return Search(**content)


def check(search: Search) -> Search:
    """``search`` itself. Raises :class:`PSTError` for a name that can't be searched over, or a number out of range."""
    settings, targets = ({item.name for item in fields(kind)} for kind in (TrainSettings, Target))
    if not search.values:
        raise PSTError("Name what to search over, as in --set update_rank=4,8,16.")
    for name, values in search.values.items():
        if name not in settings | targets:
            raise PSTError(f"{name!r} is neither a setting nor part of the target, so it can't be searched over.")
        if not isinstance(values, list) or not values:
            raise PSTError(f"{name}: give a list of at least one value.")
        if len({json.dumps(value) for value in values}) < len(values):
            raise PSTError(f"{name}: a value is there twice.")
    for name, least in (("trials", 1), ("eta", 2), ("rungs", 1), ("seed", 0)):
        number = getattr(search, name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
            raise PSTError(f"{name} must be a whole number of at least {least}, not {number!r}.")
    size = math.prod(len(values) for values in search.values.values())
    if search.trials is None and size > MAX_TRIALS:
        raise PSTError(f"There are {size:,} combinations; say with trials how many of them shall be drawn.")
    return search


def combinations(search: Search) -> list[dict[str, Any]]:
    """The values of each trial, in the order of the lists."""
    names, lists = list(search.values), list(search.values.values())
    size = math.prod(len(values) for values in lists)
    places: Iterator[int] | list[int] = iter(range(size))
    if search.trials is not None and search.trials < size:
        places = sorted(random.Random(search.seed).sample(range(size), search.trials))  # noqa: S311 (no secret)
    result = []
    for place in places:
        chosen = []
        for values in reversed(lists):
            place, at = divmod(place, len(values))
            chosen.append(values[at])
        result.append(dict(zip(names, reversed(chosen), strict=True)))
    return result


def rungs_of(trials: int, eta: int, rungs: int | None) -> list[tuple[int, float]]:
    """(trials, share of the epochs) of each rung; the last one's share is 1."""
    count = rungs or 1 + int(math.log(trials, eta) + 1e-9)
    return [(max(1, trials // eta**place), float(eta) ** (place - count + 1)) for place in range(count)]


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the (metric, bytes) that no other beats in one without losing in the other, smallest first."""
    best, result = -math.inf, []
    for name, (metric, _) in sorted(points.items(), key=lambda item: (item[1][1], -item[1][0])):
        if metric > best:
            best = metric
            result.append(name)
    return result


def run(folder: Path, search: Search, *, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Run what is not finished yet; returns the content of ``folder/sweep/sweep.json``.

    Raises :class:`pst.pipeline.Stopped` after ``should_stop()`` was true (the same call goes on from there), and
    :class:`PSTError` for a search or a spec that can't be run, before anything is trained.
    """
    return _Sweep(folder, check(search), emit, should_stop).run()


class _Sweep:
    def __init__(self, folder: Path, search: Search, emit: Emit, should_stop: Callable[[], bool]) -> None:
        self.folder, self.search, self.emit, self.should_stop = folder.resolve(), search, emit, should_stop
        self.at = self.folder / FOLDER
        self.spec = self._base_spec()
        self.key = hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()
        self.metric: str | None = None
        self.trials = [self._trial(values) for values in combinations(search)]
        self._take_over()

    def _base_spec(self) -> dict[str, Any]:
        """spec.json with absolute paths, so that a trial's folder can lie elsewhere."""
        specs.read(self.folder)  # its messages are better than any here
        content: dict[str, Any] = json.loads((self.folder / specs.SPEC_FILE).read_text("utf-8-sig"))
        for name in PATHS:
            if content.get(name) is not None:
                content[name] = str((self.folder / content[name]).resolve())
        return content

    def _spec_of(self, values: Mapping[str, Any], share: float) -> dict[str, Any]:
        targets = {item.name for item in fields(Target)}
        settings = dict(self.spec.get("settings") or {})
        settings |= {name: value for name, value in values.items() if name not in targets}
        aims = {name: value for name, value in values.items() if name in targets}
        # A searched part of the target takes the place of the spec's target, and of a plan that was made for it.
        result = self.spec | ({"target": aims, "plan": None} if aims else {})
        try:
            checked = from_dict(settings)
        except SettingsError as error:
            raise PSTError(f"The trial {_spoken(values)} can't be run: {error}") from error
        name = "dense_epochs" if checked.method == "dense" else "epochs"
        return result | {"settings": settings | {name: getattr(checked, name) * share}}

    def _trial(self, values: dict[str, Any]) -> Trial:
        """A trial, its spec checked as far as can be without training. Raises :class:`PSTError`."""
        name = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]
        at = self._write_spec(f"{name}-check", self._spec_of(values, 1.0))
        try:
            spec = specs.read(at)
            specs.plan(spec, spec.describe(read_model_config(spec.base_model)))
        except PSTError as error:
            raise PSTError(f"The trial {_spoken(values)} can't be run: {error}") from error
        finally:
            shutil.rmtree(at)
        form = {key: getattr(spec.settings, key) for key in ON_DISK if key in self.search.values}
        aims = {item.name: values[item.name] for item in fields(Target) if item.name in values}
        return Trial(name, values, aims | form)

    def _write_spec(self, name: str, content: dict[str, Any]) -> Path:
        at = self.at / "trials" / name
        at.mkdir(parents=True, exist_ok=True)
        (at / specs.SPEC_FILE).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        return at

    def _take_over(self) -> None:
        """Results of an earlier call with the same spec, as far as its trials are among these."""
        path = self.at / RESULT_FILE
        if not path.is_file():
            return
        try:
            content = json.loads(path.read_text("utf-8"))
            earlier = {trial["id"]: trial["rungs"] for trial in content["trials"]}
            key, self.metric = content["spec"], content["metric"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PSTError(f"{path} can't be read ({error}); remove it to start over.") from error
        if key != self.key:
            raise PSTError(f"{path} belongs to another spec.json; remove the folder {self.at} to start over.")
        for trial in self.trials:
            trial.rungs = list(earlier.get(trial.id, []))

    def run(self) -> dict[str, Any]:
        brackets: dict[str, list[Trial]] = defaultdict(list)
        for trial in self.trials:
            brackets[json.dumps(trial.bracket, sort_keys=True)].append(trial)
        plans = [(members, rungs_of(len(members), self.search.eta, self.search.rungs)) for members in brackets.values()]
        runs, done = sum(count for _, rungs in plans for count, _ in rungs), 0
        for members, rungs in plans:
            running = members
            for place, (_, share) in enumerate(rungs):
                for trial in running:
                    done += 1
                    self.emit({"type": "trial", "index": done, "of": runs, "share": share, "values": trial.values})
                    self._climb(trial, share, last=place == len(rungs) - 1)
                standing = sorted((t for t in running if t.state != "failed"), key=lambda t: _rank(t, share))
                kept = rungs[place + 1][0] if place + 1 < len(rungs) else len(standing)
                for number, trial in enumerate(standing):
                    if number >= kept:
                        trial.state = "stopped"
                running = standing[:kept]
            for trial in running:
                trial.state = "finished"
        return self._write()

    def _climb(self, trial: Trial, share: float, *, last: bool) -> None:
        """Run a trial for a share of its epochs, unless that has been done."""
        found = _at(trial, share, whole=last)
        if found is None:
            found = self._run(trial, share, last=last)
            trial.rungs = sorted([*trial.rungs, found], key=lambda rung: rung["share"])
            self._write()
        if found["error"] is not None:
            trial.state, trial.error = "failed", found["error"]

    def _run(self, trial: Trial, share: float, *, last: bool) -> dict[str, Any]:
        at = self._write_spec(f"{trial.id}-{share:.4f}".rstrip("0").rstrip("."), self._spec_of(trial.values, share))
        result: dict[str, Any] = {"share": share, "whole": last, "folder": at.relative_to(self.folder).as_posix()}
        self._lend_dense(at)
        try:
            report = pipeline.run(at, emit=self.emit, should_stop=self.should_stop, quick=not last)
        except TrainingError as error:
            shutil.rmtree(at / checkpoint.FOLDER, ignore_errors=True)
            return result | {"error": str(error)}
        finally:
            self._keep_dense(at)
        for name in (checkpoint.FOLDER, teacher.FOLDER, pipeline.VERIFY_FOLDER):
            shutil.rmtree(at / name, ignore_errors=True)
        if not last:  # a model of a short schedule is of no use; what it told is in the report
            shutil.rmtree(at / pipeline.EXPORT_FOLDER, ignore_errors=True)
        self.metric = report["primary"]
        scores = report["metrics"]["validation"]
        return result | {
            "error": None,
            "metric": scores[self.metric],
            "interval": scores["interval"],
            "bytes": report["bytes"]["sparse"],
            "nonzero": report["params"]["nonzero"],
            "sparsity": report["sparsity"]["reached"],
            "trainable": report["params"]["trainable"],
            "seconds": sum(report["seconds"].values()),
        }

    def _pool(self, at: Path) -> Path:
        return self.at / "dense" / teacher.fingerprint(specs.read(at))

    def _lend_dense(self, at: Path) -> None:
        """Give a trial the dense model's answers that an earlier one has left."""
        pool = self._pool(at)
        if pool.is_dir() and not (at / teacher.FOLDER).is_dir():
            shutil.copytree(pool, at / teacher.FOLDER)

    def _keep_dense(self, at: Path) -> None:
        pool, own = self._pool(at), at / teacher.FOLDER
        if (own / teacher.ANSWERS).is_file() and not pool.is_dir():
            shutil.copytree(own, pool)

    def _write(self) -> dict[str, Any]:
        whole = {trial.id: trial.rungs[-1] for trial in self.trials if trial.state != "failed" and _whole(trial)}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "spec": self.key,
            "metric": self.metric,
            "search": {item.name: getattr(self.search, item.name) for item in fields(Search)},
            "trials": [{item.name: getattr(trial, item.name) for item in fields(Trial)} for trial in self.trials],
            "front": front({name: (rung["metric"], rung["bytes"]) for name, rung in whole.items()}),
        }
        partial = self.at / f"{RESULT_FILE}.partial"
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        partial.replace(self.at / RESULT_FILE)
        return content


def _at(trial: Trial, share: float, *, whole: bool) -> dict[str, Any] | None:
    """What a run of this share gave; a rung that is the last one must have been run whole."""
    found = (rung for rung in trial.rungs if math.isclose(rung["share"], share) and (rung["whole"] or not whole))
    return next(found, None)


def _whole(trial: Trial) -> bool:
    return bool(trial.rungs) and trial.rungs[-1]["whole"] and trial.rungs[-1]["error"] is None


def _rank(trial: Trial, share: float) -> tuple[float, float, str]:
    """Best first: by the metric, then fewer bytes, then the name, so that ties don't depend on the order of runs."""
    rung = _at(trial, share, whole=False)
    if rung is None:
        raise RuntimeError(f"the trial {trial.id} has not been run for a share of {share}")
    return -rung["metric"], rung["bytes"], trial.id


def _spoken(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def table(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and lines for people: trials by state and metric, those of the front marked."""
    names = list(content["search"]["values"])
    metric = str(content["metric"] or "metric").replace("_", " ")
    head = [*names, f"validation {metric}", "95 % interval", "bytes", "sparsity", "seconds", "share", "state"]
    order = {"finished": 0, "stopped": 1, "waiting": 2, "failed": 3}
    lines = []
    for trial in sorted(content["trials"], key=lambda t: (order[t["state"]], *_last(t))):
        line = [str(trial["values"][name]) for name in names]
        rung = trial["rungs"][-1] if trial["rungs"] else None
        seconds = math.fsum(rung.get("seconds", 0.0) for rung in trial["rungs"])
        if rung is None or rung["error"] is not None:
            line += ["", "", "", "", f"{seconds:.0f}", "" if rung is None else f"{rung['share']:.3g}"]
        else:
            low, high = rung["interval"]
            line += [f"{rung['metric']:.4f}", f"{low:.4f} to {high:.4f}", f"{rung['bytes']:,}"]
            line += [f"{rung['sparsity']:.2%}", f"{seconds:.0f}", f"{rung['share']:.3g}"]
        mark = " *" if trial["id"] in content["front"] else ""
        lines.append([*line, trial["state"] + mark])
    return head, lines


def _last(trial: Mapping[str, Any]) -> tuple[float, float]:
    """The longest run first, then the best."""
    rung = trial["rungs"][-1] if trial["rungs"] else {}
    return -rung.get("share", 0.0), -rung.get("metric", -math.inf)


def parse_search(config: Path | None, assignments: Sequence[str], **numbers: int | None) -> Search:
    """The search of a command line: a file, words, or both; ``numbers`` that are not None override the file's."""
    search = read_search(config) if config is not None else Search({})
    given = {name: number for name, number in numbers.items() if number is not None}
    values = {**search.values, **parse(assignments)}
    rest = {item.name: getattr(search, item.name) for item in fields(Search) if item.name != "values"}
    return check(Search(values, **(rest | given)))
