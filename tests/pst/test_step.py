"""Micro-batches, memory, checkpointing and distillation of hidden states: a step is the same however it is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pst import machine
from pst.errors import PSTError
from pst.model import memory
from pst.training.distill import Teacher
from pst.training.trainer import Trainer
from tests.pst.trainers import make, model_of, settings_of


def exact(model: nn.Module) -> None:
    """float64, and nothing random."""
    model.double()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def gradients(trainer: Trainer, micro_batch: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the second batch, which has rows of many lengths."""
    trainer.model.train()
    trainer.train_step.micro_batch = micro_batch
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.begin()
    batches = trainer.train_step.micro_batches(trainer.course.rows(1))
    loss = torch.stack([trainer.train_step.backward(batch) for batch in batches]).sum()
    return loss, {name: p.grad.clone() for name, p in trainer.trained.items() if p.grad is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_weights": True, "distill_weight": 0.7},
        {"distill_hidden_weight": 3.0, "train_norms": True},
        {"method": "dense"},
    ],
)
@pytest.mark.parametrize("micro_batch", [1, 5, 8])
def test_micro_batches_add_up_to_the_batch(base: Path, changes: dict[str, Any], micro_batch: int) -> None:
    settings = settings_of(**changes)
    model = model_of(base, seed=1)
    exact(model)
    live = settings.distill_hidden_weight > 0
    teacher = Teacher(model=model) if live else Teacher(logits=torch.randn(64, 3, dtype=torch.float64))
    trainer = make(base, settings, change=exact, teacher=teacher)
    whole, wanted = gradients(trainer, 0)
    split, got = gradients(trainer, micro_batch)
    torch.testing.assert_close(split, whole, rtol=1e-6, atol=0)
    assert wanted.keys() == got.keys() == trainer.trained.keys()
    for name, gradient in wanted.items():  # losses are summed in float32, gradients keep more
        torch.testing.assert_close(got[name], gradient, rtol=2e-5, atol=1e-9, msg=name)


def test_a_padded_batch_is_the_batch(base: Path) -> None:
    trainer = make(
        base, settings_of(distill_hidden_weight=2.0), change=exact, teacher=Teacher(model=model_of(base, 1).double())
    )
    trainer.model.train()
    rows = trainer.course.rows(0)[:5]
    (plain,) = trainer.train_step.micro_batches(rows)
    padded = trainer.train_step.padded(rows, 32, 16)
    assert padded.inputs["input_ids"].shape == (16, 32)
    torch.testing.assert_close(trainer.train_step.loss(padded), trainer.train_step.loss(plain), rtol=1e-6, atol=0)


def test_hidden_states_are_learned(base: Path) -> None:
    model = model_of(base, seed=1)
    trainer = make(base, settings_of(epochs=6, distill_hidden_weight=10.0), teacher=Teacher(model=model))
    trainer.model.train()
    rows = list(range(16))

    def distance() -> float:
        with torch.no_grad():
            (batch,) = trainer.train_step.micro_batches(rows)
            trainer.begin()
            mine = trainer.model.eval()(**batch.inputs, output_hidden_states=True).hidden_states[1:]
            theirs = model(**batch.inputs, output_hidden_states=True).hidden_states[1:]
            mask = batch.inputs["attention_mask"].bool()
            parts = [
                ((a - b).square().sum(-1) / b.square().sum(-1))[mask].mean() for a, b in zip(mine, theirs, strict=True)
            ]
            (batch,) = trainer.train_step.micro_batches(rows)
            total = trainer.train_step.loss(batch)
            trainer.train_step.hidden = 0.0
            without = trainer.train_step.loss(batch)
            trainer.train_step.hidden = 10.0
            torch.testing.assert_close((total - without) / 10, torch.stack(parts).mean(), rtol=1e-4, atol=1e-6)
            return float(torch.stack(parts).mean())

    trainer.step = trainer.course.total - 1
    before = distance()
    trainer.step = 0
    trainer.run()
    trainer.step = trainer.course.total - 1
    assert distance() < 0.7 * before


def test_a_batch_that_does_not_fit_is_halved(base: Path) -> None:
    events: list[dict[str, Any]] = []
    settings = settings_of(epochs=1, gradient_checkpointing="off")
    whole = make(base, settings, change=exact)
    whole.run()
    tight = make(base, settings, change=exact, emit=events.append)
    backward, sizes = tight.train_step.backward, []

    def limited(batch: Any) -> Tensor:
        sizes.append(len(batch.gold))
        if len(batch.gold) > 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory")
        return backward(batch)

    tight.train_step.backward = limited  # type: ignore[method-assign]
    tight.run()
    assert sizes == [16, 8] + [4] * 16
    assert tight.state()["micro_batch"] == 4
    assert [e["message"] for e in events if e["type"] == "log"][-1].endswith("4 rows at once from now on.")
    for name, parameter in whole.trained.items():
        torch.testing.assert_close(tight.trained[name], parameter, rtol=1e-3, atol=1e-6)


def test_where_nothing_fits_activations_are_recomputed_and_then_it_is_an_error(base: Path) -> None:
    trainer = make(base, settings_of(epochs=1))

    def full(batch: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer.train_step.backward = full  # type: ignore[method-assign]
    with pytest.raises(PSTError, match="Not even one row fits the memory of the device"):
        trainer.run()
    assert trainer.train_step.checkpointing
    assert any(getattr(module, "gradient_checkpointing", False) for module in trainer.model.modules())
    assert all(p.grad is None for p in trainer.trained.values())


def test_other_errors_are_not_taken_for_a_lack_of_memory(base: Path) -> None:
    trainer = make(base, settings_of(epochs=1))

    def broken(batch: Any) -> Tensor:
        raise RuntimeError("shapes differ")

    trainer.train_step.backward = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer.run()


@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_recomputed_activations_give_the_same_gradients(base: Path, method: Any) -> None:
    plain = make(base, settings_of(method=method, gradient_checkpointing="off"))
    again = make(base, settings_of(method=method, gradient_checkpointing="on"))
    found = []
    for trainer in (plain, again):
        trainer.model.train()
        trainer.train_step.preflight()
        torch.manual_seed(5)
        found.append(gradients(trainer, 0)[1])
    assert again.train_step.checkpointing and not plain.train_step.checkpointing
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_the_preflight_splits_where_memory_is_short(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(available: int, **changes: Any) -> tuple[int, bool]:
        monkeypatch.setattr(machine, "available_bytes", lambda: available)
        trainer = make(base, settings_of(**changes))
        trainer.model.train()
        before = torch.get_rng_state()
        trainer.train_step.preflight()
        assert torch.equal(torch.get_rng_state(), before)
        assert all(p.grad is None for p in trainer.trained.values())
        return trainer.train_step.micro_batch, trainer.train_step.checkpointing

    trainer = make(base, settings_of())
    trainer.model.train()
    fixed = memory.fixed_bytes(trainer.trained, trainer.model)
    (longest,) = memory.longest(trainer.course.lengths, 1)
    (batch,) = trainer.train_step._batches([[longest]])
    row = memory.kept_bytes(lambda: trainer.train_step.loss(batch), trainer.model)
    # Ten states of 32 floats a token in each of two blocks.
    assert row > 2 * 32 * 4 * 10 * trainer.course.lengths[longest]

    def room(rows: float) -> int:
        return int((fixed + rows * memory.WORKING * row) / memory.SHARE)

    assert chosen(room(16.1)) == (0, False)
    assert chosen(room(8.1)) == (8, False)
    assert chosen(room(4.1)) == (4, False)
    assert chosen(room(2.1), gradient_checkpointing="off") == (2, False)
    micro_batch, checkpointing = chosen(room(2.1))
    assert checkpointing and micro_batch in (2, 4)  # there are but two blocks
    assert chosen(0, micro_batch_size=3) == (3, False)
    with pytest.raises(PSTError, match="Not even one row fits"):
        chosen(0)


def test_what_is_free_is_known() -> None:
    assert 2**20 < machine.available_bytes() < 2**50


def test_a_trial_halves_until_it_fits() -> None:
    tried = []

    def trial(rows: int) -> None:
        tried.append(rows)
        if rows > 3:
            raise torch.OutOfMemoryError("no room")

    assert memory.rows_by_trial(trial, 20) == 2
    assert tried == [20, 10, 5, 2]
