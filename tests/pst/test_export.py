"""From trained layers to a published folder, for every family: rounded, quantised, tied and transposed weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from pst.config import TrainSettings
from pst.export import huggingface
from pst.export.merge import MergedMatrix, merge, recount
from pst.export.quantize import quantize
from pst.export.structured import shrink
from pst.files.encodings import bits
from pst.files.formats import expand, narrowed, read_sparse
from pst.layers.inject import inject, select_all
from pst.model.loading import load_model, matched_specs, read_config, state_of
from pst.plan.families import ModelDescription, TensorSpec
from tests.pst.conftest import LABELS, write_base
from tests.pst.tiny import CONFIGS, logits, save_folder

GENERATORS = ("gpt2", "gpt2-narrow", "llama", "llama-tied", "t5", "t5-gated", "bart-untied")
CLASSIFIERS = ("bert", "roberta", "mpnet", "electra", "distilbert", "gpt2", "llama", "bart")


def published(
    base: Path, folder: Path, task: str, settings: TrainSettings, sparsity: float = 0.75
) -> tuple[Any, list[TensorSpec], list[MergedMatrix], huggingface.Exported]:
    """Prune by magnitude, merge, remove, round and export, as a job does."""
    labels = [] if task == "generation" else LABELS
    storage = getattr(torch, settings.storage_dtype)
    model, config = load_model(base, task, labels, 0), read_config(base)
    specs = matched_specs(model, ModelDescription(config, task, len(labels)))
    modules = inject(model, specs, settings)
    families = ModelDescription(config, task).unit_families
    select_all(
        modules, dict.fromkeys(ModelDescription(config).groups, sparsity), "matrix", settings.structure, families
    )
    matrices = merge(model, modules, storage)
    model, _ = shrink(model, task, settings.structure)
    storing = quantize(model, specs, settings, storage)
    matrices = recount(matrices, model)
    sizes = huggingface.export(model, base, labels, storage, 32, folder, task=task, storing=storing)
    return model.eval(), specs, matrices, sizes


def base_of(folder: Path, name: str, task: str) -> Path:
    write_base(folder)  # for its tokenizer
    return save_folder(folder, name, task, vocab_size=60)


def reloaded(folder: Path, task: str) -> Any:
    """The folder in plain transformers."""
    if task != "generation":
        return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    two = AutoConfig.from_pretrained(folder).is_encoder_decoder
    return (AutoModelForSeq2SeqLM if two else AutoModelForCausalLM).from_pretrained(folder, dtype=torch.float32).eval()


def check_folder(model: Any, folder: Path, task: str) -> None:
    """Plain transformers predicts as ``model`` does; the compact file holds the same tensors, each once."""
    AutoTokenizer.from_pretrained(folder)
    assert torch.equal(logits(reloaded(folder, task), task), logits(model, task))
    dense, compact = load_file(folder / "model.safetensors"), read_sparse(folder / "sparse")
    assert dense.keys() == compact.keys()
    for name, tensor in dense.items():
        assert tensor.dtype == compact[name].dtype and torch.equal(bits(tensor), bits(compact[name]))
    before = (folder / "model.safetensors").read_bytes()
    assert expand(folder).read_bytes() == before


@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name: str, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", name, "generation")
    settings = TrainSettings(method="magnitude", storage_dtype="bfloat16", quantize=True, embedding_storage="int8")
    model, specs, matrices, _ = published(base, tmp_path / "out", "generation", settings)
    check_folder(model, tmp_path / "out", "generation")
    assert load_file(tmp_path / "out/model.safetensors").keys() == {spec.name for spec in specs}  # no tied name
    config = json.loads((tmp_path / "out/config.json").read_text())
    made = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert config["model_type"] == CONFIGS[name]["model_type"] and made["eos_token_id"] == config["eos_token_id"]
    index = json.loads((tmp_path / "out/sparse/index.json").read_text())["tensors"]
    for spec in specs:
        quantised = spec.group is not None or spec.embedding
        assert (index[spec.name].get("stored") == "int8") == quantised
        assert index[spec.name].get("transposed", False) == spec.conv1d
    for matrix in matrices:
        assert (
            index[matrix.name]["nnz"]
            >= matrix.nonzeros
            == int((read_sparse(tmp_path / "out/sparse")[matrix.name] != 0).sum())
        )


@pytest.mark.parametrize(
    "name,structure",
    [(name, "unstructured") for name in CLASSIFIERS]
    + [(name, structure) for name in ("bert", "gpt2") for structure in ("2:4", "block_1x4", "block_4x1")],
)
def test_classifiers(name: str, structure: Any, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", name, "classification")
    settings = TrainSettings(method="magnitude", structure=structure, embedding_storage="bfloat16")
    # A larger share would empty whole neurons of so small a model, and they would be removed.
    share = {"unstructured": 0.75, "2:4": 0.5}.get(structure, 0.3)
    model, specs, matrices, sizes = published(base, tmp_path / "out", "classification", settings, share)
    check_folder(model, tmp_path / "out", "classification")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["id2label"] == {str(index): label for index, label in enumerate(LABELS)}
    assert all(abs(matrix.sparsity - share) < 0.01 for matrix in matrices)
    index = json.loads((tmp_path / "out/sparse/index.json").read_text())["tensors"]
    ends = {"2:4": "nm_2_4", "block_1x4": "_1x4", "block_4x1": "_4x1", "unstructured": "bitmask"}
    assert all(index[matrix.name]["encoding"].endswith(ends[structure]) for matrix in matrices)
    assert all(index[spec.name].get("stored") == "bfloat16" for spec in specs if spec.embedding)
    assert sizes.sparse == (tmp_path / "out/sparse/model.sparse.safetensors").stat().st_size < sizes.expanded


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_structured_models_are_really_smaller(name: str, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", name, "classification")
    settings = TrainSettings(method="magnitude", structure="structured", quantize=True)
    model, _, matrices, _ = published(base, tmp_path / "out", "classification", settings, 0.5)
    check_folder(model, tmp_path / "out", "classification")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    shapes = {spec.name: spec.shape for spec in ModelDescription(read_config(tmp_path / "out"), labels=3).tensors}
    assert {key: tuple(tensor.shape) for key, tensor in after.items()} == shapes
    assert sum(t.numel() for t in after.values()) < sum(t.numel() for t in before.values())
    assert any(0.4 < matrix.sparsity < 0.6 for matrix in matrices)


@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float16"])
def test_rounding(base: Path, storage: Any) -> None:
    """Rows of very different size, one of zeros, and one so small that float16 loses it."""
    dtype = getattr(torch, storage)
    settings = TrainSettings(method="magnitude", quantize=True, embedding_storage="int8", storage_dtype=storage)
    model = load_model(base, "classification", LABELS, 0)
    specs = matched_specs(model, ModelDescription(read_config(base), labels=3))
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    weight = model.get_parameter(name)
    with torch.no_grad():
        weight[0] = 0
        weight[1] *= 1e-7
        weight[2] *= 1e3
    original = weight.detach().clone()
    storing = quantize(model, specs, settings, dtype)
    how, state = storing[name], model.state_dict()
    scales = how.scales
    assert scales is not None and how.dtype == torch.int8 and (how.values is not None) == (storage == "float16")
    values = narrowed(state[name].to(dtype), scales, torch.int8) if how.values is None else how.values
    assert torch.equal(state[name], (values.float() * scales[:, None]).to(dtype).float())
    assert torch.equal(state[name] == 0, values == 0) and not bits(state[name])[values == 0].any()
    step = original.abs().amax(1, keepdim=True) / 127
    error = step * 0.51 + torch.finfo(dtype).eps * original.abs() + torch.finfo(dtype).smallest_normal
    assert ((state[name] - original).abs() <= error).all()
    for tensor in state.values():
        assert torch.equal(tensor, tensor.to(dtype).float())
    assert storing.keys() == {spec.name for spec in specs if spec.group or spec.embedding}


def test_narrow_embeddings_change_nothing_where_all_is_narrow(base: Path) -> None:
    model = load_model(base, "classification", LABELS, 0)
    specs = matched_specs(model, ModelDescription(read_config(base), labels=3))
    settings = TrainSettings(method="magnitude", embedding_storage="bfloat16", storage_dtype="float16")
    assert quantize(model, specs, settings, torch.float16) == {}


def test_a_model_stored_element_by_element(tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", "bert", "classification")
    model = load_model(base, "classification", LABELS, 0)
    sizes = huggingface.export(model, base, LABELS, torch.float32, 16, tmp_path / "out")
    check_folder(model.eval(), tmp_path / "out", "classification")
    assert state_of(model, ModelDescription(read_config(base))).keys() == read_sparse(tmp_path / "out/sparse").keys()
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 16
    assert sizes.expanded == (tmp_path / "out/model.safetensors").stat().st_size


def test_labels_are_listed_by_their_number(tmp_path: Path) -> None:
    """Not 0, 1, 10, 11, 2: code that takes them in order would name others."""
    labels = [f"class {index}" for index in range(12)]
    model = load_model(write_base(tmp_path / "base"), "classification", labels, 0)
    huggingface.export(model, tmp_path / "base", labels, torch.float32, 16, tmp_path / "export")
    text = (tmp_path / "export/config.json").read_text()
    config = json.loads(text)
    assert list(config["id2label"].items()) == [(str(index), label) for index, label in enumerate(labels)]
    assert list(config["label2id"].items()) == [(label, index) for index, label in enumerate(labels)]
    assert list(config) == sorted(config)
    assert list(AutoConfig.from_pretrained(tmp_path / "export").id2label.values()) == labels
