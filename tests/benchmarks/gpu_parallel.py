"""Data parallel training of a MiniLM-sized BERT: several processes against one, on the same batches.

    PYTHONPATH=workers:. torchrun --standalone --nproc-per-node 2 -m tests.benchmarks.gpu_parallel [--steps 24]

One process a GPU, which speak through NCCL; without GPUs through gloo, slowly. First float32 without dropout: losses
and trained tensors of all processes together against those of the first alone, and equality between the processes bit
for bit. Then steps a second in the usual precision, kernel by kernel, and alone as a CUDA graph too, which several
processes can't use. The first process prints a JSON line for each.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from pst.training.parallel import ALONE, Peers, checksum, joined
from pst.training.trainer import Trainer
from tests.benchmarks.gpu_timing import machine, show
from tests.benchmarks.gpu_train_step import steps, trainer_of

METHODS = ("pst", "recipe", "dense")


def compare(method: str, count: int, device: torch.device, peers: Peers) -> None:
    """Prints the largest relative difference of a loss, and that of the trained tensors after ``count`` steps."""
    settings: dict[str, Any] = {"epochs": count / 32, "dropout": 0.0, "lengths": (64, 30, 17), "precision": "float32"}

    def trained(among: Peers) -> tuple[Trainer, torch.Tensor]:
        trainer = trainer_of(method, device, peers=among, **settings)
        trainer.model.train()
        losses = torch.stack(steps(trainer, count))
        return trainer, losses

    trainer, losses = trained(peers)
    found = checksum(trainer.trained, [module.layer.selection for module in trainer.modules])
    most, least = peers.all_reduce_max(found, -found)
    if peers.is_main:
        alone, wanted = trained(ALONE)
        parts = [torch.cat([p.detach().flatten() for p in one.trained.values()]) for one in (trainer, alone)]
        show(
            compare=method,
            processes=peers.size,
            steps=count,
            equal_between_processes=most == -least,
            loss_differs=float(((losses - wanted).abs() / wanted.abs()).max()),
            trained_differ=float((parts[0] - parts[1]).norm() / parts[1].norm()),
            largest_difference=float((parts[0] - parts[1]).abs().max()),
        )
    peers.barrier()


def speed(method: str, rows: int, count: int, device: torch.device, peers: Peers) -> None:
    """Prints steps a second over ``count`` steps of ``rows`` rows in all."""
    ways = [("together", peers), ("alone", ALONE)] + ([("alone, graph", ALONE)] if device.type == "cuda" else [])
    for way, among in ways:
        if among is ALONE and not peers.is_main:
            continue
        trainer = trainer_of(method, device, peers=among, batch_size=rows)
        trainer.model.train()
        if way.endswith("graph"):
            trainer.capture()
        steps(trainer, 3)
        settle(device)
        begin = time.perf_counter()
        steps(trainer, count)
        settle(device)
        if peers.is_main:
            rate = count / (time.perf_counter() - begin)
            processes = 1 if among is ALONE else peers.size
            show(speed=method, way=way, rows=rows, processes=processes, steps_a_second=rate, rows_a_second=rate * rows)
    peers.barrier()


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 256])
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    with joined() as peers:
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        if cuda and peers.is_main:
            show(**machine(), processes=peers.size)
        for method in options.methods:
            compare(method, options.steps, device, peers)
        for method in options.methods:
            for rows in options.rows:
                speed(method, rows, options.steps, device, peers)


if __name__ == "__main__":
    main()
