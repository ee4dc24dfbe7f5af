"""Predicted against measured: the peak memory of training at MiniLM's size, rows of 64 tokens, on a GPU or else a CPU.

    PYTHONPATH=workers:. python -m tests.benchmarks.training_memory [--rows 8 32] [--threads 1]

Each figure is the peak of a process of its own that does three steps, an evaluation and one step more. On a GPU it is
that of torch's tensors. On a CPU it is less what such a process holds once it has trained a tiny model: code that the
first step loads, about 27 MiB. glibc is told to give freed memory back (MALLOC_MMAP_THRESHOLD_); without that,
which ``--plain`` measures, a process holds much more than it uses.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import torch
from transformers import BertConfig

from pst.plan import families
from pst.plan.training_memory import training_memory
from tests.benchmarks.gpu_timing import show
from tests.benchmarks.gpu_train_step import LABELS, SIZES, trainer_of
from tests.benchmarks.train_step import at_the_end, peak

WAYS = ("dense", "magnitude", "pst", "recipe")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TINY = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 12, "intermediate_size": 48}


def train(way: str, rows: int, checkpointing: str) -> None:
    """Three steps at the final sparsity, an evaluation, and one step more."""
    trainer = trainer_of(way, DEVICE, batch_size=rows, gradient_checkpointing=checkpointing, micro_batch_size=rows)
    step = at_the_end(trainer)
    for turn in range(4):
        if turn == 3:
            trainer.evaluate()
        step()


def measure(way: str, rows: int, checkpointing: str) -> int:
    with mock.patch.dict(SIZES, TINY):
        train(way, 2, checkpointing)
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        train(way, rows, checkpointing)
        return torch.cuda.max_memory_allocated()
    before = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak so far
    train(way, rows, checkpointing)
    return peak() - before


def predict(way: str, rows: int, checkpointing: str) -> dict[str, int]:
    config = BertConfig(**SIZES).to_dict()
    trainer = trainer_of(way, torch.device("cpu"), batch_size=rows, gradient_checkpointing=checkpointing)
    specs, gpu = families.ModelDescription(config, labels=len(LABELS)).tensors, DEVICE.type == "cuda"
    needs = training_memory(config, specs, trainer.settings, "classification", gpu=gpu)
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
