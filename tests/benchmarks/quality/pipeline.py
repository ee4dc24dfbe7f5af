"""The product's own pipeline on larger models and on generation: what `pst train` gives, on the same rows for every
method.

    rows/TASK/{train,validation,test}.jsonl, task.json        written by ``rows``, small enough to travel
    work/BASE-TASK-METHOD-SPARSITY-RATE/                      a run's folder; its export and checkpoints are dropped

Rates are searched at 90 % on the validation split, and the winner is used at the other sparsities. The first task's
runs come first, then what is searched of the other tasks, then their other sparsities. Texts are generated for 600
sources of a test split at most.
"""

from __future__ import annotations

import gzip
import json
import math
import multiprocessing
import random
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from pst.config import TrainSettings
from tests.benchmarks.quality.data import chosen_splits

SEED = 1
BATCH = 32
SEARCHED = 0.9
STEPS, RATES = 350, 2
DENSE_SHARE = TrainSettings().dense_epochs / TrainSettings().epochs
"""Steps of the dense model that is learned from, in those of its student."""
GENERATED = 600
LONGEST = 450  # characters of source and target to learn from: several runs then share a card's memory
CARD = 0.9  # of a card's memory, the rest is for what a process takes beside torch's tensors
FULL_RATES = {"mpnet": (5e-5, 1e-4), "e5": (1e-4, 2e-4), "smollm2": (5e-5, 1e-4)}
LOW_RANK_RATES = {"pst": (1e-3, 2e-3), "lora": (1e-3, 2e-3), "published": (5e-4, 1e-3)}
PLAIN = {"distill": False, "hold_ratio": 0.0, "threshold": "matrix", "average_decay": 0.0, "compare_dense": False}
AS_PUBLISHED = {**PLAIN, "activation_power": 0.0, "update_rank": 8, "score_rank": 8, "init_scale": 1.0}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dense": ("dense", PLAIN),
    "pst": ("pst", {}),
    "published": ("pst", AS_PUBLISHED),
    "magnitude": ("magnitude", PLAIN),
    "lora": ("lora", PLAIN),
}
"""Name: the product's method and what differs from its default settings."""
PLAN: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[float, ...]]]] = {
    "mpnet": (
        ("trec", "sst2", "banking10", "mrpc", "rte"),
        {"dense": (0.0,), "pst": (0.5, 0.9, 0.99), "published": (0.9,), "magnitude": (0.5, 0.9, 0.99)},
    ),
    "e5": (
        ("eprstmt", "ocnli"),
        {"dense": (0.0,), "pst": (0.5, 0.9, 0.99), "published": (0.9,), "magnitude": (0.5, 0.9, 0.99)},
    ),
    "smollm2": (
        ("rnnlg", "webnlg"),
        {"dense": (0.0,), "lora": (0.0,), "pst": (0.5, 0.9, 0.99), "magnitude": (0.9,)},
    ),
}
"""Base model: its tasks, and the sparsities of each method."""

Object = dict[str, Any]


def _chinese(path: Path, count: int | None) -> list[Object]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = [
        {
            "text": line.get("sentence", line.get("sentence1")),
            "text_pair": line.get("sentence2"),
            "label": line["label"],
        }
        for line in lines
        if line["label"] != "-"  # OCNLI: the annotators did not agree
    ]
    random.Random(0).shuffle(rows)
    return rows[:count]


def _pairs(rows: Sequence[Object], count: int | None) -> list[Object]:
    """``count`` sources with all their references, in a seeded order."""
    by_source: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_source[row["source"]] += row["references"]
    sources = list(by_source)
    random.Random(0).shuffle(sources)
    return [{"source": one, "target": by_source[one][0], "references": by_source[one]} for one in sources[:count]]


def _rnnlg(path: Path) -> list[Object]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{"source": line["mr"], "references": [line["ref"]]} for line in lines]


def _webnlg(path: Path) -> list[Object]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [{"source": " ; ".join(line["triples"]), "references": line["refs"]} for line in lines]


def _splits(task: str, data: Path) -> dict[str, list[Object]]:
    """The rows of each split: about 1,000 to learn from, 200 to choose by, the data set's own test split."""
    if task == "eprstmt":
        at = data / "fewclue-eprstmt"
        names = {"train": "train_few_all", "validation": "dev_few_all", "test": "test_public"}
        return {split: _chinese(at / f"{name}.json", None) for split, name in names.items()}
    if task == "ocnli":
        rows = _chinese(data / "ocnli/train.3k.json", None)
        return {"train": rows[:2400], "validation": rows[2400:], "test": _chinese(data / "ocnli/dev.json", None)}
    if task == "rnnlg":
        at = data / "rnnlg-restaurant"
        known = {name: _rnnlg(at / f"{name}.jsonl") for name in ("train", "valid", "test")}
    elif task == "webnlg":
        known = {
            name: _webnlg(data / f"webnlg/{at}.jsonl.gz")
            for name, at in (("train", "train"), ("valid", "dev"), ("test", "test"))
        }
    else:
        found = chosen_splits(task, data)
        return {
            split: [{"text": text, "text_pair": pair, "label": f"{label:03d}"} for text, pair, label in rows]
            for split, rows in found.items()
        }
    short = [row for row in _pairs(known["train"], None) if len(row["source"]) + len(row["target"]) <= LONGEST]
    return {
        "train": short[:1000],
        "validation": _pairs(known["valid"], 200),
        "test": _pairs(known["test"], GENERATED),
    }


def write_rows(data: Path, folder: Path, bases: Sequence[str]) -> None:
    """Write the rows of every task of ``bases`` to ``folder``."""
    for base in bases:
        for task in PLAN[base][0]:
            at = folder / task
            at.mkdir(parents=True, exist_ok=True)
            splits = _splits(task, data)
            for split, rows in splits.items():
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                (at / f"{split}.jsonl").write_text(text, "utf-8")
            generation = "source" in splits["train"][0]
            labels = [] if generation else sorted({row["label"] for row in splits["train"]})
            about = {"task": "generation" if generation else "classification", "labels": labels}
            (at / "task.json").write_text(json.dumps(about | {"rows": len(splits["train"])}), "utf-8")


@dataclass(frozen=True)
class Case:
    """One run of the product."""

    base: str
    task: str
    method: str
    sparsity: float
    rate: float


def _first(base: str, task: str, rates: int) -> Iterator[Case]:
    """What is run first: every method at 90 %, or without pruning, at each of the first ``rates`` rates."""
    for method, sparsities in PLAN[base][1].items():
        for rate in LOW_RANK_RATES.get(method, FULL_RATES[base])[:rates]:
            yield Case(base, task, method, SEARCHED if SEARCHED in sparsities else 0.0, rate)


def _taught(case: Case) -> bool:
    """Whether it learns from the dense model, which the first such run of a task makes for all."""
    return bool(METHODS[case.method][1].get("compare_dense", True))


def _then(case: Case) -> Iterator[Case]:
    """The other sparsities at the rate that won."""
    for sparsity in PLAN[case.base][1][case.method]:
        if sparsity != case.sparsity:
            yield replace(case, sparsity=sparsity)


def run_case(case: Case, base: Path, rows: Path, work: Path, steps: int, processes: int = 1) -> Object:
    """Run the product on one case in this process, one of several on a card; returns a line of results."""
    import torch

    from pst import pipeline
    from pst import spec as specs
    from pst.pipeline import trained
    from pst.training import teacher

    torch.set_num_threads(1)
    if cards := torch.cuda.device_count():
        torch.cuda.set_per_process_memory_fraction(CARD / -(-processes // cards))
    about = json.loads((rows / case.task / "task.json").read_text("utf-8"))
    generation = about["task"] == "generation"
    epochs = steps * BATCH / about["rows"]
    method, settings = METHODS[case.method]
    full = method in ("dense", "magnitude")
    low_rank_rate = {} if full else {"learning_rate": case.rate, "score_learning_rate": case.rate}
    values = {
        **settings,
        **low_rank_rate,
        "method": method,
        "seed": SEED,
        "batch_size": BATCH,
        "epochs": epochs,
        "dense_epochs": epochs if method == "dense" else epochs * DENSE_SHARE,
        "dense_learning_rate": case.rate if full else FULL_RATES[case.base][0],
        "max_length": 192 if generation else 128,
        "max_target_length": 160,
        "dense_file": False,
    }
    folder = work / f"{case.base}-{case.task}-{case.method}-{case.sparsity}-{case.rate}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec = {
        "base_model": str(base.resolve()),
        "task": about["task"],
        "labels": about["labels"],
        "settings": values,
        "target": {"sparsity": case.sparsity} if case.sparsity else {},
        **{split: str((rows / case.task / f"{split}.jsonl").resolve()) for split in ("train", "validation", "test")},
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    pool = work / teacher.fingerprint(specs.read(folder))  # runs of one task learn from one dense model
    if pool.is_dir():
        shutil.copytree(pool, folder / teacher.FOLDER)
    begin = time.monotonic()
    # What the untouched base model says is in no table, and would take as long as what the tuned one says.
    with mock.patch.object(trained, "untrained", lambda *arguments: {}):
        report = pipeline.run(folder, emit=_warn, should_stop=lambda: False, quick=True)
    if (folder / teacher.FOLDER).is_dir() and not pool.is_dir():
        (folder / teacher.FOLDER).rename(pool)
    shutil.rmtree(folder)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    primary = report["primary"]
    return {
        **asdict(case),
        "steps": report["steps"],
        "reached": report["sparsity"]["reached"],
        "metric": primary,
        "validation": report["metrics"]["validation"][primary],
        "test": report["metrics"]["test"][primary],
        "bytes": report["bytes"]["sparse"],
        "trainable": report["params"]["trainable"],
        "seconds": round(time.monotonic() - begin, 1),
        "tests": {key: value for key, value in report["metrics"]["test"].items() if isinstance(value, (int, float))},
    }


def _warn(event: Mapping[str, Any]) -> None:
    if event["type"] == "log" and event["level"] == "warning":
        sys.stdout.write(f"{event['message']}\n")


def run(
    bases: Mapping[str, Path],
    rows: Path,
    work: Path,
    target: Path,
    *,
    tasks: Sequence[str] = (),
    methods: Sequence[str] = (),
    processes: int = 1,
    steps: int = STEPS,
    rates: int = RATES,
    seconds: float = math.inf,
) -> None:
    """Run what is not in ``target`` yet, several processes at once: a small model leaves most of a card idle. No case
    starts after ``seconds``. A case that fails is told, and the others go on."""
    begin = time.monotonic()
    lines = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    done = {_case(line): line for line in lines}
    planned = [(base, task) for task in tasks or _tasks(bases) for base in bases if task in PLAN[base][0]]
    waiting: list[tuple[int, int, Case]] = []
    known: set[Case] = set()
    context = multiprocessing.get_context("spawn")
    pending: dict[Future[Object], Case] = {}

    def want(case: Case, order: int) -> None:
        if case in known or (methods and case.method not in methods):
            return
        known.add(case)
        if case in done:
            settle(case)
        else:
            place = planned.index((case.base, case.task))
            waiting.append((order if place else 0, place, case))
            waiting.sort(key=lambda one: one[:2])  # stable

    def settle(case: Case) -> None:
        """Start what waits for this one: the other rates, for its dense model; once all rates of the first sparsity
        are known, the other sparsities."""
        rivals = [one for one in _first(case.base, case.task, rates) if one.method == case.method]
        for rival in rivals:
            want(rival, 0)
        if case in rivals and all(one in done for one in rivals):
            for other in _then(max(rivals, key=lambda one: done[one]["validation"])):
                want(other, 1)

    for base, task in planned:
        first: set[str] = set()
        for case in _first(base, task, rates):
            if not (_taught(case) and case.method in first):
                want(case, 0)
            first.add(case.method)
    shares = ProcessPoolExecutor(processes, mp_context=context, initializer=_take_card, initargs=(context.Value("i"),))
    with shares as pool, target.open("a") as file:
        while pending or waiting:
            while waiting and len(pending) < processes and time.monotonic() - begin < seconds:
                case = waiting.pop(0)[2]
                pending[pool.submit(run_case, case, bases[case.base], rows, work, steps, processes)] = case
            if not pending:
                sys.stdout.write(f"{len(waiting)} known cases were not begun\n")
                break
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                case = pending.pop(future)
                name = " ".join(map(str, asdict(case).values()))
                if future.exception() is not None:
                    said = repr(future.exception())
                else:
                    line = done[case] = future.result()
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                    said = f"{line['test']:.4f} in {line['seconds']} s"
                sys.stdout.write(f"{name}: {said}\n")
                sys.stdout.flush()
                settle(case)


def _take_card(taken: Any) -> None:
    """Let this process see one of the machine's cards, each in turn; ``taken`` counts the processes."""
    import torch

    with taken.get_lock():
        place, taken.value = taken.value, taken.value + 1
    if cards := torch.cuda.device_count():
        torch.cuda.set_device(place % cards)


def _tasks(bases: Iterable[str]) -> list[str]:
    return [task for base in bases for task in PLAN[base][0]]


def _case(line: Mapping[str, Any]) -> Case:
    return Case(**{name: line[name] for name in Case.__dataclass_fields__})


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, one table for each base model: the test metric at the rate that is best on validation."""
    parts = []
    for base, (tasks, methods) in PLAN.items():
        found = [line for line in lines if line["base"] == base]
        shown = [task for task in tasks if any(line["task"] == task for line in found)]
        if not shown:
            continue
        metrics = {line["task"]: line["metric"] for line in found}
        head = " | ".join(f"{task}, {metrics[task]}" for task in shown)
        rows = [f"| {base} | sparsity | {head} |", "|---" * (len(shown) + 2) + "|"]
        for sparsity in (0.0, 0.5, 0.9, 0.99):
            for method in methods:
                cells = [_cell(found, task, method, sparsity) for task in shown]
                if any(cells):
                    rows.append(f"| {method} | {sparsity:.0%} | {' | '.join(one or '-' for one in cells)} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _cell(lines: Sequence[Mapping[str, Any]], task: str, method: str, sparsity: float) -> str:
    wanted = (task, method, sparsity)
    found = [line for line in lines if (line["task"], line["method"], line["sparsity"]) == wanted]
    if not found:
        return ""
    best = max(found, key=lambda line: line["validation"])
    return f"{best['test'] * (1 if best['metric'] == 'bleu' else 100):.1f}"
