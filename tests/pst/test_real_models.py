"""The real MPNet-base and SmolLM2-135M, where tests/models.py has made their folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from pst.config import TrainSettings
from pst.export.structured import shrink
from pst.model.loading import load_model, load_tokenizer, matched_specs, read_config
from pst.plan.families import ModelDescription
from pst.plan.planner import Target, plan
from tests.models import MODELS, main


def folder_of(variable: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} does not name a folder made by tests/models.py")
    return Path(folder)


@pytest.fixture(scope="module")
def mpnet() -> Path:
    return folder_of("SPARSEWRIGHT_MPNET")


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return folder_of("SPARSEWRIGHT_SMOLLM2")


@pytest.mark.parametrize("name", MODELS)
def test_a_missing_package_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, str(tmp_path / "packages"), str(tmp_path / "model")]) == 1
    assert "install the packages as the help says" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_mpnet(mpnet: Path) -> None:
    config = read_config(mpnet)
    model: Any = load_model(mpnet, "classification", ["a", "b", "c"], 0)
    model.eval()
    matched_specs(model, ModelDescription(config, labels=3))
    tokenizer = load_tokenizer(mpnet)
    assert ModelDescription(config).max_tokens == tokenizer.model_max_length == 512
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell by three percent."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.base_model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    alike, unlike = means[0] @ means[1], means[0] @ means[2]
    assert alike > 0.5 > unlike + 0.3  # the weights are the trained ones
    planned = plan(ModelDescription(config, labels=3), Target(sparsity=0.9))
    assert planned.total_params == sum(p.numel() for p in model.parameters())
    assert planned.prunable_params == 12 * 12 * 768 * 768
    head = sum(spec.numel for spec in ModelDescription(config, labels=3).tensors if spec.head)
    beyond = {
        method: plan(
            ModelDescription(config, labels=3), Target(sparsity=0.9), settings=TrainSettings(method=method)
        ).trainable_params
        - head
        for method in ("pst", "movement")
    }
    assert beyond["pst"] <= 0.02 * beyond["movement"]


def test_smollm2(smollm2: Path) -> None:
    config = read_config(smollm2)
    model: Any = load_model(smollm2, "generation", [], 0)
    model.eval()
    matched_specs(model, ModelDescription(config, "generation", 0))
    tokenizer = load_tokenizer(smollm2)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        said = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(said[0])
    settings = TrainSettings(structure="structured")
    planned = plan(ModelDescription(config, "generation", 0), Target(sparsity=0.5), settings=settings)
    with torch.no_grad():
        for family in ModelDescription(config, "generation").unit_families:
            for name, axis in family.members:
                weight = model.get_submodule(name.removesuffix(".weight")).weight
                width = weight.shape[axis] // family.count
                kept = family.kept(planned.sparsities()[family.group])
                weight.narrow(axis, kept * width, weight.shape[axis] - kept * width).zero_()
        before = model(**prompt).logits
        small, messages = shrink(model, "generation", "structured")
        assert messages == [
            "1 of 3 groups of heads are removed from each layer of attention.",
            "768 of 1536 neurons are removed from each layer of ffn.",
        ]
        torch.testing.assert_close(small(**prompt).logits, before, rtol=1e-3, atol=1e-3)
    assert (small.config.num_attention_heads, small.config.num_key_value_heads, small.config.head_dim) == (6, 2, 64)
    assert sum(p.numel() for p in small.parameters()) == planned.nonzero_params
