"""The way of a model that is too large for two copies: frozen weights in fewer bits, no dense phase, no dense file,
shards. Tiny models go it here."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pst import pipeline
from pst.config import SettingsError, TrainSettings, check
from pst.errors import FormatError
from pst.export import verify
from pst.files.encodings import bits
from pst.files.formats import Compact, expand, write_sparse
from pst.files.shards import Files, write_shards
from pst.layers.inject import frozen, inject
from pst.layers.linear import PSTLinear
from pst.model import memory
from pst.model.loading import TensorLocation, load_model, matched_specs, open_model, read_config, weights_in
from pst.pipeline import results
from pst.plan.families import ModelDescription
from pst.report import SCHEMA, timing
from pst.report.page import render
from tests.pst.conftest import write_job
from tests.pst.texts import write_generator, write_text_job
from tests.pst.tiny import logits, save_folder

LARGE = {"compare_dense": False, "distill": False, "storage_dtype": "bfloat16", "epochs": 16}


@pytest.fixture(autouse=True)
def verify_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same check without a second process, which costs seconds."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = verify.main(command[3:])
        return subprocess.CompletedProcess(command, code, output.getvalue(), "")

    monkeypatch.setattr(timing, "BUDGET_SECONDS", 0.05)
    monkeypatch.setattr(verify, "subprocess", SimpleNamespace(run=run))


def run(folder: Path, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return pipeline.run(folder, emit=events.append, should_stop=lambda: False, **options), events


@pytest.mark.parametrize("frozen_weights,power", [("bfloat16", 0.0), ("int8", 0.5)])
def test_a_classifier_with_frozen_weights_in_fewer_bits(
    base: Path, tmp_path: Path, frozen_weights: str, power: float
) -> None:
    settings = {**LARGE, "frozen_weights": frozen_weights, "activation_power": power}
    folder = write_job(tmp_path, base, target={"sparsity": 0.5}, **settings)
    report, events = run(folder)
    assert report["verify"]["ok"] and report["verify"]["max_difference"] == 0.0
    assert "dense" not in [event["phase"] for event in events if event["type"] == "phase"]
    assert report["dense"]["test"]["accuracy"] < report["metrics"]["test"]["accuracy"]  # an untrained head
    state = load_file(folder / "export/model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert abs(report["sparsity"]["reached"] - 0.5) < 0.01


def test_a_generator_is_published_as_the_compact_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base model's weights are not in its folder either, and the machine has no room for the report's models."""
    monkeypatch.setattr(results, "MODELS_SHARE", 0.0)
    shown: list[Any] = []
    base = write_generator(tmp_path / "base", "t5")
    weights = Files(base / "model.safetensors")
    (base / "model.safetensors").rename(tmp_path / "elsewhere")
    settings = {**LARGE, "frozen_weights": "int8", "dense_file": False, "threshold": "global", "epochs": 2}
    folder = write_text_job(tmp_path / "job", base, target={"sparsity": 0.9}, **settings)
    report, events = run(folder, weights=weights, merged=lambda model, task: shown.append((model.dtype, task.name)))
    assert shown == [(torch.bfloat16, "generation")]
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    assert report["measures"]["time"] is None and "too large for the machine" in render(report)
    assert report["measures"]["size"]["parameters"]["dense"] == report["params"]["total"]
    assert any("its speed is not measured" in event.get("message", "") for event in events)
    assert report["verify"]["ok"] and report["verify"]["max_difference"] == 0.0
    assert report["bytes"]["expanded"] is None and not (folder / "export/model.safetensors").exists()
    assert abs(report["sparsity"]["reached"] - 0.9) < 0.01
    expand(folder / "export")
    loaded = open_model(folder / "export", "generation", [], 0, TensorLocation(weights=None)).finish()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pst.model.loading.has_files", lambda path: False)
        compact = open_model(folder / "export", "generation", [], 0, TensorLocation(weights=None)).finish()
    assert loaded.dtype == torch.bfloat16
    words = {"input_ids": torch.tensor([[4, 5, 1]]), "decoder_input_ids": torch.tensor([[0, 6]])}
    with torch.no_grad():
        assert torch.equal(loaded(**words).logits, compact(**words).logits)


def test_settings_that_do_not_go_together() -> None:
    for wrong, field in (
        ({"method": "lora", "frozen_weights": "int8"}, "frozen_weights"),
        ({"precision": "float32", "frozen_weights": "bfloat16", "storage_dtype": "bfloat16"}, "frozen_weights"),
        ({"frozen_weights": "bfloat16"}, "frozen_weights"),
        ({"compare_dense": False}, "distill"),
    ):
        with pytest.raises(SettingsError) as caught:
            check(TrainSettings(**wrong))  # type: ignore[arg-type]
        assert caught.value.field == field


class Watched(Files):
    """Counts the matrices that were read and not let go of."""

    alive = 0
    most = 0

    def tensor(self, name: str, device: torch.device) -> Tensor:
        found = super().tensor(name, device).clone()
        if found.dim() == 2:
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(found.untyped_storage(), self._gone)
        return found

    def _gone(self) -> None:
        self.alive -= 1


def test_weights_go_to_the_card_of_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to the first one, which the threads that read them would take "cuda" for."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert TensorLocation(torch.device("cuda")).device == torch.device("cuda", 1)
    assert TensorLocation(torch.device("cuda", 0)).device == torch.device("cuda", 0)
    assert TensorLocation().device == torch.device("cpu")


def test_each_matrix_is_in_8_bits_before_the_next_but_one_is_read(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, "llama", "generation")
    source = Watched(folder / "model.safetensors")
    opened = open_model(folder, "generation", [], 0, TensorLocation(weights="int8", source=source))
    specs = matched_specs(opened.model, ModelDescription(read_config(folder), "generation", 0))
    settings = replace(TrainSettings(), frozen_weights="int8", storage_dtype="bfloat16")
    modules = inject(opened.model, specs, settings, opened.fill)
    assert len(modules) == 14 and source.most <= 3
    assert all(isinstance(module.layer, PSTLinear) and module.layer.weight.dtype == torch.int8 for module in modules)
    model = opened.finish()
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_what_a_base_model_lacks_or_has_in_another_shape(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, "bert")
    held = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    for change in (None, torch.zeros(3, 3)):
        rest = {key: value for key, value in held.items() if key != name}
        write_shards(rest if change is None else {**rest, name: change}, folder / "model.safetensors")
        with pytest.raises(ValueError, match=f"{name} (is missing|has the shape)"):
            load_model(folder, "classification", ["a", "b"], 0)
    old = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): value for key, value in held.items()}
    write_shards(old, folder / "model.safetensors")
    state = load_model(folder, "classification", ["a", "b", "c"], 0).state_dict()
    assert all(torch.equal(state[key], value) for key, value in held.items())


def several(folder: Path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = {f"{index}.weight": torch.randn(24, 40) for index in range(5)}
    state |= {f"{index}.bias": torch.randn(24) for index in range(5)}
    for index in range(4):
        state[f"{index}.weight"][torch.rand(24, 40) < 0.9] = 0
    write_shards(state, folder / "model.safetensors", limit=8000)
    write_sparse(state, folder / "sparse", limit=2000)
    return state


def test_a_model_larger_than_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = several(tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    assert names[0] == f"model-00001-of-0000{len(names)}.safetensors" and len(names) > 2
    assert index["metadata"]["total_size"] == sum(tensor.numel() * 4 for tensor in state.values())
    found: dict[str, Tensor] = {}
    for name in names:
        held = load_file(tmp_path / name)
        assert sum(tensor.numel() * 4 for tensor in held.values()) <= 8000
        assert {index["weight_map"][key] for key in held} == {name}
        found |= held
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    about = json.loads((tmp_path / "sparse/index.json").read_text())
    assert about["version"] == 3 and len(about["files"]) > 1 and "file" not in about
    for reader in (Files(tmp_path / "model.safetensors"), Compact(tmp_path / "sparse")):
        assert set(reader) == set(state)
        for name, tensor in state.items():
            assert reader.shape(name) == tensor.shape
            assert torch.equal(bits(reader.tensor(name, torch.device("cpu"))), bits(tensor))
    for path in tmp_path.glob("model*"):
        path.unlink()
    assert weights_in(tmp_path).shape("0.weight") == (24, 40)  # the compact model
    monkeypatch.setattr(write_shards, "__defaults__", (8000,))
    assert expand(tmp_path) == tmp_path / "model.safetensors.index.json"
    again = Files(tmp_path / "model.safetensors")
    assert all(torch.equal(again.tensor(name, torch.device("cpu")), state[name]) for name in state)
    assert not list(tmp_path.glob("*.partial"))


def test_damaged_shards_are_found(tmp_path: Path) -> None:
    several(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink(missing_ok=True)
    files = Files(tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match="can't be read"):
        for name in files:
            files.tensor(name, torch.device("cpu"))
    index = tmp_path / "sparse/index.json"
    index.write_text(index.read_text().replace('"model.sparse-00001', '"../model.sparse-00001'))
    with pytest.raises(FormatError, match="another folder"):
        Compact(tmp_path / "sparse")


@pytest.mark.parametrize("held", [0, 1, 10**9])
def test_masked_weights_are_held_while_they_fit(tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_folder(tmp_path, "bert")
    model = load_model(folder, "classification", ["a", "b"], 0)
    settings = TrainSettings(update_rank=4, score_rank=2)
    modules = inject(model, matched_specs(model, ModelDescription(read_config(folder), labels=2)), settings)
    one = modules[0].layer.masked_bytes()
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * one * held)
    with torch.no_grad(), frozen(modules):
        inside = logits(model)
        count = sum(module.layer.frozen is not None for module in modules)
    assert count == {0: 0, 1: 1, 10**9: len(modules)}[held]
    with torch.no_grad():
        torch.testing.assert_close(inside, logits(model))
    assert not any(module.layer.evaluating for module in modules)
