"""Whole runs on a tiny model: events, report, export, resume, CLI. The verifier runs as its own process each time."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pst import pipeline
from pst import spec as specs
from pst.__main__ import main
from pst.config import from_dict
from pst.errors import BudgetError, FormatError, PSTError
from pst.export import huggingface, verify
from pst.files.encodings import bits
from pst.files.formats import expand, read_sparse
from pst.model.loading import open_model, read_config
from pst.native.model import Agreement, NativeModel, int8
from pst.pipeline import trained
from pst.plan.families import ModelDescription
from pst.plan.planner import Target, plan
from pst.report import timing
from pst.training import teacher
from tests.pst.conftest import LABELS, toy_rows, write_job, write_rows

PHASES = ["prepare", "dense", "train", "merge", "export", "verify", "report"]


@dataclass
class Done:
    folder: Path
    events: list[dict[str, Any]]
    report: dict[str, Any]


def run_whole(folder: Path) -> Done:
    torch.set_num_threads(1)
    events: list[dict[str, Any]] = []
    return Done(folder, events, pipeline.run(folder, emit=events.append, should_stop=lambda: False))


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Done:
    folder = write_job(tmp_path_factory.mktemp("job"), base, distill=True, storage_dtype="bfloat16")
    return run_whole(folder)


@pytest.fixture(scope="module", autouse=True)
def _quick_timing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "BUDGET_SECONDS", 0.05)
        yield


@pytest.fixture
def verify_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same check without a second process, which costs seconds: two tests below do start one."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = verify.main(command[3:])
        return subprocess.CompletedProcess(command, code, output.getvalue(), "")

    monkeypatch.setattr(verify, "subprocess", SimpleNamespace(run=run))


def test_phases_come_in_order_and_end_in_a_report(done: Done) -> None:
    phases = [event for event in done.events if event["type"] == "phase"]
    assert [event["phase"] for event in phases] == PHASES
    assert [(event["index"], event["of"]) for event in phases] == [(index, 7) for index in range(7)]
    for path in (done.folder / "report.json", done.folder / "export/report.json"):
        assert json.loads(path.read_text()) == json.loads(json.dumps(done.report))
    assert set(done.report["seconds"]) == set(PHASES)


def test_progress_covers_dense_and_train(done: Done) -> None:
    for phase in ("dense", "train"):
        told = [e for e in done.events if e["type"] == "progress" and e["phase"] == phase]
        steps = [e for e in told if "part" not in e]  # calibration comes before the first step, and counts rows
        assert steps[0]["step"] == 1
        assert steps[-1]["step"] == steps[-1]["total_steps"]
        assert steps[-1]["eta_seconds"] == 0
    assert steps[-1]["sparsity"] == pytest.approx(0.9, abs=1e-3)
    keys = {"type", "phase", "step", "total_steps", "loss", "sparsity", "learning_rate", "metric", "eta_seconds"}
    assert set(steps[-1]) == keys


def test_checkpoints_are_announced_and_two_are_left(done: Done) -> None:
    events = [event for event in done.events if event["type"] == "checkpoint"]
    assert events[0]["step"] == 0  # after the dense phase
    last = events[-1]
    assert (done.folder / last["path"]).stat().st_size == last["bytes"]
    assert len(list((done.folder / "checkpoints").iterdir())) == 2


def test_report_counts_are_those_of_the_exported_file(done: Done) -> None:
    report, export = done.report, done.folder / "export"
    state = load_file(export / "model.safetensors")
    assert report["params"]["total"] >= sum(tensor.numel() for tensor in state.values())  # empty neurons are gone
    for matrix in report["sparsity"]["matrices"]:
        nonzeros = int((bits(state[matrix["name"]]) != 0).sum())
        assert matrix["nonzeros"] == nonzeros
        assert matrix["sparsity"] == 1 - nonzeros / math.prod(matrix["shape"])
    assert len(report["sparsity"]["matrices"]) == 12
    assert report["sparsity"]["reached"] >= report["sparsity"]["target"] - 1e-3
    assert report["bytes"]["expanded"] == (export / "model.safetensors").stat().st_size <= report["bytes"]["dense"]
    assert report["bytes"]["sparse"] == (export / "sparse/model.sparse.safetensors").stat().st_size
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}


def test_the_plan_predicted_the_file(done: Done, base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    settings = from_dict(done.report["settings"])
    planned = plan(
        ModelDescription(config, labels=len(LABELS)), Target(sparsity=0.9), storage_dtype="bfloat16", settings=settings
    )
    assert 0.9 * planned.sparse_bytes < done.report["bytes"]["sparse"] < 1.01 * planned.sparse_bytes
    assert done.report["params"]["trainable"] == planned.trainable_params
    assert 0.95 * planned.nonzero_params < done.report["params"]["nonzero"] < planned.nonzero_params + 20


def test_metrics_are_those_of_the_exported_model(done: Done) -> None:
    export = done.folder / "export"
    model = AutoModelForSequenceClassification.from_pretrained(export, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(export)
    rows = [json.loads(line) for line in (done.folder / "data/test.jsonl").read_text().splitlines()]
    inputs = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        labels = model(**inputs).logits.argmax(-1).tolist()
    right = sum(model.config.id2label[label] == row["label"] for label, row in zip(labels, rows, strict=True))
    assert done.report["metrics"]["test"]["accuracy"] == right / len(rows)
    low, high = done.report["metrics"]["test"]["interval"]
    assert low <= right / len(rows) <= high
    assert sum(map(sum, done.report["confusion"]["matrix"])) == len(rows)


def test_config_is_the_original_architecture_with_labels(done: Done) -> None:
    config = json.loads((done.folder / "export/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {str(index): label for index, label in enumerate(LABELS)}
    assert config["label2id"] == {label: index for index, label in enumerate(LABELS)}
    assert config["dtype"] == "bfloat16"
    assert not any(word in key for key in config for word in ("sparsity", "quantization", "name_or_path"))


def test_the_dense_file_can_be_rebuilt(done: Done, tmp_path: Path) -> None:
    copy = shutil.copytree(done.folder / "export", tmp_path / "copy")
    before = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").unlink()
    assert main(["expand", str(copy)]) == 0
    assert (copy / "model.safetensors").read_bytes() == before


def test_an_interrupted_run_ends_bit_equal(done: Done, tmp_path: Path, verify_here: None) -> None:
    folder = tmp_path / "again"
    folder.mkdir()
    shutil.copytree(done.folder / "data", folder / "data")
    shutil.copy(done.folder / "spec.json", folder)
    total = done.report["steps"]
    events: list[dict[str, Any]] = []

    def stop_in(phase: str, polls: int) -> Callable[[], bool]:
        left = polls

        def stop() -> bool:
            nonlocal left
            if [event["phase"] for event in events if event["type"] == "phase"][-1] == phase:
                left -= 1
            return left < 0

        return stop

    with pytest.raises(pipeline.Stopped):  # the dense phase goes on at its fifth step
        pipeline.run(folder, emit=events.append, should_stop=stop_in("dense", 4))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["dense-000004.safetensors"]
    with pytest.raises(PSTError, match="has reached the final sparsity"):
        pipeline.export(folder, emit=lambda event: None)
    events.clear()
    with pytest.raises(pipeline.Stopped):
        pipeline.run(folder, emit=events.append, should_stop=stop_in("train", total - 3))
    assert next(e["step"] for e in events if e["type"] == "progress" and e["phase"] == "dense") == 5
    # another machine: only the newest checkpoint, under its other name
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    newest.rename(folder / "resume.safetensors")
    shutil.rmtree(folder / "checkpoints")
    events.clear()
    report = pipeline.run(folder, emit=events.append, should_stop=lambda: False)
    assert [e["phase"] for e in events if e["type"] == "phase"] == [p for p in PHASES if p != "dense"]
    assert next(e["step"] for e in events if e["type"] == "progress" and "part" not in e) == total - 2
    for name in ("model.safetensors", "sparse/model.sparse.safetensors", "sparse/index.json", "config.json"):
        assert (folder / "export" / name).read_bytes() == (done.folder / "export" / name).read_bytes(), name
    for key in ("metrics", "dense", "sparsity", "agreement", "confusion", "best_step"):
        assert report[key] == done.report[key]


def other_rows(folder: Path) -> None:
    path = folder / "data/train.jsonl"
    path.write_text(path.read_text() + json.dumps({"text": "one more red", "label": LABELS[0]}) + "\n")


def other_weights(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    base = shutil.copytree(spec["base_model"], folder / "base")
    tamper_tensor("embeddings.word_embeddings.weight", (6, 0), "model.safetensors")(base)
    break_spec({"base_model": str(base)})(folder)


def other_settings(folder: Path) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    break_spec({"settings": {**spec["settings"], "seed": 1}})(folder)


@pytest.mark.parametrize("change", [other_rows, other_weights, other_settings])
def test_a_checkpoint_of_other_settings_rows_or_weights_is_refused(
    done: Done, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = tmp_path / "job"
    shutil.copytree(done.folder, folder, ignore=shutil.ignore_patterns("export", "verify"))
    change(folder)
    with pytest.raises(PSTError, match="belongs to a run with other settings, rows or base model; remove it"):
        pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False)


def tamper_tensor(name: str, place: tuple[int, ...], where: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        path = folder / where
        state = load_file(path)
        state[name][place] += 1.0
        save_file(state, path, metadata={"format": "pt"})

    return tamper


def tamper_both(folder: Path) -> None:
    """A consistent change of both files: only the predictions can tell."""
    from pst.files.formats import write_sparse
    from pst.files.shards import write_shards

    state = load_file(folder / "model.safetensors")
    state["classifier.bias"][1] += 5.0
    write_shards(state, folder / "model.safetensors")
    write_sparse(state, folder / "sparse")


def drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    "tamper,words",
    [
        (tamper_tensor("classifier.weight", (0, 0), "model.safetensors"), "differs between"),
        (tamper_tensor("classifier.weight", (0, 0), "sparse/model.sparse.safetensors"), "sha256"),
        (tamper_both, "than the trainer|differs from the trainer"),
        (lambda folder: (folder / "model.safetensors").unlink(), "can't be read"),
        (lambda folder: (folder / "sparse/index.json").unlink(), "can't be read"),
        (drop_tokenizer, "how long a text may be"),
    ],
)
def test_the_verifier_finds_a_tampered_folder(
    done: Done, tmp_path: Path, tamper: Callable[[Path], None], words: str
) -> None:
    copy = shutil.copytree(done.folder / "export", tmp_path / "export")
    rows, predictions = done.folder / "verify/rows.jsonl", done.folder / "verify/predictions.safetensors"
    assert verify.check(copy, rows, predictions)["ok"]
    tamper(copy)
    with pytest.raises(FormatError, match=words):
        verify.check(copy, rows, predictions)
    assert verify.main([str(copy), str(rows), str(predictions)]) == 1


def test_a_job_says_how_often_int8_gives_the_same_answer(done: Done) -> None:
    found = Agreement.read(done.folder / "export")
    checked = len((done.folder / "verify/rows.jsonl").read_text("utf-8").splitlines())
    assert (found is not None) == int8()
    assert found is None or (found.rows == checked and 0.8 <= found.share <= 1 and found.difference < 1)


def test_an_engine_that_answers_otherwise_fails_the_job(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = NativeModel.logits
    monkeypatch.setattr(NativeModel, "logits", lambda model, rows: logits(model, rows).flip(1))
    paths = (done.folder / "verify/rows.jsonl", done.folder / "verify/predictions.safetensors")
    with pytest.raises(FormatError, match="the sparse engine"):
        verify.check(done.folder / "export", *paths)


def test_a_failed_check_fails_the_run(
    done: Done, tmp_path: Path, verify_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(done.folder, tmp_path / "job")
    whole = huggingface.export

    def export(*arguments: Any, **options: Any) -> Any:
        sizes = whole(*arguments, **options)
        tamper_both(folder / "export")
        return sizes

    monkeypatch.setattr(huggingface, "export", export)
    with pytest.raises(PSTError, match="The exported model failed its check"):
        pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False)


def test_cli_reports_and_exports_again(
    done: Done, tmp_path: Path, verify_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(done.folder, tmp_path / "job")
    shutil.rmtree(folder / "export")
    assert main(["export", str(folder)]) == 0
    again = read_sparse(folder / "export/sparse")
    first = read_sparse(done.folder / "export/sparse")
    assert all(torch.equal(bits(tensor), bits(first[name])) for name, tensor in again.items())
    capsys.readouterr()
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == done.report["metrics"]
    assert main(["report", str(folder)]) == 0
    assert f"{done.report['metrics']['test']['accuracy']:.2%}" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["magnitude", "dense"])
def test_cli_trains_the_other_methods(
    base: Path,
    tmp_path: Path,
    method: str,
    verify_here: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # no line of the table is broken
    folder = write_job(tmp_path, base, method=method, epochs=2, dense_epochs=2, evaluations=2)
    assert main(["train", str(folder)]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["method"] == method
    assert report["sparsity"]["reached"] == pytest.approx(
        {"magnitude": 0.9, "dense": 0.0}[method], abs=2e-3
    )  # some weights are zero by themselves
    if method == "dense":
        assert report["agreement"] == 1.0
        assert report["dense"] == report["metrics"]
    expand(folder / "export")
    assert "sparsity of the pruned matrices" in capsys.readouterr().out


def break_spec(change: dict[str, Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        spec = json.loads((folder / "spec.json").read_text())
        (folder / "spec.json").write_text(json.dumps({**spec, **change}))

    return apply


def validation_only(folder: Path) -> None:
    write_rows(folder / "data/train.jsonl", [row for row in toy_rows(60, 1) if row["label"] != "tool"])
    write_rows(folder / "data/validation.jsonl", toy_rows(9, 2))
    break_spec({"validation": "data/validation.jsonl"})(folder)


@pytest.mark.parametrize(
    "spoil,words",
    [
        (lambda folder: (folder / "spec.json").unlink(), "spec.json can't be read"),
        (lambda folder: (folder / "spec.json").write_text("[]"), "must hold a JSON object"),
        (lambda folder: (folder / "data/train.jsonl").write_text(""), "train.jsonl has no rows"),
        (validation_only, "label 'tool' is in the validation rows but not in training rows"),
        (break_spec({"base_model": "/nowhere"}), "no base model in /nowhere"),
        (break_spec({"base_model": None}), "must name base_model"),
        (break_spec({"task": "translation"}), "task 'translation'"),
        (break_spec({"labels": ["colour"]}), "at least two different labels"),
        (break_spec({"labels": ["colour", "animal", "rest"]}), "label 'tool' is not among"),
        (break_spec({"settings": {"epochs": -1}}), "epochs: must be > 0"),
        (break_spec({"settings": {"colour": 1}}), "colour: is no setting"),
        (break_spec({"target": {"sparsity": 0.2}}), "sparsity: must be between"),
        (break_spec({"target": {"max_bytes": 10}}), "(10 bytes) can't be met"),
        (break_spec({"target": {"speed": 10}}), "target 'speed' is not known"),
        (break_spec({"target": {"max_bytes": "10"}}), "max_bytes must be a number"),
        (break_spec({"plan": {"attention": 0.9}}), "plan must give a sparsity for each"),
        (break_spec({"plan": {"attention": 0.9, "ffn": 1.0}}), "plan ffn must be between"),
        (break_spec({"plan": {"groups": [{"name": "ffn"}]}}), "plan sparsity is missing or of a wrong kind"),
    ],
)
def test_what_the_user_gets_wrong_is_one_plain_sentence(
    base: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_job(tmp_path, base)
    spoil(folder)
    assert main(["train", str(folder)]) == 1
    error = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert words in error


def test_export_and_report_need_a_run(base: Path, tmp_path: Path) -> None:
    folder = write_job(tmp_path, base)
    with pytest.raises(PSTError, match="has reached the final sparsity"):
        pipeline.export(folder, emit=lambda event: None)
    assert main(["report", str(folder)]) == 1


def test_an_explicit_plan_sets_each_group(base: Path, tmp_path: Path, verify_here: None) -> None:
    folder = write_job(tmp_path, base, epochs=2, dense_epochs=1, evaluations=2)
    break_spec({"plan": {"attention": 0.5, "ffn": 0.95}})(folder)
    report = pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False)
    groups: dict[str, list[dict[str, Any]]] = {"attention": [], "ffn": []}
    for matrix in report["sparsity"]["matrices"]:
        group = "attention" if ".attention." in matrix["name"] else "ffn"
        groups[group].append(matrix)
    reached = {
        group: 1 - sum(m["nonzeros"] for m in members) / sum(math.prod(m["shape"]) for m in members)
        for group, members in groups.items()
    }
    assert reached["attention"] == pytest.approx(0.5, abs=1e-3)
    assert reached["ffn"] > 0.95 - 1e-3  # more where the neurons at its ends are empty
    assert report["sparsity"]["reached"] > report["sparsity"]["target"] - 1e-3


def test_the_student_begins_with_its_teachers_head(
    base: Path, tmp_path: Path, verify_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, torch.Tensor] = {}

    class Noted(trained.Trainer):
        def run(self) -> None:
            if self.phase == "train":
                begun.update((name, p.detach().clone()) for name, p in self.trained.items())
            super().run()

    monkeypatch.setattr(trained, "Trainer", Noted)
    folder = write_job(tmp_path, base, epochs=1, dense_epochs=2, evaluations=1, distill_hidden_weight=1.0)
    pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False)
    opened = open_model(base, "classification", LABELS, 42)
    teacher.fill(opened.finish(), folder, ModelDescription(read_config(base), labels=3), opened.origin(base))
    taught = opened.model.state_dict()
    head = {name for name in begun if name in taught}
    assert {name.rpartition(".")[0] for name in head} == {"bert.pooler.dense", "classifier"}
    assert all(torch.equal(begun[name], taught[name]) for name in head)


def test_budget_errors_are_plain_errors() -> None:
    assert issubclass(BudgetError, PSTError)


def test_a_whole_plan_in_the_spec_is_not_made_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a checkpoint of a run that got the sparsities alone belong to another one."""
    folder = write_job(tmp_path, base)
    model = ModelDescription(read_config(base), labels=len(LABELS))
    given = plan(
        model, Target(sparsity=0.8), settings=from_dict(json.loads((folder / "spec.json").read_text())["settings"])
    )
    break_spec({"plan": given.sparsities()})(folder)
    key = specs.read(folder).fingerprint()
    break_spec({"plan": given.to_dict()})(folder)
    read = specs.read(folder)
    assert read.fingerprint() == key
    with monkeypatch.context() as patch:
        patch.setattr(specs, "make_plan", None)
        assert specs.plan(read, model) == (read.planned, given.sparsities())
    other = replace(model, config=model.config | {"vocab_size": 20})  # a trimmed vocabulary
    planned, sparsity = specs.plan(read, other)
    assert (planned.weights(), sparsity) == (other.weights(), given.sparsities())
