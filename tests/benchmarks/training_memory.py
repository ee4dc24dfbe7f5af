"""Predicted against measured: the peak memory of training on a CPU at MiniLM's size, rows of 64 tokens.

    PYTHONPATH=workers:. python -m tests.benchmarks.training_memory [--rows 8 32] [--threads 1]

Each figure is the peak of a process of its own that does three steps, an evaluation and one step more, less what such
a process needs before it has a model. glibc is told to give freed memory back (MALLOC_MMAP_THRESHOLD_); without that,
which ``--plain`` measures, a process holds much more than it uses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import torch
from transformers import BertConfig

from pst import families
from pst.training_memory import training_memory
from tests.benchmarks.gpu_timing import show
from tests.benchmarks.gpu_train_step import LABELS, SIZES, trainer_of
from tests.benchmarks.train_step import peak

WAYS = ("dense", "magnitude", "pst", "recipe")


def measure(way: str, rows: int, checkpointing: str) -> int:
    before = peak()
    trainer = trainer_of(
        way, torch.device("cpu"), batch_size=rows, gradient_checkpointing=checkpointing, micro_batch_size=rows
    )
    trainer.model.train()
    trainer.stepper.preflight()
    trainer.step = trainer.total - 100
    for turn in range(4):
        if turn == 3:
            trainer._evaluate()
        trainer._optimise()
        trainer.step += 1
    return peak() - before


def predict(way: str, rows: int, checkpointing: str) -> dict[str, int]:
    config = BertConfig(**SIZES).to_dict()
    trainer = trainer_of(way, torch.device("cpu"), batch_size=rows, gradient_checkpointing=checkpointing)
    needs = training_memory(config, families.tensors(config, len(LABELS)), trainer.settings, "classification")
    return {**vars(needs), "total": needs.total}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--child", nargs=3, metavar=("WAY", "ROWS", "CHECKPOINTING"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        way, rows, checkpointing = options.child
        print(json.dumps({"peak": measure(way, int(rows), checkpointing)}))
        return
    for way in WAYS:
        for rows in options.rows:
            for checkpointing in ("off", "on"):
                command = [sys.executable, "-m", "tests.benchmarks.training_memory", "--threads", str(options.threads)]
                child = [*command, "--child", way, str(rows), checkpointing]
                env = os.environ if options.plain else os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
                done = subprocess.run(child, env=env, capture_output=True, text=True, check=True)
                measured = int(json.loads(done.stdout.splitlines()[-1])["peak"])
                predicted = predict(way, rows, checkpointing)
                show(
                    way=way,
                    rows=rows,
                    checkpointing=checkpointing,
                    measured_mib=measured / 2**20,
                    predicted_mib=predicted["total"] / 2**20,
                    ratio=predicted["total"] / measured,
                    parts={name: round(value / 2**20) for name, value in predicted.items()},
                )


if __name__ == "__main__":
    main()
