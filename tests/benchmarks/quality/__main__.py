"""Accuracy of sparse models by task, method, sparsity and seed, with MiniLM-L6.

    python -m tests.benchmarks.quality prepare --data $SPARSEWRIGHT_DATA --base MINILM quality.safetensors
    python -m tests.benchmarks.quality run quality.safetensors results.jsonl [--tasks trec ...] [--methods pst ...]
    python -m tests.benchmarks.quality table results.jsonl

The same for the product's own pipeline with MPNet-base, e5-small and SmolLM2 (:mod:`tests.models` makes the folders):

    python -m tests.benchmarks.quality rows --data $SPARSEWRIGHT_DATA rows
    python -m tests.benchmarks.quality pipeline rows others.jsonl --base mpnet=FOLDER [--base e5=FOLDER ...]
    python -m tests.benchmarks.quality table others.jsonl

Every method has the same rows, steps and batches. Its rate is searched over three values (four where the lowest won),
on the validation split, for each task and sparsity: at 90 % with all seeds, else with seed 1. ``run`` goes on where it
was stopped: what is in the results is not run again (the teachers are, where a method learns from them). Several
experiments share one process and one launch: see :mod:`tests.benchmarks.quality.model`.
tests/pst/test_quality_benchmark.py holds its masks, losses, gradients and averages to the library's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path

import torch

from pst.config import TrainSettings
from tests.benchmarks.quality import pipeline
from tests.benchmarks.quality.data import TASKS, prepare, read
from tests.benchmarks.quality.model import base_params
from tests.benchmarks.quality.train import Experiment, Rows, Run

DEFAULT = TrainSettings()
AS_PUBLISHED = replace(
    DEFAULT, distill=False, hold_ratio=0.0, activation_power=0.0, threshold="matrix", average_decay=0.0
)
METHODS: dict[str, tuple[TrainSettings, tuple[float, ...]]] = {
    "dense": (replace(AS_PUBLISHED, method="dense"), (1e-4, 2e-4, 4e-4)),
    "teacher": (replace(AS_PUBLISHED, method="dense"), (DEFAULT.dense_learning_rate,)),
    "pst": (DEFAULT, (1e-3, 2e-3, 4e-3)),
    "pst, mask every 4": (replace(DEFAULT, mask_every=4), (1e-3, 2e-3, 4e-3)),
    "pst, mask every 16": (replace(DEFAULT, mask_every=16), (1e-3, 2e-3, 4e-3)),
    "published": (replace(AS_PUBLISHED, update_rank=8, score_rank=8, init_scale=1.0), (2.5e-4, 5e-4, 1e-3, 2e-3)),
    "magnitude": (replace(AS_PUBLISHED, method="magnitude"), (1e-4, 2e-4, 4e-4)),
    "movement": (replace(AS_PUBLISHED, method="movement"), (1e-4, 2e-4, 4e-4)),
    "l0": (replace(AS_PUBLISHED, method="l0", dense_learning_rate=2e-4), (3e-2, 1e-1, 3e-1)),
    "magnitude+": (replace(DEFAULT, method="magnitude"), (1e-4, 2e-4, 4e-4)),
}
"""Name: settings and searched rates. "published" is PST as its paper has it: unit variance, ranks 8 and 8, a threshold
for each matrix, no teacher. "magnitude+" is magnitude with full fine-tuning under our teacher, schedule and pooling.
"teacher" is the dense model that our recipe learns from, trained for as many steps as the product's defaults say.
For pst the rate is that of U, V and of the scores; for l0 that of the gates; else that of the weights."""
PLAIN = ("dense", "magnitude", "movement", "l0")
"""Full fine-tuning with one rate for all, the head too."""
SPARSITIES = (0.5, 0.9, 0.99)
SEEDS = (1, 2, 3)


def experiments(method: str, sparsities: Sequence[float]) -> list[Experiment]:
    """What is run for one method on one task, in one stack."""
    rates = METHODS[method][1]
    if METHODS[method][0].method == "dense":
        return [Experiment(rate, 0.0, seed) for rate in rates for seed in SEEDS]
    full = [Experiment(rate, 0.9, seed) for rate in rates for seed in SEEDS if 0.9 in sparsities]
    return full + [Experiment(rate, s, SEEDS[0]) for s in sparsities if s != 0.9 for rate in rates]


def run(source: Path, target: Path, tasks: Sequence[str], methods: Sequence[str], sparsities: Sequence[float]) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    splits, weights = read(source)
    base = base_params(weights, device)
    lines = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    done = {(line["task"], line["method"], line["rate"], line["sparsity"], line["seed"]) for line in lines}
    for task in tasks:
        missing = {
            name: [e for e in experiments(name, sparsities) if (task, name, *astuple(e)) not in done]
            for name in methods
        }
        missing = {name: planned for name, planned in missing.items() if planned}
        taught = any(METHODS[name][0].distill for name in missing)
        rows = {name: Rows.of(split, device) for name, split in splits[task].items()}
        steps = TASKS[task][3] * (len(rows["train"].ids) // DEFAULT.batch_size)
        teacher = None
        for name in dict.fromkeys([*(["teacher"] if taught else []), *missing]):
            planned = missing.get(name) or experiments(name, sparsities)
            taken = steps if name != "teacher" else round(steps * pipeline.DENSE_SHARE)
            begin = time.monotonic()
            trial = Run(base, rows, METHODS[name][0], planned, taken, teacher, plain=name in PLAIN)
            results = trial.run(keep=name == "teacher")
            if name == "teacher":
                teacher = trial.kept
            if name in missing:
                with target.open("a") as file:
                    for experiment, result in zip(planned, results, strict=True):
                        line = {"task": task, "method": name, "steps": taken, **asdict(experiment), **_prefixed(result)}
                        file.write(json.dumps(line) + "\n")
            sys.stdout.write(f"{task} {name}: {len(planned)} runs of {taken} steps, {time.monotonic() - begin:.1f} s\n")
            sys.stdout.flush()


def _prefixed(result: object) -> dict[str, float]:
    found = asdict(result)  # type: ignore[call-overload]
    return {"reached" if key == "sparsity" else key: value for key, value in found.items()}


def _best_rate(pairs: Sequence[tuple[float, float]]) -> float:
    by_rate: dict[float, list[float]] = defaultdict(list)
    for rate, score in pairs:
        by_rate[rate].append(score)
    return max(by_rate, key=lambda rate: statistics.mean(by_rate[rate]))


def table(source: Path) -> str:
    """Markdown: test accuracy at the rate that is best on validation, mean and range over the seeds."""
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    if lines and "base" in lines[0]:
        return pipeline.table(lines)
    cells: dict[tuple[str, float, str], list[dict[str, float]]] = defaultdict(list)
    for line in lines:
        cells[line["method"], line["sparsity"], line["task"]].append(line)
    tasks = [task for task in TASKS if any(key[2] == task for key in cells)]
    rows = [f"| method | sparsity | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 3) + "|"]
    keys = sorted({key[:2] for key in cells}, key=lambda key: (key[1], list(METHODS).index(key[0])))
    for method, sparsity in keys:
        words, means = [], []
        for task in tasks:
            found = cells.get((method, sparsity, task))
            if not found:
                words.append("-")
                continue
            best = _best_rate([(line["rate"], line["validation"]) for line in found])
            tests = [100 * line["test"] for line in found if line["rate"] == best]
            means.append(statistics.mean(tests))
            spread = f" ({min(tests):.1f} to {max(tests):.1f})" if len(tests) > 1 else ""
            words.append(f"{means[-1]:.1f}{spread}")
        mean = f"{statistics.mean(means):.2f}" if len(means) == len(tasks) else "-"
        rows.append(f"| {method} | {sparsity:.0%} | {' | '.join(words)} | {mean} |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="quality", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("prepare", help="tokenise the tasks into one file")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--base", type=Path, required=True)
    one.add_argument("target", type=Path)
    two = commands.add_parser("run", help="run what is not in the results yet")
    two.add_argument("source", type=Path)
    two.add_argument("target", type=Path)
    two.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    usual = [name for name, (settings, _) in METHODS.items() if settings.mask_every == 1]
    two.add_argument("--methods", nargs="+", choices=METHODS, default=usual)
    two.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    three = commands.add_parser("table", help="print the results as a table")
    three.add_argument("source", type=Path)
    four = commands.add_parser("rows", help="write the rows of the pipeline's tasks into a folder")
    four.add_argument("--data", type=Path, required=True)
    four.add_argument("--bases", nargs="+", choices=pipeline.PLAN, default=list(pipeline.PLAN))
    four.add_argument("target", type=Path)
    five = commands.add_parser("pipeline", help="run what is not in the results yet through the product's pipeline")
    five.add_argument("rows", type=Path)
    five.add_argument("target", type=Path)
    five.add_argument("--base", action="append", required=True, metavar="NAME=FOLDER", type=_named)
    five.add_argument("--tasks", nargs="+", default=[])
    five.add_argument("--work", type=Path, default=Path("quality-work"))
    five.add_argument("--processes", type=int, default=1)
    five.add_argument("--steps", type=int, default=pipeline.STEPS)
    five.add_argument("--methods", nargs="+", choices=pipeline.METHODS, default=[])
    five.add_argument("--rates", type=int, default=pipeline.RATES, help="of a method, that are searched")
    five.add_argument("--seconds", type=float, default=math.inf, help="after which nothing more is begun")
    options = parser.parse_args(arguments)
    if options.command == "prepare":
        prepare(options.data, options.base, options.target)
    elif options.command == "run":
        run(options.source, options.target, options.tasks, options.methods, options.sparsities)
    elif options.command == "rows":
        pipeline.write_rows(options.data, options.target, options.bases)
    elif options.command == "pipeline":
        bases = dict(options.base)
        pipeline.run(
            bases,
            options.rows,
            options.work,
            options.target,
            tasks=options.tasks,
            methods=options.methods,
            processes=options.processes,
            steps=options.steps,
            rates=options.rates,
            seconds=options.seconds,
        )
    else:
        sys.stdout.write(table(options.source))
    return 0


def _named(value: str) -> tuple[str, Path]:
    name, _, folder = value.partition("=")
    if name not in pipeline.PLAN or not folder:
        raise argparse.ArgumentTypeError(f"{value!r} must be one of {', '.join(pipeline.PLAN)}, =, and a folder")
    return name, Path(folder)


if __name__ == "__main__":
    sys.exit(main())
