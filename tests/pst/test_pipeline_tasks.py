"""Whole runs of the tasks beside classification, and what their users get wrong."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors import SafetensorError

from hub.registry.cards import asking
from pst import pipeline, spec
from pst.__main__ import main
from pst.export import verify
from pst.model.data import Row
from pst.native.inference import on_torch
from pst.report import timing
from pst.training import teacher
from tests.pst.conftest import LABELS, toy_rows, write_job, write_rows
from tests.pst.texts import write_generator, write_text_job


@pytest.fixture(autouse=True)
def verify_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same check without a second process, which costs seconds: test_pipeline.py starts one."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = verify.main(command[3:])
        return subprocess.CompletedProcess(command, code, output.getvalue(), "")

    monkeypatch.setattr(timing, "BUDGET_SECONDS", 0.05)
    monkeypatch.setattr(verify, "subprocess", SimpleNamespace(run=run))


def change(folder: Path, **entries: Any) -> None:
    value = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**value, **entries}))


def run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return pipeline.run(folder, emit=events.append, should_stop=lambda: False), events


def numbers(count: int, seed: int) -> list[dict[str, Any]]:
    return [{**row, "label": float(LABELS.index(row["label"]))} for row in toy_rows(count, seed)]


def several(count: int, seed: int) -> list[dict[str, Any]]:
    rows = toy_rows(count, seed)
    pairs = zip(rows, reversed(rows), strict=True)
    return [{"text": f"{a['text']} {b['text']}", "label": sorted({a["label"], b["label"]})} for a, b in pairs]


@pytest.mark.parametrize(
    "task,rows,primary", [("regression", numbers, "pearson_spearman"), ("multilabel", several, "micro_f1")]
)
def test_tasks_with_a_head_run_to_a_verified_export(
    base: Path, tmp_path: Path, task: str, rows: Callable[[int, int], list[dict[str, Any]]], primary: str
) -> None:
    method = "magnitude" if task == "regression" else "pst"  # the toy's random embeddings must be trained for numbers
    taught = {"distill_hidden_weight": 0.0} if task == "regression" else {}  # too few steps for both aims
    folder = write_job(tmp_path, base, target={"sparsity": 0.5}, method=method, epochs=32, **taught)
    write_rows(folder / "data/train.jsonl", rows(96, 1))
    write_rows(folder / "data/test.jsonl", rows(30, 2))
    change(folder, task=task, labels=LABELS if task == "multilabel" else [])
    report, _ = run(folder)
    assert (report["task"], report["primary"], report["confusion"]) == (task, primary, None)
    assert report["verify"]["ok"]
    assert report["metrics"]["test"][primary] > 0.4
    config = json.loads((folder / "export/config.json").read_text())
    problem = {"regression": "regression", "multilabel": "multi_label_classification"}[task]
    assert config["problem_type"] == problem
    assert list(config["id2label"].values()) == (LABELS if task == "multilabel" else ["score"])
    served = on_torch(folder / "export", torch.device("cpu"), packs=False)
    assert (served.task, list(served.labels)) == (task, LABELS if task == "multilabel" else ["score"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "export")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "export")
    with torch.no_grad():
        logits = model(**tokenizer(["the red dog"], return_tensors="pt")).logits[0]
    wanted = (logits.sigmoid() if task == "multilabel" else logits).tolist()
    assert served.answers([Row("the old saw", "new"), Row("the red dog", None)])[1] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_generation_runs_to_a_verified_export(tmp_path: Path, family: str) -> None:
    base = write_generator(tmp_path / "base", family)
    (base / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    folder = write_text_job(tmp_path / "job", base, distill_hidden_weight=1.0)
    report, events = run(folder)
    assert (report["task"], report["primary"]) == ("generation", "bleu")
    assert report["verify"]["ok"]
    names = {event["name"] for event in events if event["type"] == "metric"}
    assert names == {"negative_loss"}
    assert report["metrics"]["test"]["perplexity"] > 1
    assert len(report["samples"]) == len({row["source"] for row in report["samples"]}) <= 10
    export = folder / "export"
    kind = transformers.AutoModelForCausalLM if family == "gpt2" else transformers.AutoModelForSeq2SeqLM
    model, tokenizer = kind.from_pretrained(export), transformers.AutoTokenizer.from_pretrained(export)
    first = report["samples"][0]
    words = tokenizer(first["source"] + (" \n" if family == "gpt2" else ""), return_tensors="pt")
    with torch.no_grad():
        found = model.generate(**{k: v for k, v in words.items() if k != "token_type_ids"})[0]
    said = found[words["input_ids"].shape[1] :] if family == "gpt2" else found
    assert tokenizer.decode(said, skip_special_tokens=True).strip() == first["text"]
    served = on_torch(export, torch.device("cpu"), packs=False)
    assert (served.task, tuple(served.labels)) == ("generation", ())
    said = served.answers([Row(sample["source"], None) for sample in report["samples"]])
    assert said == [sample["text"] for sample in report["samples"]]
    card = asking(str(export), json.loads((export / "config.json").read_text()))
    code = card.partition("```python\n")[2].partition("```")[0]
    for sample in report["samples"][:3]:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(code.replace("Your text", sample["source"]), {})
        assert told.getvalue().rstrip("\n") == sample["text"], "the card's example gives the node's text"
    assert json.loads((export / "tokenizer_config.json").read_text()).get("chat_template") is None
    assert not (export / "chat_template.jinja").exists()
    # another job of the same dense model takes it over
    other = write_text_job(tmp_path / "other", tmp_path / "base", target={"sparsity": 0.7}, distill_hidden_weight=1.0)
    (folder / "dense").rename(other / "dense")
    again, events = run(other)
    assert "dense" not in [event["phase"] for event in events if event["type"] == "phase"]
    assert again["dense"] == report["dense"]
    change(other, settings={**report["settings"], "dense_epochs": 1.0})
    assert not teacher.holds_model(other, teacher.fingerprint(spec.read(other)))
    assert teacher.load_answers(other, teacher.fingerprint(spec.read(other))) == {}


def test_a_byte_order_mark_is_no_text(base: Path, tmp_path: Path) -> None:
    folder = write_job(tmp_path, base, epochs=1, dense_epochs=1, evaluations=1)
    for path in (folder / "spec.json", folder / "data/train.jsonl"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False, quick=True)["rows"]["train"] == 78


@pytest.mark.parametrize("name", ["spec.json", "data/train.jsonl"])
def test_a_latin_1_file_is_one_plain_sentence(
    base: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_job(tmp_path, base)
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"colour", b"caf\xe9"))
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"the ", b"th\xe9 "))
    assert main(["train", str(folder)]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "error: " in error and "utf-8" in error.lower() and "Traceback" not in error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
    SafetensorError("I/O error: No space left on device (os error 28)")])  # fmt: skip
def test_a_full_disk_is_one_plain_sentence(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run", full)
    assert main(["train", str(tmp_path)]) == 1
    assert f"error: The disk of {tmp_path} is full: free some space" in capsys.readouterr().err.replace("\n", " ")


def test_a_trimmed_vocabulary_predicts_the_same(base: Path, tmp_path: Path) -> None:
    quick = {"epochs": 2, "dense_epochs": 2, "evaluations": 2}
    whole, _ = run(write_job(tmp_path / "whole", base, **quick))
    folder = write_job(tmp_path / "trimmed", base, trim_vocabulary=True, **quick)
    rows = [row for row in toy_rows(96, 1) if "wren" not in row["text"] and "file" not in row["text"]]
    write_rows(folder / "data/train.jsonl", rows)
    test = [row for row in toy_rows(30, 2) if "wren" not in row["text"] and "file" not in row["text"]]
    write_rows(folder / "data/test.jsonl", test)
    report, events = run(folder)
    assert any("vocabulary is trimmed" in event.get("message", "") for event in events)
    assert report["verify"]["ok"]
    assert report["params"]["total"] < whole["params"]["total"]


def test_structured_removes_neurons_from_the_export(base: Path, tmp_path: Path) -> None:
    folder = write_job(tmp_path, base, target={"sparsity": 0.5}, structure="structured", epochs=2, evaluations=2)
    report, events = run(folder)
    assert any("neurons are removed" in event.get("message", "") for event in events)
    config = json.loads((folder / "export/config.json").read_text())
    assert config["intermediate_size"] < 64
    assert report["verify"]["ok"]
    state = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "export").state_dict()
    assert report["params"]["nonzero"] == sum(tensor.numel() for tensor in state.values())


def long_target(folder: Path) -> None:
    path = folder / "data/train.jsonl"
    path.write_text(path.read_text() + json.dumps({"source": "red", "target": "dog " * 60}) + "\n")


def long_target_of_a_user(folder: Path) -> None:
    long_target(folder)
    where = {"file": "carts.jsonl", "lines": [2 * row + 1 for row in range(61)]}
    (folder / "data/train.lines.json").write_text(json.dumps(where))


def bert(folder: Path) -> None:
    path = Path(json.loads((folder / "spec.json").read_text())["base_model"]) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "bert"}))


@pytest.mark.parametrize(
    "spoil,words",
    [
        (long_target, "train.jsonl, line 61: the target “dog dog dog"),
        (long_target, "dog …” has 61 tokens, more than the model's context of 40; shorten or remove it."),
        (long_target_of_a_user, "carts.jsonl, line 121: the target “dog dog dog"),
        (bert, "a model of type bert has no head for generation"),
        (
            lambda folder: change(folder, task="regression"),
            "train.jsonl, line 1: the label of a regression row must be a number, not None",
        ),
        (lambda folder: change(folder, target={"groups": {"ffn": 1.0}}), "target groups ffn must be between 0 and"),
        (lambda folder: change(folder, target={"groups": 3}), "target groups must be an object"),
        (lambda folder: change(folder, plan={"ffn": 0.5}), "plan must give a sparsity for each of attention, ffn"),
    ],
)
def test_what_the_user_gets_wrong_is_one_plain_sentence(
    tmp_path: Path, spoil: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_text_job(tmp_path / "job", write_generator(tmp_path / "base", "gpt2"))
    spoil(folder)
    assert main(["train", str(folder)]) == 1
    errors = " ".join(capsys.readouterr().err.split())
    assert "[2/7]" not in errors
    assert words in errors[errors.index("error: ") :]


def test_a_run_that_goes_on_elsewhere_makes_its_teacher_again(base: Path, tmp_path: Path) -> None:
    """A checkpoint alone does not hold the teacher's weights."""
    quick = {"epochs": 2, "dense_epochs": 2, "evaluations": 2, "distill_hidden_weight": 1.0}
    whole = write_job(tmp_path / "whole", base, **quick)
    run(whole)
    folder = write_job(tmp_path / "job", base, **quick)
    events: list[dict[str, Any]] = []

    def stop() -> bool:
        return any(e["type"] == "progress" and e["phase"] == "train" and "part" not in e for e in events)

    with pytest.raises(pipeline.Stopped):
        pipeline.run(folder, emit=events.append, should_stop=stop)
    sorted((folder / "checkpoints").iterdir())[-1].rename(folder / "resume.safetensors")
    shutil.rmtree(folder / "checkpoints")
    shutil.rmtree(folder / "dense")
    _, later = run(folder)
    assert "dense" in [event["phase"] for event in later if event["type"] == "phase"]
    steps = [e for e in later if e["type"] == "progress" and e["phase"] == "train" and "part" not in e]
    assert steps[0]["step"] > 1
    for name in ("model.safetensors", "sparse/model.sparse.safetensors"):
        assert (folder / "export" / name).read_bytes() == (whole / "export" / name).read_bytes()
