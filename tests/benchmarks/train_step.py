"""One training step on a CPU at MiniLM's size (6 layers of 384), 90 % sparse, batch 32 x 64 tokens: PST against dense
full fine-tuning and the authors' layer.

    PYTHONPATH=workers:. python -m tests.benchmarks.train_step [--authors FILE] [--repeats 7] [--threads 2]

FILE is the authors' sparse.py (AliceMind, S4/PST/pst), which this project does not contain. A step is selection,
forward, loss, backward, clipping, AdamW and, in the default recipe, the average of what is trained. The ways take turns
in one process: each figure is the median of its turns, with the least and the most. ``cpu_ms`` is the processor time of
all threads, which other programs disturb less. Peak memory is that of a process that does three steps one way and
nothing else, less what such a process needs before it has a model. "pst": as published; "recipe": the default settings,
without a teacher. With "32" in float32, as the authors' layer runs, else in bfloat16 where the processor computes with
it; each is compared with dense of its format.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pst.training.trainer import Trainer
from tests.benchmarks.gpu_layer import SPARSITY, authors_layer
from tests.benchmarks.gpu_timing import show
from tests.benchmarks.gpu_train_step import trainer_of

WAYS = ("dense32", "pst32", "authors", "dense", "pst", "recipe")
STEPS_FOR_MEMORY = 3


def at_the_end(trainer: Trainer) -> Callable[[], None]:
    """One step at the final sparsity."""
    trainer.model.train()
    trainer.train_step.preflight()
    trainer.step = trainer.course.total - 100

    def step() -> None:
        trainer.optimise()
        trainer.step += 1
        trainer.average.add(trainer.trained, trainer.step - trainer.course.first_final - 1)

    return step


def with_their_layers(path: Path) -> Callable[[], None]:
    """One step of the same model with the authors' layers, U, V, A, B, R, C and the head trained."""
    trainer = trainer_of("dense", torch.device("cpu"), precision="float32")
    model = trainer.model.requires_grad_(False)
    for parent in list(model.bert.encoder.modules()):  # type: ignore[union-attr]
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                layer = authors_layer(path, child.weight.detach())
                layer.weight.requires_grad_(False)
                setattr(parent, name, layer)
    model.classifier.requires_grad_(True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    trainer.model.train()
    trainer.train_step.optimizer = optimizer
    trainer.train_step.trained = {str(i): parameter for i, parameter in enumerate(trained)}
    state = {"at": 0}

    def step() -> None:
        rows = trainer.course.rows(state["at"])
        state["at"] += 1
        trainer.train_step.step(rows, lambda: None, lambda loss: None)

    return step


def way(name: str, authors: Path | None) -> Callable[[], None]:
    if name == "authors":
        assert authors is not None
        return with_their_layers(authors)
    if name == "recipe":
        return at_the_end(trainer_of("recipe", torch.device("cpu"), distill=False, distill_hidden_weight=0.0))
    precision = "float32" if name.endswith("32") else "auto"
    return at_the_end(trainer_of(name.removesuffix("32"), torch.device("cpu"), precision=precision))


def peak() -> int:
    """Most bytes that this process has held. (``getrusage`` would count the parent's, too.)"""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def memory(name: str, authors: Path | None, threads: int) -> int:
    """Bytes, measured in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.train_step", "--child", name, "--threads", str(threads)]
    extra = [] if authors is None else ["--authors", str(authors)]
    done = subprocess.run([*command, *extra], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def child(name: str, authors: Path | None) -> None:
    before = peak()
    step = way(name, authors)
    for _ in range(STEPS_FOR_MEMORY):
        step()
    print(json.dumps({"peak": peak() - before}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--authors", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--child", choices=WAYS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        child(options.child, options.authors)
        return
    names = [name for name in WAYS if name != "authors" or options.authors]
    show(torch=torch.__version__, threads=options.threads, sparsity=SPARSITY)
    steps = {name: way(name, options.authors) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.repeats + 1):
        for name, step in steps.items():
            begin, used = time.perf_counter(), time.process_time()
            step()
            if turn:  # the first makes the optimiser's state
                times[name].append(time.perf_counter() - begin)
                processor[name].append(time.process_time() - used)
    del steps
    for name in names:
        rival = "dense" if name in ("dense", "pst", "recipe") else "dense32"
        base, base_used = statistics.median(times[rival]), statistics.median(processor[rival])
        median = statistics.median(times[name])
        show(
            way=name,
            ms=1000 * median,
            least=1000 * min(times[name]),
            most=1000 * max(times[name]),
            of_dense=median / base,
            cpu_ms=1000 * statistics.median(processor[name]),
            cpu_of_dense=statistics.median(processor[name]) / base_used,
            peak_mib=memory(name, options.authors, options.threads) / 2**20,
        )


if __name__ == "__main__":
    main()
