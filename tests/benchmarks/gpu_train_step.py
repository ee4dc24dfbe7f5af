"""Whole training steps of a MiniLM-sized BERT classifier on a GPU, batch 32, 64 tokens: every method, captured as a
CUDA graph and launched kernel by kernel.

    PYTHONPATH=workers:. python -m tests.benchmarks.gpu_train_step [--steps 60] [--check] [METHOD ...]

Random weights and rows. A step is the trainer's: batch from the host, selection, forward, loss, backward, clipping and
AdamW. ``--check`` compares in float32, without dropout, the losses and trained tensors of both ways, and the counts of
kept weights; what a method draws at random (l0) is the same both ways. "scaled": layers that weigh their inputs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from pst import tasks
from pst.config import TrainSettings
from pst.layers.inject import inject, learning_rates
from pst.model.data import Encoded
from pst.plan import families
from pst.training.distill import Teacher
from pst.training.parallel import ALONE, Peers
from pst.training.trainer import Hooks, Trainer
from tests.benchmarks.gpu_timing import machine, show

SIZES: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
LABELS, ROWS, LENGTH = [f"label {i}" for i in range(6)], 1024, 64
METHODS = ["pst", "recipe", "magnitude", "movement", "l0", "smp", "wanda", "lora", "dense"]
PUBLISHED = {
    "threshold": "matrix",
    "activation_power": 0.0,
    "train_norms": False,
    "distill_hidden_weight": 0.0,
    "hold_ratio": 0.0,
    "warmup_fraction": 0.1,
    "initial_sparsity": 0.0,
    "cooldown_fraction": 0.3,
    "update_rank": 16,
    "score_rank": 8,
}
"""PST without what the default recipe adds."""


def trainer_of(
    method: str,
    device: torch.device,
    *,
    epochs: float = 20.0,
    dropout: float = 0.1,
    lengths: Sequence[int] = (LENGTH,),
    peers: Peers = ALONE,
    **changes: Any,
) -> Trainer:
    """A trainer at its first step; "recipe" is PST with the default settings, its teacher at hand."""
    if method == "recipe":
        method = "pst"
    else:
        changes = PUBLISHED | changes
    settings = TrainSettings(method=method, epochs=epochs, max_length=LENGTH, **changes)  # type: ignore[arg-type]
    config = BertConfig(**SIZES, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    config.num_labels = len(LABELS)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    teacher = Teacher()
    if settings.distill_hidden_weight:
        teacher = Teacher(model=BertForSequenceClassification(config).requires_grad_(False).to(device))  # type: ignore[arg-type]
    elif settings.distill and method != "dense":
        teacher = Teacher(logits=torch.randn(ROWS, len(LABELS)))
    specs = families.ModelDescription(config.to_dict(), labels=len(LABELS)).tensors
    model.to(device)  # type: ignore[arg-type]
    modules = inject(model, specs, settings)
    draw = random.Random(0)
    rows = [
        Encoded(
            [draw.randrange(1000, 20000) for _ in range(lengths[i % len(lengths)])], None, draw.randrange(len(LABELS))
        )
        for i in range(ROWS)
    ]
    task = tasks.make("classification", LABELS, SimpleNamespace(pad_token_id=0), LENGTH, settings, config.to_dict())
    task.learn(rows, rows[:64])
    rates = learning_rates(model, specs, settings)
    hooks = Hooks(lambda event: print(event, flush=True) if event["type"] == "log" else None, lambda: False, None)
    return Trainer(
        model, modules, rates, task, settings, dict.fromkeys(("attention", "ffn"), 0.9) if modules else {}, hooks,
        phase="train", epochs=epochs, teacher=teacher, peers=peers,
    )  # fmt: skip


def steps(trainer: Trainer, count: int) -> list[torch.Tensor]:
    """Losses of ``count`` further steps."""
    losses = []
    for _ in range(count):
        trainer.optimise()
        trainer.step += 1
        losses.append(trainer.losses.last.clone())
    return losses


def timed_steps(trainer: Trainer, count: int) -> dict[str, float]:
    """Median, least and most milliseconds a step over runs of ten steps each."""
    trainer.model.train()
    steps(trainer, 5)
    times = []
    for _ in range(max(1, count // 10)):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        steps(trainer, 10)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 100)
    return {"ms": statistics.median(times), "least": min(times), "most": max(times)}


def speed(method: str, count: int, device: torch.device) -> None:
    found = {}
    for way in ("eager", "graph"):
        trainer = trainer_of(method, device)
        begin = time.perf_counter()
        if way == "graph":
            trainer.capture()
            steps(trainer, 1)
        torch.cuda.synchronize()
        ready = time.perf_counter() - begin
        graphed = trainer.graphs is not None
        found[way] = timed_steps(trainer, count if way == "graph" else count // 3)
        show(method=method, way=way, graphed=graphed, ready_seconds=ready, **found[way])


def check(method: str, device: torch.device) -> None:
    """Prints the largest relative difference of 24 steps' losses, the schedule's rise included, of the trained tensors
    after them, and of the counts."""
    losses, trained = {}, {}
    for way in ("eager", "graph"):
        trainer = trainer_of(method, device, epochs=0.75, dropout=0.0, lengths=(64, 30, 17), precision="float32")
        trainer.model.train()
        if way == "graph":
            trainer.capture()
        losses[way] = torch.stack(steps(trainer, 24))
        trained[way] = torch.cat([parameter.detach().flatten() for parameter in trainer.trained.values()])
    wrong: Any = None
    if trainer.graphs is not None and trainer.graphs.selector is not None:
        selector, table = trainer.graphs.selector, trainer.graphs._counts
        assert table is not None
        wrong = 0
        for step in (0, 10, 20):
            with torch.no_grad(), selector.selected(table[step]):
                counts = [int((module.layer.masked() != 0).sum()) for module in trainer.modules]
            if selector.pooled:
                pools = dict.fromkeys(module.group for module in trainer.modules)
                counts = [sum(c for c, s in zip(counts, trainer.modules, strict=True) if s.group == g) for g in pools]
            wrong += sum(abs(a - b) for a, b in zip(counts, table[step].tolist(), strict=True))
    difference = ((losses["graph"] - losses["eager"]).abs() / losses["eager"].abs()).max()
    apart = (trained["graph"] - trained["eager"]).norm() / trained["eager"].norm()
    show(
        check=method,
        graphed=trainer.graphs is not None,
        loss_differs=float(difference),
        trained_differ=float(apart),
        counts_differ=wrong,
        scaled=sum(getattr(module.layer, "input_scale", None) is not None for module in trainer.modules),
        first=float(losses["graph"][0]),
        last=float(losses["graph"][-1]),
    )


def attempt(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        traceback.print_exc()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    show(**machine())
    device = torch.device("cuda")
    for method in options.methods:
        if options.check:
            attempt(lambda method=method: check(method, device))  # type: ignore[misc]
        attempt(lambda method=method: speed(method, options.steps, device))  # type: ignore[misc]


if __name__ == "__main__":
    main()
