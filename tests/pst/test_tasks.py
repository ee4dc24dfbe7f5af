from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.mbart.modeling_mbart import shift_tokens_right

from pst import tasks
from pst.config import TaskName, TrainSettings
from pst.errors import FormatError, PSTError
from pst.model import memory
from pst.model.data import IGNORED, Row
from pst.model.loading import load_tokenizer, read_config
from pst.tasks.generation import BATCH, MAX_BATCH, at_once, keys_and_values
from tests.pst.conftest import LABELS, toy_rows
from tests.pst.texts import backwards, write_generator, write_mbart
from tests.pst.tiny import tiny

SETTINGS = TrainSettings(distill=True, distill_weight=0.3, distill_temperature=4.0, max_target_length=6)


def make(folder: Path, name: TaskName, **changes: Any) -> Any:
    labels = {"regression": ["score"], "generation": []}.get(name, LABELS)
    settings = replace(SETTINGS, **changes)
    return tasks.make(name, labels, load_tokenizer(folder), 16, settings, read_config(folder))


@pytest.fixture(scope="module", params=["gpt2", "llama", "t5", "bart"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generator(tmp_path_factory.mktemp("writer"), request.param)


def written(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


FINE: dict[str, dict[str, Any]] = {
    "classification": {"text": "fine", "label": "tool"},
    "regression": {"text": "fine", "label": 1},
    "multilabel": {"text": "fine", "label": ["tool"]},
    "generation": {"source": "red", "target": "dog"},
}


@pytest.mark.parametrize(
    "name,line,words",
    [
        ("classification", "{", "line 2: not valid JSON"),
        ("classification", ["a"], "line 2: a row must be a JSON object"),
        ("classification", {"text": 3, "label": "tool"}, 'line 2: a row needs a "text"'),
        ("classification", {"text": "x", "label": "c"}, "line 2: label 'c'"),
        ("classification", {"text": "x"}, "line 2: label None"),
        ("classification", {"text": "x", "label": "tool", "text_pair": 1}, 'line 2: "text_pair"'),
        ("regression", {"text": "x", "label": "3"}, "line 2: the label of a regression row must be a number, not '3'"),
        ("regression", '{"text": "x", "label": NaN}', "line 2: the label of a regression row must be a number"),
        ("multilabel", {"text": "x", "label": "tool"}, "line 2: the label of a multilabel row must be a list"),
        ("multilabel", {"text": "x", "label": ["tool", "c"]}, "line 2: label 'c'"),
        ("generation", {"target": "x"}, 'line 2: a row needs a "source"'),
        ("generation", {"source": "x"}, 'line 2: a row needs a "target"'),
        ("generation", {"source": "x", "target": " "}, "line 2: the target is empty"),
        ("generation", {"source": "x", "target": "y", "references": "z"}, 'line 2: "references" must be a list'),
    ],
)
def test_bad_rows_name_their_line(
    base: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: TaskName, line: Any, words: str
) -> None:
    folder = write_generator(tmp_path / "base", "gpt2") if name == "generation" else base
    with pytest.raises(PSTError, match=words):
        make(folder, name).read(written(tmp_path, FINE[name], line))


def test_rows_hold_what_the_task_learns(base: Path, writer: Path, tmp_path: Path) -> None:
    pair = {"text": "a", "text_pair": "b", "label": "tool"}
    assert make(base, "classification").read(written(tmp_path, pair)) == [Row("a", "b", 2)]
    assert make(base, "regression").read(written(tmp_path, {"text": "a", "label": 4})) == [Row("a", None, 4.0)]
    both = {"text": "a", "label": ["tool", "colour"]}
    assert make(base, "multilabel").read(written(tmp_path, both)) == [Row("a", None, (1, 0, 1))]
    writing = make(writer, "generation")
    lines = [
        {"source": "red", "target": "dog", "references": ["dog", "old dog"]},
        {"source": "saw", "references": ["new saw"]},
        {"source": "red", "target": "horse"},
    ]
    rows = writing.read(written(tmp_path, *lines))
    assert [row.references for row in rows] == [("dog", "old dog"), ("new saw",), ("horse",)]
    assert [row.references for row in writing.held_out(rows)] == [("dog", "old dog", "horse"), ("new saw",)]


def test_labels_only_in_validation_are_refused(base: Path) -> None:
    task = make(base, "classification")
    train, odd = [Row("a", None, 0), Row("b", None, 1)], [Row("c", None, 2, place="dev.jsonl, line 1")]
    with pytest.raises(PSTError, match=r"'tool' is in the validation rows but not in training rows \(dev.jsonl, line"):
        task.check(train, odd)
    assert task.check(train, train) == ["No training row has the label 'tool' (1 such labels in all)."]
    many = make(base, "multilabel")
    with pytest.raises(PSTError, match="'tool' is in the validation rows"):
        many.check([Row("a", None, (1, 1, 0))], [Row("a", None, (0, 0, 1))])
    assert len(many.check([Row("a", None, (1, 0, 0))], [Row("a", None, (1, 0, 0))])) == 1
    number = make(base, "regression")
    with pytest.raises(PSTError, match="All validation rows have the same number"):
        number.check([Row("a", None, 1.0), Row("b", None, 2.0)], [Row("c", None, 1.0)])


def test_pairs_are_cut_padded_and_typed(base: Path) -> None:
    task = make(base, "classification")
    task.max_length = 10
    encoded = task.encode([Row("the red dog", "a saw", 0), Row("red", None, 1), Row("the " * 50, "old", 2)])
    assert [task.length(row) for row in encoded] == [8, 4, 10]
    inputs, gold = task.collate(encoded)
    assert inputs["input_ids"].shape == inputs["token_type_ids"].shape == (3, 10)
    assert inputs["attention_mask"].sum(1).tolist() == [8, 4, 10]
    assert inputs["token_type_ids"][0].tolist() == [0] * 5 + [1] * 3 + [0] * 2
    assert gold.tolist() == [0, 1, 2]


HEADS: dict[TaskName, list[Any]] = {
    "classification": [0, 2, 1, 1],
    "regression": [0.5, 3.0, -1.0, 2.0],
    "multilabel": [(1, 0, 0), (0, 0, 0), (1, 1, 1), (0, 1, 0)],
}


def by_hand(name: str, student: Tensor, teacher: Tensor, gold: Tensor) -> Tensor:
    """The published losses: w = 0.3, tau = 4."""
    if name == "classification":
        p, q = (teacher / 4).softmax(-1), (student / 4).softmax(-1)
        return 0.7 * F.cross_entropy(student, gold) + 0.3 * 16 * (p * (p / q).log()).sum(-1).mean()
    if name == "regression":
        student, teacher = student[:, 0], teacher[:, 0]
        return 0.7 * ((student - gold) ** 2).mean() + 0.3 * ((student - teacher) ** 2).mean()
    p, q = (teacher / 4).sigmoid(), (student / 4).sigmoid()
    distance = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return 0.7 * F.binary_cross_entropy(student.sigmoid(), gold) + 0.3 * 16 * distance.mean()


@pytest.mark.parametrize("name", list(HEADS))
def test_losses_of_micro_batches_add_up_to_the_published_loss(base: Path, name: TaskName) -> None:
    task = make(base, name)
    rows = task.encode([Row("the red dog", None, label) for label in HEADS[name]])
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, len(task.labels))
    _, gold = task.collate(rows)
    wanted = by_hand(name, student, teacher, gold)
    whole = task.loss(SimpleNamespace(logits=student), gold, teacher, task.norm(gold))
    torch.testing.assert_close(whole, wanted)
    total = torch.zeros(())
    for part in (slice(0, 3), slice(3, 4)):  # padded to four rows and sixteen tokens each
        inputs, held = task.collate(rows[part], length=16, count=4)
        assert inputs["input_ids"].shape == (4, 16)
        assert (inputs["attention_mask"].sum(1) > 0).all()
        padded = torch.zeros(2, 4, len(task.labels))
        padded[:, : len(rows[part])] = torch.stack([student[part], teacher[part]])
        padded.requires_grad_()
        piece = task.loss(SimpleNamespace(logits=padded[0]), held, padded[1].detach(), task.norm(gold))
        piece.backward()
        assert padded.grad is not None and torch.isfinite(padded.grad).all()
        assert (padded.grad[0, len(rows[part]) :] == 0).all()
        total = total + piece.detach()
    torch.testing.assert_close(total, wanted)


def test_class_weights_balance_the_classes(base: Path) -> None:
    task = make(base, "classification", class_weights=True)
    rows = task.encode([Row("red", None, label) for label in [0, 0, 0, 2]])
    task.learn(rows, rows)
    assert task.weights.tolist() == pytest.approx([4 / 6, 0.0, 2.0])
    logits, gold = torch.randn(4, 3), torch.tensor([0, 0, 0, 2])
    loss = task.loss(SimpleNamespace(logits=logits), gold, None, task.norm(gold))
    torch.testing.assert_close(loss, F.cross_entropy(logits, gold, weight=task.weights))


@pytest.mark.parametrize("name", list(HEADS))
def test_models_of_the_heads_answer_and_are_scored(base: Path, name: TaskName) -> None:
    task = make(base, name)
    label = {"classification": int, "regression": float, "multilabel": lambda i: (i % 2, 1, 0)}[name]
    raw = [Row(row["text"], None, label(index % 3)) for index, row in enumerate(toy_rows(9, 1))]
    rows = task.encode(raw)
    task.learn(rows, rows)
    model = task.load(base, 3).train()
    answers = task.predict(model, rows)
    assert model.training
    assert answers["logits"].shape == (9, len(task.labels))
    primary, tie = task.score(model)
    metrics = task.metrics(answers, raw, 0)
    assert metrics[task.primary] == pytest.approx(primary)
    assert metrics["interval"] == metrics["intervals"][task.primary]
    assert tie < 0
    assert json.dumps(metrics, allow_nan=False)
    assert task.agreement(answers, answers) == 1
    chances = task.probabilities(answers)
    assert chances is None if name == "regression" else torch.allclose(chances.sum(-1), torch.ones(()))
    assert task.difference(answers, answers, "x") == 0
    assert task.gains(answers, answers, raw, 0)[task.primary] == [0.0, 0.0]
    with pytest.raises(FormatError, match=r"x (differs from|gives another answer than) the trainer"):
        task.difference({"logits": answers["logits"] + 0.1}, answers, "x")
    with pytest.raises(FormatError, match=r"than the trainer|differs"):
        task.difference({"logits": -answers["logits"]}, answers, "x")


def test_only_the_targets_tokens_are_learned(writer: Path) -> None:
    task = make(writer, "generation")
    rows = task.encode([Row("red old dog", None, references=("dog red",)), Row("saw", None, references=("saw",))])
    inputs, gold = task.collate(rows)
    learned = [row[row != IGNORED].tolist() for row in gold]
    words = [task.tokenizer.convert_ids_to_tokens(row) for row in learned]
    assert words == [["dog", "red", "</s>"], ["saw", "</s>"]]
    padded, held = task.collate(rows, length=task.length(rows[0]), count=3)
    assert (held[2] == IGNORED).all()
    assert len(padded["input_ids"]) == 3
    model = task.load(writer, 0).eval()
    with torch.no_grad():
        whole = task.loss(model(**inputs), gold, None, task.norm(gold))
        again = task.loss(model(**padded), held, None, task.norm(gold))
        taught = task.loss(model(**inputs), gold, model(**inputs).logits, task.norm(gold))
        one = model(**task.collate(rows[1:])[0]).logits
    torch.testing.assert_close(whole, again)
    torch.testing.assert_close(taught, 0.7 * whole)
    start = 0 if task.two_stacks else len(rows[1].input_ids) - 1
    chances = one[0, start : start + 2].log_softmax(-1)
    losses = task.predict(model, rows)
    assert float(losses["loss"][1]) == pytest.approx(-float(chances[0, rows[1].target[0]] + chances[1, 1]), rel=1e-4)
    assert losses["tokens"].tolist() == [3, 2]
    assert float(losses["loss"].sum() / 5) == pytest.approx(float(whole), rel=1e-4)


def test_mbart_begins_with_the_language_of_the_target(tmp_path: Path) -> None:
    task = make(write_mbart(tmp_path), "generation")
    english, romanian = task.tokenizer.convert_tokens_to_ids(["en_XX", "ro_RO"])
    (row,) = task.encode([Row("red dog", None, references=("dog red",))])
    assert row.input_ids[-2:] == [task.end_id, english]
    assert task.tokenizer.convert_ids_to_tokens(row.target) == ["▁dog", "▁red", "</s>"]
    labels = torch.tensor([task.tokenizer(text_target="dog red")["input_ids"]])
    shifted = shift_tokens_right(labels, task.pad_id)  # what the model's own class makes of them
    inputs, gold = task.collate([row])
    assert inputs["decoder_input_ids"].tolist() == shifted[:, :-1].tolist()
    assert gold.tolist() == labels[:, :-1].tolist()
    model = task.load(tmp_path, 0)
    assert model.generation_config.decoder_start_token_id == romanian
    found = model.generate(torch.tensor([row.input_ids]))
    assert int(found[0, 0]) == romanian
    assert task.generate(model, [row])[0, : found.shape[1] - 1].tolist() == found[0, 1:].tolist()


@pytest.mark.parametrize("beams", [1, 2])
def test_batches_generate_what_single_rows_do(writer: Path, beams: int) -> None:
    task = make(writer, "generation", beams=beams)
    rows = task.encode([Row(row["source"], None, references=(row["target"],)) for row in backwards(5, 3)])
    model = task.load(writer, 0).train()
    together = task.generate(model, rows)
    assert model.training
    assert together.shape == (5, 6)
    for place, row in enumerate(rows):
        assert task.generate(model, [row]).tolist() == [together[place].tolist()]
    ends = together == task.end_id
    after = ends.cumsum(1) - ends.long() > 0
    assert (together[after] == task.pad_id).all()


def test_generation_is_scored_and_compared(writer: Path) -> None:
    task = make(writer, "generation")
    raw = [Row(row["source"], None, references=(row["target"],)) for row in backwards(5, 3)]
    rows = task.encode(raw)
    task.learn(rows, rows)
    model = task.load(writer, 0)
    answers = task.predict(model, rows)
    metrics = task.metrics(answers, raw, 0)
    assert (
        set(metrics["intervals"])
        == {*("bleu", "nist", "rouge_l", "meteor_exact_stem", "cider", "perplexity")}
        == set(metrics) - {"interval", "intervals"}
    )
    loss = task.score(model)[0]
    assert metrics["perplexity"] == pytest.approx(math.exp(-loss), rel=1e-4)
    assert task.probabilities(answers) is None
    assert task.agreement(answers, answers) == 1
    assert task.difference(answers, answers, "x") == 0
    with pytest.raises(FormatError, match=r"x differs from the trainer by 0\.5"):
        task.difference({**answers, "loss": answers["loss"] + 0.5 * answers["tokens"]}, answers, "x")
    with pytest.raises(FormatError, match="x generates another text than the trainer for 100% of the rows"):
        task.difference({**answers, "generated": answers["generated"] + 1}, answers, "x")
    assert len(task.texts(answers)) == 5


def test_a_target_that_is_too_long_is_named(writer: Path) -> None:
    task = make(writer, "generation")
    row = Row("red", None, references=("dog " * 9,), place="train.jsonl, line 7")
    with pytest.raises(
        PSTError, match=r"train\.jsonl, line 7: the target “.*” has 10 tokens, more than max_target_length, 6"
    ):
        task.encode([row])
    if task.context > 10**6:
        return  # T5 has no table of positions
    with pytest.raises(PSTError, match=r"target “.*” has 61 tokens, more than the model's context of 40"):
        task.encode([replace(row, references=("dog " * 60,))])
    with pytest.raises(PSTError, match="max_target_length 50 does not fit the model's context of 40 tokens"):
        make(writer, "generation", max_target_length=50)


def test_a_tokenizer_without_an_end_cannot_generate(base: Path) -> None:
    with pytest.raises(PSTError, match="no end of text"):
        make(base, "generation")


def test_texts_are_generated_in_batches_that_fit_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", "generation")
    assert keys_and_values(model.config) == 2 * 2 * 3 * 8
    assert at_once(model, 0.25, 100, 1000) == BATCH
    model.to("meta")  # stands for any device but the CPU
    for free, rows in ((16_000_000, 10), (0, 1), (2**40, MAX_BATCH)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert at_once(model, 0.25, 100, 1000) == rows
