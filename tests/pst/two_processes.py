"""What :mod:`tests.pst.test_parallel` runs in two processes, and in one: ``torchrun -m tests.pst.two_processes``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pst.__main__ import main
from pst.export import verify
from pst.training import parallel
from pst.training.distill import Teacher
from pst.training.parallel import ALONE, Peers, joined
from pst.training.trainer import Stopped, Trainer
from tests.pst.runs import PASSED
from tests.pst.trainers import make, model_of, settings_of

CASES: dict[str, dict[str, Any]] = {
    # 7 batches of 9 rows and one of a single row, of which the second process gets none
    "pst": {"batch_size": 9, "epochs": 1, "class_weights": True, "distill_hidden_weight": 3.0},
    "magnitude": {"method": "magnitude", "epochs": 2, "micro_batch_size": 3},
}


def exact(model: nn.Module) -> None:
    """float64, and nothing random."""
    model.double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def case(name: str, base: Path, peers: Peers = ALONE) -> Trainer:
    """The trainer of a case after its run."""
    model = model_of(base, seed=3).double()
    teacher = Teacher(model=model) if name == "pst" else Teacher()
    settings = settings_of(evaluations=3, **CASES[name])
    trainer = make(base, settings, teacher=teacher, change=exact, peers=peers)
    trainer.run()
    return trainer


def resumed(base: Path, peers: Peers) -> Iterator[Trainer]:
    """With dropout: a trainer that ran through, and one that went on where another stopped, because the second process
    was asked to."""
    settings = settings_of(epochs=2, mask_every=3)
    whole = make(base, settings, peers=peers)
    whole.run()
    yield whole
    kept: list[tuple[dict[str, Tensor], dict[str, Any]]] = []
    asked = iter([False] * 4 + [True])

    def keep(trainer: Trainer) -> None:
        kept.append(({name: tensor.clone() for name, tensor in trainer.tensors().items()}, trainer.state()))

    first = make(base, settings, peers=peers, should_stop=lambda: next(asked) and peers.rank == 1, save=keep)
    try:
        first.run()
    except Stopped:
        assert first.step == 4
    second = make(base, settings, peers=peers)
    second.load(*kept[-1])
    second.run()
    yield second


def write(folder: Path, name: str, trainer: Trainer) -> None:
    tensors = {key: tensor for key, tensor in trainer.tensors().items() if key != "rng"}
    state = {**trainer.state(), "checkpointing": None}
    save_file(tensors, folder / f"{name}-{trainer.peers.rank}.safetensors", {"state": json.dumps(state)})


def _run(folder: Path, base: Path) -> int:
    torch.set_num_threads(1)
    with joined() as peers:
        for name in CASES:
            write(folder, name, case(name, base, peers))
        for name, trainer in zip(("whole", "resumed"), resumed(base, peers), strict=True):
            write(folder, name, trainer)
        verify.elsewhere = lambda *arguments: PASSED
        parallel.joined = lambda: nullcontext(peers)  # type: ignore[assignment,return-value]  # nobody can join twice
        return main(["train", str(folder / "job")])


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1]), Path(sys.argv[2])))
