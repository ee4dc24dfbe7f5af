from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pst import checkpoint
from pst.base import load_classifier, load_tokenizer, matched_specs, read_config
from pst.config import TrainSettings
from pst.data import Row, encode
from pst.errors import PSTError, TrainingError
from pst.inject import inject, learning_rates
from pst.masks import kept_count, mask_of
from pst.schedule import cooldown_start
from pst.train import Hooks, Stopped, Task, Trainer, class_weights, loss_of
from tests.pst.conftest import LABELS, QUICK, toy_rows

SPARSITY = {"attention": 0.8, "ffn": 0.9}


def settings_of(**changes: Any) -> TrainSettings:
    return replace(TrainSettings(**QUICK), **changes)


def make(
    base: Path,
    settings: TrainSettings,
    *,
    emit: Callable[[dict[str, Any]], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    save: Callable[[Trainer], None] | None = None,
    teacher: Tensor | None = None,
    sparsity: dict[str, float] = SPARSITY,
) -> Trainer:
    model = load_classifier(base, LABELS, settings.seed)
    specs = matched_specs(model, read_config(base), len(LABELS))
    sites = inject(model, specs, settings)
    tokenizer = load_tokenizer(base)

    def rows(count: int, seed: int) -> Any:
        listed = [Row(row["text"], None, LABELS.index(row["label"])) for row in toy_rows(count, seed)]
        return encode(tokenizer, listed, 32)

    task = Task(rows(64, 1), rows(24, 3), len(LABELS), 0, torch.device("cpu"), teacher)
    rates = learning_rates(model, specs, settings)
    hooks = Hooks(emit, should_stop, save)
    torch.manual_seed(settings.seed)
    return Trainer(
        model, sites, rates, task, settings, sparsity if sites else {}, hooks, phase="train", epochs=settings.epochs
    )


@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_sparsity_is_exact_at_every_step(base: Path, method: Any) -> None:
    trainer = make(base, settings_of(method=method, epochs=4))
    seen = []
    forward = trainer.model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        if trainer.model.training:
            planned = trainer.sparsities(trainer.step)
            for site in trainer.sites:
                kept = int(mask_of(site.layer.scores(), site.layer.selection).sum())
                assert kept == kept_count(site.layer.weight.numel(), planned[site.group])
            seen.append(planned["ffn"])
        return forward(*args, **kwargs)

    trainer.model.forward = watched
    trainer.run()
    assert len(seen) == trainer.total == 16
    assert seen[0] == 0.0
    assert seen[cooldown_start(16, 0.3) :] == [0.9] * (16 - cooldown_start(16, 0.3))


def test_frozen_weights_are_bit_identical_and_the_rest_moves(base: Path) -> None:
    before = load_classifier(base, LABELS, 42).state_dict()
    trainer = make(base, settings_of(epochs=3))
    start = {name: parameter.detach().clone() for name, parameter in trainer.trained.items()}
    trainer.run()
    state = trainer.model.state_dict()
    for name, tensor in before.items():
        assert torch.equal(state[name], tensor) == (not name.startswith(("classifier", "bert.pooler"))), name
    assert all(not torch.equal(parameter, start[name]) for name, parameter in trainer.trained.items())


def test_learns_and_takes_its_best_from_the_final_sparsity_only(base: Path) -> None:
    events: list[dict[str, Any]] = []
    trainer = make(base, settings_of(epochs=12), emit=events.append)
    trainer.run()
    scored = [event for event in events if event["type"] == "metric"]
    final = [event for event in scored if event["step"] > cooldown_start(trainer.total, 0.3)]
    assert len(scored) == 6
    assert trainer.best_score is not None
    assert trainer.best_score[0] == max(event["value"] for event in final) > 0.45
    assert trainer.best_step in {event["step"] for event in final}
    assert [event["sparsity"] for event in final] == pytest.approx([(0.8 + 0.9) / 2] * len(final))
    progress = [event for event in events if event["type"] == "progress"]
    assert progress[0]["step"] == 1
    assert progress[-1]["step"] == progress[-1]["total_steps"] == trainer.total
    assert progress[-1]["loss"] < progress[0]["loss"]
    trainer.load_best()
    assert all(torch.equal(parameter, trainer.best[name]) for name, parameter in trainer.trained.items())


def test_a_better_score_at_a_lower_sparsity_is_not_taken(base: Path) -> None:
    events: list[dict[str, Any]] = []
    crushed = {"attention": 0.99, "ffn": 0.99}
    settings = settings_of(epochs=12, evaluations=12, warmup_fraction=0.6, cooldown_fraction=0.2)
    trainer = make(base, settings, emit=events.append, sparsity=crushed)
    trainer.run()
    scored = {event["step"]: event["value"] for event in events if event["type"] == "metric"}
    assert trainer.best_score is not None
    assert trainer.best_score[0] == scored[trainer.best_step] < max(scored.values())
    assert trainer.best_step > cooldown_start(trainer.total, 0.2)


def test_no_best_before_the_final_sparsity(base: Path) -> None:
    trainer = make(base, settings_of())
    with pytest.raises(RuntimeError, match="final sparsity"):
        trainer.load_best()


@pytest.mark.parametrize("method", ["pst", "magnitude", "dense"])
@pytest.mark.parametrize("stop_at", [1, 5, 11])
def test_a_resumed_trainer_ends_bit_equal(base: Path, tmp_path: Path, method: Any, stop_at: int) -> None:
    settings = settings_of(method=method, epochs=3, evaluations=3)
    whole = make(base, settings)
    whole.run()

    def save(trainer: Trainer) -> None:
        checkpoint.save(tmp_path, trainer.tensors(), {"step": trainer.step, "trainer": trainer.state()})

    calls = iter([False] * stop_at + [True])
    first = make(base, settings, should_stop=lambda: next(calls), save=save)
    with pytest.raises(Stopped):
        first.run()
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state["step"] == stop_at
    second = make(base, settings)
    torch.randn(100)  # the generator stands elsewhere in a new process
    second.load(found.tensors, found.state["trainer"])
    second.run()
    for one, other in ((whole.tensors(), second.tensors()), (whole.state(), second.state())):
        assert one.keys() == other.keys()
    assert whole.state() == second.state()
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in whole.tensors().items())


def test_checkpoints_hold_only_what_was_trained(base: Path) -> None:
    trainer = make(base, settings_of(epochs=1))
    trainer.run()
    trained = sum(parameter.numel() for parameter in trainer.trained.values())
    floats = {name: tensor for name, tensor in trainer.tensors().items() if tensor.is_floating_point()}
    assert sum(tensor.numel() for tensor in floats.values()) <= 4 * trained


def test_two_files_are_kept_and_damage_is_a_plain_error(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        path = checkpoint.save(tmp_path, {"x": torch.ones(3)}, {"step": step})
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "000020.safetensors",
        "000100.safetensors",
    ]
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state["step"] == 100
    (tmp_path / "resume.safetensors").write_bytes(path.read_bytes()[:-4])
    with pytest.raises(PSTError, match="can't be read"):
        checkpoint.newest(tmp_path)


def test_resume_file_is_found(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / ".", {"x": torch.ones(3)}, {"step": 7})
    path.rename(tmp_path / "resume.safetensors")
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state["step"] == 7
    assert checkpoint.newest(tmp_path / "checkpoints") is None


def test_a_loss_that_is_no_number_is_a_plain_error(base: Path) -> None:
    trainer = make(base, settings_of())
    with torch.no_grad():
        trainer.trained["classifier.bias"][0] = float("nan")
    with pytest.raises(
        TrainingError, match=r"The loss became nan at step 1 of \d+ \(train\); lower the learning rates"
    ):
        trainer.run()


def test_distillation_is_the_published_loss() -> None:
    torch.manual_seed(0)
    student, teacher, gold = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    settings = TrainSettings(distill_weight=0.3, distill_temperature=4.0)
    p, q = (teacher / 4).softmax(-1), (student / 4).softmax(-1)
    by_hand = 0.7 * F.cross_entropy(student, gold) + 0.3 * 16 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(loss_of(student, gold, teacher, None, settings), by_hand)
    torch.testing.assert_close(loss_of(student, gold, None, None, settings), F.cross_entropy(student, gold))


def test_the_teacher_pulls_the_student(base: Path) -> None:
    wrong = F.one_hot(torch.arange(64) % 3 * 0 + 1, 3).float() * 20  # the teacher says "animal" to everything
    trainer = make(base, settings_of(epochs=6, distill=True, distill_weight=1.0), teacher=wrong)
    trainer.run()
    assert trainer.metric == pytest.approx(1 / 3, abs=0.01)


def test_class_weights_balance_the_classes(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    rows = encode(tokenizer, [Row("red", None, label) for label in [0, 0, 0, 2]], 8)
    weights = class_weights(rows, 3)
    assert weights.tolist() == pytest.approx([4 / 6, 0.0, 2.0])
