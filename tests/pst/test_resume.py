"""Whatever stops a run, and however often: what was trained survives, nothing is trained twice, and the weights are
those of a run that nothing stopped. Each attempt begins in an empty folder, with what a platform would hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pst import pipeline
from pst.files import packing
from pst.training import checkpoint, trainer, watching
from tests.pst.conftest import toy_rows, write_base, write_job, write_rows

FEW: dict[str, Any] = {"epochs": 3, "dense_epochs": 2, "evaluations": 3, "batch_size": 8}
ROWS = 24
Step = tuple[str, int]


class Killed(BaseException):
    """As SIGKILL: nothing is written any more."""


@dataclass
class Platform:
    """What is kept between attempts: the checkpoint that came furthest, and the files that it needs."""

    files: dict[str, bytes] = field(default_factory=dict)
    place: tuple[int, int] = (-1, -1)

    def take(self, folder: Path, event: dict[str, Any]) -> None:
        place = checkpoint.place(event)
        if place >= self.place:
            names = {checkpoint.RESUME: event["path"], **{name: name for name in event["needs"]}}
            self.files = {name: (folder / path).read_bytes() for name, path in names.items()}
            self.place = place

    def give(self, folder: Path) -> None:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


@dataclass
class Runs:  # its text is short: hypothesis writes it
    base: Path
    root: Path
    trained: list[Step] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    count: int = 0

    def attempt(self, platform: Platform | None, stop: tuple[str, int] | None) -> Path | None:
        """One attempt, which is paused, or killed, after so many checkpoints; its folder where it came to its end."""
        self.count += 1
        folder = write_job(self.root / str(self.count), self.base, **FEW)
        write_rows(folder / "data/train.jsonl", toy_rows(ROWS, 1))
        if platform is not None:
            platform.give(folder)
        seen = 0

        def emit(event: dict[str, Any]) -> None:
            nonlocal seen
            if event["type"] != "checkpoint":
                return
            seen += 1
            self.sizes.setdefault(event["phase"], []).append(event["bytes"])
            if platform is not None:
                platform.take(folder, event)
            if stop is not None and stop[0] == "kill" and seen > stop[1]:
                raise Killed

        def should_stop() -> bool:
            return stop is not None and stop[0] == "pause" and seen >= stop[1]

        try:
            pipeline.run(folder, emit=emit, should_stop=should_stop, quick=True)
        except (Killed, pipeline.Stopped):
            return None
        return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    torch.set_num_threads(1)
    base = write_base(tmp_path_factory.mktemp("base"), unused=[f"word{index}" for index in range(400)])
    made = Runs(base, tmp_path_factory.mktemp("runs"))
    optimise = trainer.Trainer.optimise

    def noted(self: trainer.Trainer) -> None:
        made.trained.append((self.phase, self.step))
        optimise(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "optimise", noted)
        for name in ("CHECKPOINT_SECONDS", "DENSE_CHECKPOINT_SECONDS"):
            patch.setattr(watching, name, 0.0)
        patch.setattr(watching, "CHECKPOINT_SHARE", float("inf"))  # a checkpoint after every step
        yield made


@pytest.fixture(scope="module")
def whole(runs: Runs) -> tuple[bytes, list[Step]]:
    """The weights and the steps of a run that nothing stopped."""
    runs.trained.clear()
    folder = runs.attempt(None, None)
    assert folder is not None
    return (folder / "export/model.safetensors").read_bytes(), list(runs.trained)


STOPS = st.lists(st.tuples(st.sampled_from(["pause", "kill"]), st.integers(0, 9)), min_size=1, max_size=4)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(stops=STOPS)
def test_stops_lose_nothing_and_train_nothing_twice(
    runs: Runs, whole: tuple[bytes, list[Step]], stops: list[tuple[str, int]]
) -> None:
    platform = Platform()
    runs.trained.clear()
    folder = next((done for stop in stops if (done := runs.attempt(platform, stop))), None)
    folder = folder or runs.attempt(platform, None)
    assert folder is not None
    assert (folder / "export/model.safetensors").read_bytes() == whole[0]
    assert runs.trained == whole[1]
    assert len(platform.files) <= 2
    assert len(list((folder / checkpoint.FOLDER).iterdir())) <= checkpoint.KEEP


def test_a_dense_phase_that_is_run_again_takes_nothing_from_the_train_phase(
    runs: Runs, whole: tuple[bytes, list[Step]]
) -> None:
    """In one folder, from which somebody removed the dense model: paused twice, first in the train phase, then in the
    dense phase that had to be repeated."""
    folder = write_job(runs.root / "twice", runs.base, **FEW)
    write_rows(folder / "data/train.jsonl", toy_rows(ROWS, 1))
    runs.trained.clear()

    def until(*last: Step) -> Callable[[], bool]:
        return lambda: runs.trained[-len(last) :] == list(last)

    with pytest.raises(pipeline.Stopped):
        pipeline.run(folder, emit=lambda event: None, should_stop=until(("train", 4)), quick=True)
    shutil.rmtree(folder / "dense")
    with pytest.raises(pipeline.Stopped):
        pipeline.run(folder, emit=lambda event: None, should_stop=until(("dense", 1), ("dense", 2)), quick=True)
    pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False, quick=True)
    steps = [step for step in whole[1] if step[0] == "dense"]
    assert sorted(runs.trained) == sorted(whole[1] + steps)
    assert (folder / "export/model.safetensors").read_bytes() == whole[0]


def test_a_dense_checkpoint_is_smaller_than_its_four_copies_of_the_model(
    runs: Runs, whole: tuple[bytes, list[Step]]
) -> None:
    """Weights, the best ones and two moments: what the base model and the weights tell already is not stored."""
    model = (runs.base / "model.safetensors").stat().st_size
    assert max(runs.sizes["dense"]) < 2.5 * model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_packing_loses_no_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(3)
    known = torch.randn(90, 70, generator=draw).to(dtype)
    near = known.clone()
    near[:9] += 1e-3
    odd = torch.tensor([0.0, -0.0, float("inf"), float("nan"), 1e-40]).to(dtype).repeat(3000)
    tensors = {"near": near, "odd": odd, "same": known, "far": torch.randn(5000, generator=draw).to(dtype),
               "other": known[:50].clone(), "one": torch.tensor(2.5).to(dtype), "ids": torch.arange(9000)}  # fmt: skip
    likes = {"near": known, "same": known, "other": known, "odd": None}
    packing.save(tmp_path / "file.safetensors", tensors, {"step": 3}, likes.get)
    found = packing.load(tmp_path / "file.safetensors")
    assert found.state == packing.read_state(tmp_path / "file.safetensors") == {"step": 3}
    for name, tensor in tensors.items():
        got = found.tensor(name, likes.get(name))
        assert got.dtype == tensor.dtype and got.shape == tensor.shape
        assert torch.equal(got.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
    assert found.stored["same"].numel() < 300 and found.stored["near"].numel() < near.nbytes / 4
    with pytest.raises(ValueError, match="is not there"):
        found.tensor("near", None)
