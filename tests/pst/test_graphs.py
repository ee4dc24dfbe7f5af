"""What a captured step needs from the host. The graphs themselves run on a GPU only: tests/benchmarks/gpu_train_step.py
compares them with the steps they replace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pst.sparsity.masks import kept_count
from pst.training.graphs import MAX_SHAPES, GraphedSteps, _padded, can_capture
from tests.pst.tiny import DECODERS, ENCODERS, TWO_STACKS, tiny
from tests.pst.trainers import make, settings_of


def test_lengths_are_padded_to_few() -> None:
    assert [_padded([length], 64) for length in (1, 16, 17, 63)] == [16, 16, 32, 64]
    assert _padded([3, 30, 20], 28) == 28  # never beyond the longest row
    assert _padded([3, 30, 20]) == 30
    assert [_padded([length], 512) for length in (128, 129, 256, 257, 400)] == [128, 160, 256, 320, 448]
    assert len({_padded([length], 2048) for length in range(1, 2049)}) <= MAX_SHAPES
    assert _padded([(3, 20), (18, 5)], (64, 24)) == (32, 24)


def test_only_small_models_on_a_gpu_are_captured(base: Path) -> None:
    trainer = make(base, settings_of())
    assert not can_capture(trainer.model, torch.device("cpu"))
    assert can_capture(trainer.model, torch.device("cuda"))


@pytest.mark.parametrize("threshold", ["matrix", "global"])
def test_counts_of_every_step_are_known_beforehand(base: Path, threshold: str) -> None:
    trainer = make(base, settings_of(threshold=threshold, epochs=3))
    steps = GraphedSteps.__new__(GraphedSteps)
    steps.train_step, steps.total = trainer.train_step, trainer.course.total
    table = steps._table(trainer.modules, trainer.course.sparsities)
    assert table.shape == (12, 12 if threshold == "matrix" else 2)
    for step in range(trainer.course.total):
        shares = trainer.course.sparsities(step)
        if threshold == "matrix":
            wanted = [kept_count(module.layer.weight.numel(), shares[module.group]) for module in trainer.modules]
        else:
            sizes = {"attention": 8 * 32 * 32, "ffn": 4 * 32 * 64}
            wanted = [kept_count(size, shares[group]) for group, size in sizes.items()]
        assert table[step].tolist() == wanted


@pytest.mark.parametrize("method", ["pst", "l0"])
def test_a_graph_serves_both_phases_where_layers_compute_alike(base: Path, method: str) -> None:
    trainer = make(base, settings_of(method=method, epochs=2))
    asked = []

    class Graphs:
        def step(self, step: int, rows: object, variant: object) -> torch.Tensor:
            asked.append(variant)
            return torch.ones(())

    trainer.graphs = Graphs()  # type: ignore[assignment]
    for step in range(trainer.course.total):
        trainer.step = step
        trainer.optimise()
    assert set(asked) == ({False, True} if method == "l0" else {False})


@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS, *TWO_STACKS])
def test_a_captured_step_waits_for_no_tensor_from_the_host(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device any wait for a value raises, and so does a product with a tensor of the host's."""
    model = tiny(family, "classification" if family in ENCODERS else "generation").to("meta").train()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)  # transformers asks
    copied = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and args[0].device != result.device:
                copied.append(func)
            return result

    ids = torch.ones(2, 16, dtype=torch.long, device="meta")
    batch = SimpleNamespace(inputs={"input_ids": ids, "attention_mask": ids})
    if family in TWO_STACKS:
        batch.inputs["decoder_input_ids"] = ids
    steps = GraphedSteps.__new__(GraphedSteps)
    steps.selector, steps.device = None, torch.device("meta")
    steps.train_step = SimpleNamespace(backward=lambda batch: model(**batch.inputs).logits.sum().backward())  # type: ignore[assignment]
    with Watch():
        steps._backward(batch)  # type: ignore[arg-type]
    assert not copied


def test_what_is_not_run_as_a_graph_is_told(base: Path) -> None:
    events: list[dict[str, Any]] = []
    trainer = make(base, settings_of(epochs=1), emit=events.append)

    class Failing:
        def step(self, *arguments: object) -> None:
            raise RuntimeError("operation not permitted when stream is capturing")

    trainer.graphs = Failing()  # type: ignore[assignment]
    trainer.train_step.preflight()
    trainer.optimise()
    assert trainer.graphs is None and trainer.losses.last > 0
    assert [event["level"] for event in events if event["type"] == "log"] == ["warning"]
    assert "not permitted when stream is capturing" in events[-1]["message"]
