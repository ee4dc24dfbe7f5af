"""The quality benchmark's stacked model computes what transformers and the library's layers compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from pst.config import Method, TrainSettings
from pst.layers.inject import TargetModule, calibrate, inject, select_all
from pst.plan.families import ModelDescription
from pst.sparsity.schedule import average_decay
from pst.training.distill import hidden_distance
from tests.benchmarks.quality.methods import KINDS, LowRank, masks
from tests.benchmarks.quality.model import MAPS, base_params, forward
from tests.benchmarks.quality.train import HEAD, Experiment, Rows, Run, input_scales

CONFIG = BertConfig(
    vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=12, intermediate_size=36, num_labels=3
)
SETTINGS = TrainSettings(update_rank=3, score_rank=2, init_scale=0.3)


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(1)
    made = BertForSequenceClassification(CONFIG).eval()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return made


@pytest.fixture
def rows() -> Rows:
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([16, 9, 12, 5])
    ids = torch.randint(1, 40, (4, 16), generator=generator) * (torch.arange(16) < lengths[:, None])
    return Rows(ids, (torch.arange(16) > 6).long().expand(4, -1), lengths, torch.tensor([0, 1, 2, 1]))


def stacked(model: BertForSequenceClassification) -> dict[str, torch.Tensor]:
    weights = {name.removeprefix("bert."): p.detach().numpy() for name, p in model.named_parameters()}
    return base_params(weights, torch.device("cpu"))


def one(base: dict[str, torch.Tensor], model: BertForSequenceClassification) -> dict[str, torch.Tensor]:
    """The parameters of a stack of one experiment."""
    shared = ("words", "places", "types")
    params = {name: p if name in shared else p.unsqueeze(0) for name, p in base.items()}
    head = {"head.weight": model.classifier.weight, "head.bias": model.classifier.bias}
    return params | {name: p.detach().unsqueeze(0) for name, p in head.items()}


def place_of(name: str) -> tuple[str, int]:
    """Stack and place of a matrix by its name in the library."""
    layer, _, rest = name.removeprefix("bert.encoder.layer.").partition(".")
    for stack, names in MAPS.items():
        if rest in names:
            return stack, int(layer) * len(names) + names.index(rest)
    raise AssertionError(name)


def library_modules(model: BertForSequenceClassification, rows: Rows, method: LowRank) -> list[TargetModule]:
    """The library's layers in ``model``, with the factors of the stack's only experiment."""
    modules = inject(model, ModelDescription(CONFIG.to_dict(), labels=3).tensors, SETTINGS)
    single = [
        {"input_ids": rows.ids[row, None, :size], "token_type_ids": rows.types[row, None, :size]}
        for row, size in enumerate(rows.lengths.tolist())
    ]
    calibrate(model, modules, single)
    with torch.no_grad():
        for module in modules:
            stack, place = place_of(module.name)
            for factor, key in zip(module.layer.factors(), "uvabrc", strict=True):  # type: ignore[attr-defined]
                factor.copy_(method.params[f"{key}.{stack}"][0, place].reshape(factor.shape))
    return modules


def test_forward_equals_transformers(model: BertForSequenceClassification, rows: Rows) -> None:
    ids, types, mask = rows.batch(torch.arange(4)[None])
    params = one(stacked(model), model)
    logits, blocks = forward(params, {name: params[f"weight.{name}"] for name in MAPS}, ids, types, mask, train=False)
    wanted = model(ids[0], attention_mask=mask[0].long(), token_type_ids=types[0], output_hidden_states=True)
    torch.testing.assert_close(logits[0], wanted.logits, rtol=1e-4, atol=1e-5)
    for block, hidden in zip(blocks, wanted.hidden_states[1:], strict=True):
        there = mask[0].reshape(-1)
        torch.testing.assert_close(block[0][there], hidden.flatten(0, 1)[there], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threshold", ["matrix", "global"])
def test_pst_masks_and_gradients_equal_the_librarys(
    model: BertForSequenceClassification, rows: Rows, threshold: str
) -> None:
    settings = replace(SETTINGS, threshold=threshold)
    base = stacked(model)
    method = LowRank(base, settings, [1], input_scales(base, rows, settings))
    generator = torch.Generator().manual_seed(3)
    for name, p in method.params.items():
        if name[0] in "vbrc":
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
        p.requires_grad_()
    params = one(base, model)
    applied, kept = method.apply(torch.tensor([0.8]), True, True)
    ids, types, mask = rows.batch(torch.arange(4)[None])
    logits, _ = forward(params, applied, ids, types, mask, train=False)
    torch.nn.functional.cross_entropy(logits[0], rows.labels).backward()

    modules = library_modules(model, rows, method)
    select_all(modules, {"attention": 0.8, "ffn": 0.8}, threshold)
    outputs = model(ids[0], attention_mask=mask[0].long(), token_type_ids=types[0], output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, logits[0], rtol=1e-4, atol=1e-5)
    torch.nn.functional.cross_entropy(outputs.logits, rows.labels).backward()
    for module in modules:
        stack, place = place_of(module.name)
        assert torch.equal(module.layer.masked() != 0, kept[stack][0, place] > 0), module.name
        for factor, key in zip(module.layer.factors(), "uvabrc", strict=True):  # type: ignore[attr-defined]
            grad = method.params[f"{key}.{stack}"].grad
            assert grad is not None and factor.grad is not None
            torch.testing.assert_close(factor.grad, grad[0, place].reshape(factor.shape), rtol=1e-3, atol=1e-5)


def test_distance_of_hidden_states_equals_the_librarys(model: BertForSequenceClassification, rows: Rows) -> None:
    ids, types, mask = rows.batch(torch.arange(4)[None])
    inputs = {"attention_mask": mask[0].long(), "token_type_ids": types[0], "output_hidden_states": True}
    ours = model(ids[0], **inputs)
    model.bert.encoder.layer[0].intermediate.dense.weight.data.mul_(1.5)
    theirs = model(ids[0], **inputs)
    far = [
        ((a - b).square().sum(-1) / b.square().sum(-1))[mask[0]].mean()
        for a, b in zip(ours.hidden_states[1:], theirs.hidden_states[1:], strict=True)
    ]
    found = hidden_distance(ours, theirs, [mask[0].float()], torch.tensor([float(mask.sum()), 0.0]))
    torch.testing.assert_close(found, torch.stack(far).mean(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threshold", ["matrix", "global"])
def test_masks_keep_the_exact_share(threshold: str) -> None:
    torch.manual_seed(4)
    scores = {
        "attention": torch.randn(2, 8, 24, 24),
        "inner": torch.randn(2, 2, 36, 24),
        "outer": torch.randn(2, 2, 24, 36),
    }
    kept = masks(scores, torch.tensor([0.5, 0.9]), threshold)
    for group in (("attention",), ("inner", "outer")):
        total = sum(scores[name][0].numel() for name in group)
        left = sum(kept[name].flatten(1).sum(1) for name in group)
        for share, count in zip((0.5, 0.9), left.tolist(), strict=True):
            assert abs(count - total * (1 - share)) <= 12  # a matrix may keep a part of a weight more


def test_a_student_begins_with_its_teachers_head(model: BertForSequenceClassification, rows: Rows) -> None:
    base, splits = stacked(model), dict.fromkeys(("train", "validation", "test"), rows)
    dense = replace(SETTINGS, method="dense", batch_size=2, distill=False)
    teacher = Run(base, splits, dense, [Experiment(1e-3, 0.0, seed) for seed in (1, 2)], 10, None)
    teacher.run(keep=True)
    student = Run(base, splits, SETTINGS, [Experiment(1e-3, 0.5, seed) for seed in (2, 1, 2)], 10, teacher.kept)
    for name in HEAD:
        for place, seed in enumerate((2, 1, 2)):
            assert torch.equal(student.optimizer.params[name][place], teacher.kept[name][seed - 1])
    assert not torch.equal(teacher.kept["head.weight"][0], teacher.kept["head.weight"][1])


@pytest.mark.parametrize("method", ["dense", "l0", "pst"])
def test_the_head_has_a_rate_of_its_own_but_in_plain_baselines(
    model: BertForSequenceClassification, rows: Rows, method: Method
) -> None:
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    settings = replace(SETTINGS, method=method, distill=False, head_learning_rate=0.5, dense_learning_rate=0.25)
    rates = {
        plain: Run(stacked(model), splits, settings, [Experiment(0.125, 0.5, 1)], 10, None, plain=plain).optimizer.rates
        for plain in (False, True)
    }
    of_all = 0.25 if method == "l0" else 0.125
    assert all(float(rates[False][name]) == 0.5 and float(rates[True][name]) == of_all for name in HEAD)
    others = {name: float(rate) for name, rate in rates[False].items() if name not in HEAD}
    assert others == {name: float(rate) for name, rate in rates[True].items() if name not in HEAD}
    assert set(others.values()) == ({0.25, 0.125} if method == "l0" else {0.125})


def test_every_method_of_the_table_exists() -> None:
    from tests.benchmarks.quality.__main__ import METHODS

    assert {settings.method for settings, _ in METHODS.values()} == set(KINDS)


def test_masks_are_renewed_when_the_trainer_would(model: BertForSequenceClassification, rows: Rows) -> None:
    settings = replace(SETTINGS, batch_size=2, mask_every=8)
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    trial = Run(stacked(model), splits, settings, [Experiment(1e-3, 0.5, 1)], 43, None)
    used = []
    step = trial._step

    def note(number: int, chosen: torch.Tensor, *, final: bool) -> None:
        step(number, chosen, final=final)
        used.append(id(trial.masks))

    trial._step = note  # type: ignore[method-assign]
    kept = []
    apply = trial.method.apply

    def remember(*arguments: object) -> object:
        found = apply(*arguments)  # type: ignore[arg-type]
        kept.append(found[1])  # so that no id is used twice
        return found

    trial.method.apply = remember  # type: ignore[assignment,method-assign]
    trial.run()
    renewed = [number for number in range(43) if number == 0 or used[number] != used[number - 1]]
    every, evaluated, final = range(0, 43, 8), (5, 9, 13, 18, 22, 26, 31, 35, 39), 30
    assert renewed == sorted({*every, *evaluated, final})


def test_what_is_evaluated_is_the_average_that_the_trainer_takes(
    model: BertForSequenceClassification, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, batch_size=2, average_decay=0.6)
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    trial = Run(stacked(model), splits, settings, [Experiment(1e-2, 0.5, 1)], 43, None)
    step, evaluate = trial._step, trial._evaluate
    wanted: list[torch.Tensor] = []
    evaluated = []

    def follow(number: int, chosen: torch.Tensor, *, final: bool) -> None:
        step(number, chosen, final=final)
        now = trial.method.params["v.inner"].detach()
        if final:
            decay = average_decay(len(wanted), 0.6)
            wanted.append(decay * wanted[-1] + (1 - decay) * now if wanted else now.clone())

    def check(done: int, keep: bool) -> None:
        evaluated.append(done)
        torch.testing.assert_close(trial.method.params["v.inner"].detach(), wanted[-1], rtol=1e-5, atol=1e-7)
        evaluate(done, keep)

    monkeypatch.setattr(trial, "_step", follow)
    monkeypatch.setattr(trial, "_evaluate", check)
    trial.run()
    assert evaluated == [31, 35, 39, 43]
    assert not torch.equal(trial.method.params["v.inner"], wanted[-1])  # training went on from its own tensors
