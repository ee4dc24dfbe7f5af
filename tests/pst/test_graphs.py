"""What a captured step needs from the host. The graphs themselves run on a GPU only: tests/benchmarks/gpu_train_step.py
compares them with the steps they replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pst.graphs import GraphedSteps, _padded, can_capture
from pst.masks import kept_count
from tests.pst.trainers import make, settings_of


def test_lengths_are_padded_to_few() -> None:
    assert [_padded([length], 64) for length in (1, 16, 17, 63)] == [16, 16, 32, 64]
    assert _padded([3, 30, 20], 28) == 28  # never beyond the longest row
    assert _padded([3, 30, 20]) == 30
    assert _padded([(3, 20), (18, 5)], (64, 24)) == (32, 24)


def test_only_small_models_on_a_gpu_are_captured(base: Path) -> None:
    trainer = make(base, settings_of())
    assert not can_capture(trainer.model, torch.device("cpu"))
    assert can_capture(trainer.model, torch.device("cuda"))


@pytest.mark.parametrize("threshold", ["matrix", "global"])
def test_counts_of_every_step_are_known_beforehand(base: Path, threshold: str) -> None:
    trainer = make(base, settings_of(threshold=threshold, epochs=3))
    steps = GraphedSteps.__new__(GraphedSteps)
    steps.stepper, steps.total = trainer.stepper, trainer.total
    table = steps._table(trainer.sites, trainer.sparsities)
    assert table.shape == (12, 12 if threshold == "matrix" else 2)
    for step in range(trainer.total):
        shares = trainer.sparsities(step)
        if threshold == "matrix":
            wanted = [kept_count(site.layer.weight.numel(), shares[site.group]) for site in trainer.sites]
        else:
            sizes = {"attention": 8 * 32 * 32, "ffn": 4 * 32 * 64}
            wanted = [kept_count(size, shares[group]) for group, size in sizes.items()]
        assert table[step].tolist() == wanted


def test_what_is_not_run_as_a_graph_is_told(base: Path) -> None:
    events: list[dict[str, Any]] = []
    trainer = make(base, settings_of(epochs=1), emit=events.append)

    class Failing:
        def step(self, *arguments: object) -> None:
            raise RuntimeError("operation not permitted when stream is capturing")

    trainer.graphs = Failing()  # type: ignore[assignment]
    trainer.stepper.preflight()
    trainer._optimise()
    assert trainer.graphs is None and trainer._loss > 0
    assert [event["level"] for event in events if event["type"] == "log"] == ["warning"]
    assert "not permitted when stream is capturing" in events[-1]["message"]
