"""Calibration of PST's layers on a CPU: rows of one length at once and every masked weight computed once, against rows
one by one and every masked weight computed for each, as it was.

    PYTHONPATH=workers:. python -m tests.benchmarks.calibration BASE [--rows 128] [--repeats 3] [--threads 2]

BASE is the folder of a base model (MiniLM-L6). The rows are those of the shipped sample. ``cpu_s`` is the processor
time of all threads. Both ways must find the same scales of inputs.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pst import tasks
from pst.config import TrainSettings
from pst.layers.inject import calibrate, inject
from pst.model.data import Row, equal_length_batches
from pst.model.loading import load_tokenizer, matched_specs, open_model, read_config
from pst.plan.families import ModelDescription
from pst.training.trainer import CALIBRATED_AT_ONCE

SAMPLE = Path(__file__).parents[2] / "platform/hub/datasets/samples/support_desk/train.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings, config = TrainSettings(), read_config(options.base)
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    task = tasks.make("classification", ["a", "b"], load_tokenizer(options.base), 128, settings, config)
    rows = task.encode([Row(text, None) for text in texts[:: max(1, len(texts) // options.rows)][: options.rows]])
    model = open_model(options.base, "classification", ["a", "b"], 42).finish()
    modules = inject(model, matched_specs(model, ModelDescription(config, labels=2)), settings)

    def one_by_one() -> None:
        calibrate(model, modules, (task.collate([row])[0] for row in rows))

    batches = equal_length_batches([len(row.input_ids) for row in rows], CALIBRATED_AT_ONCE)

    def at_once() -> None:
        calibrate(model, modules, (task.collate([rows[place] for place in batch])[0] for batch in batches))

    ways: dict[str, Callable[[], None]] = {"one_by_one": one_by_one, "at_once": at_once}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scales: dict[str, list[torch.Tensor]] = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            seconds[name].append(time.process_time() - begin)
            scales[name] = [layer.input_scale.clone() for layer in (module.layer for module in modules)]  # type: ignore[union-attr,operator]
    equal = all(torch.equal(*both) for both in zip(*scales.values(), strict=True))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    result = {
        "rows": len(rows),
        "passes": {"one_by_one": len(rows), "at_once": len(batches)},
        "cpu_s": medians,
        "ratio": medians["one_by_one"] / medians["at_once"],
        "equal": equal,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
