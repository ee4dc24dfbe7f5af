from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pst.errors import TrainingError
from pst.sparsity.masks import kept_count, mask_of
from pst.sparsity.schedule import cooldown_start
from pst.training import checkpoint, watching
from pst.training.distill import Teacher
from pst.training.trainer import Stopped, Trainer
from tests.pst.trainers import METHODS, make, model_of, settings_of


@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_sparsity_is_exact_at_every_step(base: Path, method: Any) -> None:
    trainer = make(base, settings_of(method=method, epochs=4, micro_batch_size=16))  # no preflight
    seen = []
    forward = trainer.model.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        if trainer.model.training:
            planned = trainer.course.sparsities(trainer.step)
            for module in trainer.modules:
                kept = int(mask_of(module.layer.scores(), module.layer.selection).sum())
                assert kept == kept_count(module.layer.weight.numel(), planned[module.group])
            seen.append(planned["ffn"])
        return outputs

    trainer.model.forward = watched
    trainer.run()
    assert len(seen) == trainer.course.total == 16
    assert seen[0] == 0.0
    assert seen[cooldown_start(16, 0.3) :] == [0.9] * (16 - cooldown_start(16, 0.3))


def test_calibration_tells_how_far_it_is(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PROGRESS_SECONDS", -1.0)
    events: list[dict[str, Any]] = []
    rows = len(make(base, settings_of(activation_power=0.5), emit=events.append).task.train)
    told = [(event["type"], event["phase"], event["part"], event["total_steps"]) for event in events]
    assert set(told) == {("progress", "train", "calibration", rows)}
    steps = [event["step"] for event in events]
    assert steps == sorted(steps) and steps[-1] == rows and 1 < len(steps) < rows / 2


def test_frozen_weights_are_bit_identical_and_the_rest_moves(base: Path) -> None:
    before = model_of(base).state_dict()
    trainer = make(base, settings_of(epochs=3, activation_power=0.0))
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
    final = [event for event in scored if event["step"] > cooldown_start(trainer.course.total, 0.3)]
    assert len(scored) == 6
    assert trainer.best.score is not None
    assert trainer.best.score[0] == max(event["value"] for event in final) > 0.45
    assert trainer.best.step in {event["step"] for event in final}
    assert [event["sparsity"] for event in final] == pytest.approx([(0.8 + 0.9) / 2] * len(final))
    progress = [event for event in events if event["type"] == "progress"]
    assert progress[0]["step"] == 1
    assert progress[-1]["step"] == progress[-1]["total_steps"] == trainer.course.total
    assert progress[-1]["loss"] < progress[0]["loss"]
    trainer.load_best()
    assert all(torch.equal(parameter, trainer.best.tensors[name]) for name, parameter in trainer.trained.items())


def test_a_better_score_at_a_lower_sparsity_is_not_taken(base: Path) -> None:
    events: list[dict[str, Any]] = []
    crushed = {"attention": 0.99, "ffn": 0.99}
    settings = settings_of(epochs=12, evaluations=12, warmup_fraction=0.6, cooldown_fraction=0.2)
    trainer = make(base, settings, emit=events.append, sparsity=crushed)
    trainer.run()
    scored = {event["step"]: event["value"] for event in events if event["type"] == "metric"}
    assert trainer.best.score is not None
    assert trainer.best.score[0] == scored[trainer.best.step] < max(scored.values())
    assert trainer.best.step > cooldown_start(trainer.course.total, 0.2)


def test_the_average_since_the_final_sparsity_is_what_is_kept(base: Path) -> None:
    trainer = make(base, settings_of(epochs=4, evaluations=1))
    seen: list[dict[str, torch.Tensor]] = []
    step = trainer.optimise

    def optimise() -> None:
        step()
        seen.append({name: parameter.detach().clone() for name, parameter in trainer.trained.items()})

    trainer.optimise = optimise  # type: ignore[method-assign]
    trainer.run()
    final = seen[cooldown_start(trainer.course.total, 0.3) :]
    assert len(final) > 2
    for name, tensor in final[0].items():
        wanted = tensor
        for done, other in enumerate(final):
            wanted = wanted + (other[name] - wanted) * 3 / (done + 3)
        torch.testing.assert_close(trainer.best.tensors[name], wanted)
        assert torch.equal(trainer.trained[name], final[-1][name])  # training goes on from where it was
    assert not any(torch.equal(trainer.best.tensors[name], final[-1][name]) for name in final[-1])


def test_steps_that_keep_their_masks_do_not_take_the_averages(base: Path) -> None:
    trainer = make(base, settings_of(epochs=4, evaluations=1, mask_every=1000, threshold="matrix"))
    trainer.run()
    found = [module.layer.selection.threshold.clone() for module in trainer.modules]
    trainer.select(trainer.course.final)
    assert found == [module.layer.selection.threshold for module in trainer.modules]


@pytest.mark.parametrize("changes", [{"average_decay": 0.0}, {"method": "magnitude"}])
def test_without_an_average_the_last_is_kept(base: Path, changes: dict[str, Any]) -> None:
    trainer = make(base, settings_of(epochs=2, evaluations=1, **changes))
    trainer.run()
    assert all(torch.equal(parameter, trainer.best.tensors[name]) for name, parameter in trainer.trained.items())


def test_no_best_before_the_final_sparsity(base: Path) -> None:
    trainer = make(base, settings_of())
    with pytest.raises(RuntimeError, match="final sparsity"):
        trainer.load_best()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop_at", [1, 8])
def test_a_resumed_trainer_ends_bit_equal(base: Path, tmp_path: Path, method: Any, stop_at: int) -> None:
    settings = settings_of(method=method, epochs=3, evaluations=3)
    whole = make(base, settings)
    whole.run()

    def save(trainer: Trainer) -> None:
        state = {"phase": "train", "step": trainer.step, "trainer": trainer.state()}
        checkpoint.save(tmp_path, trainer.tensors(), state)

    calls = iter([False] * stop_at + [True])
    first = make(base, settings, should_stop=lambda: next(calls), save=save)
    with pytest.raises(Stopped):
        first.run()
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state["step"] == stop_at
    second = make(base, settings)
    torch.randn(100)  # the generator stands elsewhere in a new process
    second.load(found.tensors(), found.state["trainer"])
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
    assert (
        sum(tensor.numel() for tensor in floats.values()) <= 5 * trained
    )  # itself, two moments, its average, the best


def test_a_loss_that_is_no_number_is_a_plain_error(base: Path) -> None:
    trainer = make(base, settings_of())
    with torch.no_grad():
        trainer.trained["classifier.bias"][0] = float("nan")
    with pytest.raises(
        TrainingError, match=r"The loss became nan at step 1 of \d+ \(train\); lower the learning rates"
    ):
        trainer.run()


def test_the_teacher_pulls_the_student(base: Path) -> None:
    wrong = F.one_hot(torch.arange(64) % 3 * 0 + 1, 3).float() * 20  # the teacher says "animal" to everything
    trainer = make(base, settings_of(epochs=6, distill=True, distill_weight=1.0), teacher=Teacher(logits=wrong))
    trainer.run()
    assert trainer.metric == pytest.approx(1 / 3, abs=0.01)


def test_progress_tells_the_rate_of_the_weights_not_of_the_head(base: Path) -> None:
    events: list[dict[str, Any]] = []
    settings = settings_of(epochs=1, learning_rate=1e-4, score_learning_rate=1e-4, head_learning_rate=0.01)
    trainer = make(base, settings, emit=events.append)
    trainer.run()
    first = next(event for event in events if event["type"] == "progress")
    assert first["learning_rate"] == pytest.approx(1e-4 * trainer.course.rate(0))


def test_early_stop_counts_evaluations_at_the_final_sparsity(base: Path) -> None:
    events: list[dict[str, Any]] = []
    settings = settings_of(epochs=10, evaluations=40, early_stop=3, learning_rate=1e-9, score_learning_rate=1e-9)
    trainer = make(base, settings_of(**{**vars(settings), "head_learning_rate": 1e-9}), emit=events.append)
    trainer.run()
    start = cooldown_start(trainer.course.total, settings.cooldown_fraction)
    # The rows are answered alike from there on: the first evaluation is the best, three more are no better.
    assert (trainer.best.step, trainer.step) == (start + 1, start + 4)
    assert trainer.ended and trainer.state()["ended"]
    progress = [event for event in events if event["type"] == "progress"]
    assert progress[-1]["step"] == trainer.step and progress[-1]["eta_seconds"] == 0
    again = make(base, trainer.settings)
    again.load(trainer.tensors(), trainer.state())
    again.run()  # has ended
    assert again.step == trainer.step


def test_a_failing_run_keeps_its_best_state(base: Path, tmp_path: Path) -> None:
    kept: list[tuple[int, dict[str, Any]]] = []

    def save(trainer: Trainer) -> None:
        kept.append((trainer.step, trainer.tensors()))

    trainer = make(base, settings_of(epochs=3, evaluations=12), save=save)
    trainer.clock._cost = 1e9  # none is due
    evaluate = trainer.evaluate

    def spoil() -> None:
        evaluate()
        if trainer.step == 11:
            with torch.no_grad():
                trainer.trained["classifier.bias"].fill_(float("inf"))

    trainer.evaluate = spoil  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="step 12 of 12"):
        trainer.run()
    ((step, tensors),) = kept
    assert step == trainer.best.step in (9, 10, 11)
    again = make(base, trainer.settings)
    again.load(tensors, trainer.state())
    again.load_best()
    assert all(bool(p.isfinite().all()) for p in again.trained.values())


def test_bfloat16_activations_train(base: Path) -> None:
    trainer = make(base, settings_of(epochs=2, precision="bfloat16"))
    trainer.run()
    assert trainer.metric is not None
    assert {p.dtype for p in trainer.trained.values()} == {torch.float32}


def test_the_default_recipe_resumes_bit_equal(base: Path) -> None:
    """One threshold a group, weighed inputs, trained norms, a live teacher, and micro-batches."""
    settings = settings_of(
        threshold="global",
        activation_power=0.5,
        train_norms=True,
        distill_hidden_weight=10.0,
        hold_ratio=0.7,
        epochs=2,
        evaluations=4,
        micro_batch_size=6,
    )
    teacher = Teacher(model=model_of(base, seed=3))
    whole = make(base, settings, teacher=teacher)
    whole.run()
    kept: list[tuple[dict[str, torch.Tensor], dict[str, Any]]] = []
    calls = iter([False] * 5 + [True])

    def save(trainer: Trainer) -> None:
        tensors = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
        kept.append((tensors, trainer.state()))

    first = make(base, settings, teacher=teacher, should_stop=lambda: next(calls), save=save)
    with pytest.raises(Stopped):
        first.run()
    second = make(base, settings, teacher=teacher)
    torch.randn(10)
    second.load(*kept[-1])
    second.run()
    assert whole.state() == second.state()
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in whole.tensors().items())


def test_between_two_selections_the_threshold_stays(base: Path) -> None:
    settings = settings_of(epochs=6, mask_every=5, evaluations=4, micro_batch_size=16)
    trainer = make(base, settings)
    start = cooldown_start(trainer.course.total, settings.cooldown_fraction)
    assert start % 5 and start not in trainer.course.evaluations
    thresholds: list[float] = []
    counts: dict[int, int] = {}
    layer = trainer.modules[0].layer
    backward, score = trainer.train_step.backward, trainer.task.score

    def watched(batch: Any) -> torch.Tensor:
        loss = backward(batch)
        thresholds.append(float(layer.selection.threshold))
        return loss

    def scored(model: Any) -> Any:
        for module in trainer.modules:
            kept = int(mask_of(module.layer.scores(), module.layer.selection).sum())
            share = trainer.course.sparsities(trainer.step - 1)[module.group]
            assert kept == kept_count(module.layer.weight.numel(), share)
        counts[trainer.step] = kept
        return score(model)

    trainer.train_step.backward = watched  # type: ignore[method-assign]
    trainer.task.score = scored  # type: ignore[method-assign]
    trainer.run()
    assert set(counts) == trainer.course.evaluations  # exact at each of them
    renewed = {step for step in range(1, trainer.course.total) if thresholds[step] != thresholds[step - 1]}
    allowed = {*range(0, trainer.course.total, 5), start, *trainer.course.evaluations}
    assert {10, 15, start} <= renewed <= allowed


@pytest.mark.parametrize(
    "changes",
    [{}, {"structure": "2:4"}, {"method": "l0"}, {"method": "wanda"}, {"method": "movement", "threshold": "global"}],
)
def test_kept_selections_survive_a_stop(base: Path, changes: dict[str, Any]) -> None:
    settings = settings_of(epochs=3, evaluations=3, mask_every=5, **changes)
    sparsity = {"attention": 0.5, "ffn": 0.5}
    whole = make(base, settings, sparsity=sparsity)
    whole.run()
    kept: list[tuple[dict[str, torch.Tensor], dict[str, Any]]] = []
    calls = iter([False] * 7 + [True])

    def save(trainer: Trainer) -> None:
        kept.append(({name: tensor.clone() for name, tensor in trainer.tensors().items()}, trainer.state()))

    first = make(base, settings, sparsity=sparsity, should_stop=lambda: next(calls), save=save)
    with pytest.raises(Stopped):
        first.run()
    second = make(base, settings, sparsity=sparsity)
    second.load(*kept[-1])
    second.run()
    assert whole.state() == second.state()
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in whole.tensors().items())
