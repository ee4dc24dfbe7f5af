"""Transformers' own classes load the compact model once ``pst.hf`` is imported."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from pst import hf
from pst.config import TrainSettings
from pst.errors import FormatError
from pst.hf import SparseLinear
from pst.plan.families import FAMILIES
from tests.pst.test_export import base_of, published
from tests.pst.tiny import CONFIGS, logits, tokens

CASES = [
    (name, task)
    for name, config in sorted(CONFIGS.items())
    for task in ("classification", "generation")
    if task in FAMILIES[config["model_type"]].tasks
]


def loader(task: str, config: Any) -> Any:
    if task == "classification":
        return AutoModelForSequenceClassification
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def exported(folder: Path, name: str, task: str, sparsity: float = 0.75, **settings: Any) -> Any:
    """Fills ``folder``/export; returns the model."""
    chosen = TrainSettings(method="magnitude", **settings)
    return published(base_of(folder / "base", name, task), folder / "export", task, chosen, sparsity)[0]


def compact(kind: Any, folder: Path, **options: Any) -> Any:
    return kind.from_pretrained(
        folder,
        config=AutoConfig.from_pretrained(folder),
        subfolder="sparse",
        variant="sparse",
        quantization_config=hf.SparseConfig(),
        **options,
    )


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_family_answers_as_the_dense_layout(tmp_path: Path, name: str, task: str) -> None:
    model = exported(tmp_path, name, task)
    kind = loader(task, model.config)
    sparse, info = compact(kind, tmp_path / "export", output_loading_info=True)
    plain = kind.from_pretrained(tmp_path / "export")
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert sum(isinstance(module, SparseLinear) for module in sparse.modules()) > 0
    torch.testing.assert_close(logits(sparse, task), logits(plain, task), atol=1e-5, rtol=1e-4)
    if task == "generation":
        ids = tokens()["input_ids"]
        assert torch.equal(
            *(one.generate(ids, max_new_tokens=4, do_sample=False, use_cache=False) for one in (sparse, plain))
        )


def test_what_it_holds_is_the_nonzeros(tmp_path: Path) -> None:
    exported(tmp_path, "bert", "classification", sparsity=0.9)
    model = compact(AutoModelForSequenceClassification, tmp_path / "export")
    layer = model.bert.encoder.layer[0].intermediate.dense
    assert isinstance(layer, SparseLinear)
    assert layer.packed.bytes < layer.in_features * layer.out_features * 4
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    twin = copy.deepcopy(model)
    assert torch.equal(twin(**tokens()).logits, model(**tokens()).logits)
    with pytest.raises(TypeError, match="packed weight"):
        pickle.dumps(layer)
    with pytest.raises(FormatError, match="runs on the CPU alone"):
        layer(torch.empty(1, layer.in_features, device="meta"))
    half = torch.randn(2, 3, layer.in_features, dtype=torch.bfloat16)
    assert layer(half).dtype == torch.bfloat16 and layer(half).shape == (2, 3, layer.out_features)


@pytest.mark.parametrize(
    "changes", [{"quantize": True, "embedding_storage": "int8"}, {"embedding_storage": "bfloat16"}]
)
def test_smaller_values_are_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    exported(tmp_path, "gpt2", "classification", **changes)
    kind = AutoModelForSequenceClassification
    sparse = compact(kind, tmp_path / "export")
    plain = kind.from_pretrained(tmp_path / "export")
    assert torch.equal(sparse.transformer.wte.weight, plain.transformer.wte.weight)
    torch.testing.assert_close(sparse(**tokens()).logits, plain(**tokens()).logits, atol=1e-5, rtol=1e-4)


def test_without_the_engine_maps_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported(tmp_path, "bert", "classification")
    monkeypatch.setattr(hf, "available", lambda: False)
    model = compact(AutoModelForSequenceClassification, tmp_path / "export")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export")
    assert isinstance(model.bert.encoder.layer[0].intermediate.dense, nn.Linear)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), plain.parameters(), strict=True))
