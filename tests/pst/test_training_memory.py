"""The predicted memory: parts that can be counted exactly, and how the rest moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pst import memory
from pst.config import TrainSettings
from pst.families import FAMILIES, tensors
from pst.training_memory import TrainingMemory, training_memory
from pst.traits import TRAITS
from tests.pst.tiny import CONFIGS, tiny, tokens

SETTINGS = TrainSettings(max_length=64, batch_size=8)


def needs(name: str = "bert", task: str = "classification", **changes: Any) -> TrainingMemory:
    return training_memory(CONFIGS[name], tensors(CONFIGS[name], 3, task), replace(SETTINGS, **changes), task)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("method", TRAITS)
def test_every_family_and_method_has_a_need(name: str, method: Any) -> None:
    for task in FAMILIES[CONFIGS[name]["model_type"]].tasks:
        found = needs(name, task, method=method)
        assert found.total > found.weights == 4 * sum(spec.numel for spec in tensors(CONFIGS[name], 3, task))
        assert found.activations > 0


def test_what_full_fine_tuning_holds() -> None:
    found = needs(method="dense")
    assert (found.trained, found.teacher, found.layer, found.evaluation) == (3 * found.weights, 0, 0, 0)
    assert found.gradients > found.weights
    assert found.total == 4 * found.weights + max(found.activations, found.gradients)


def test_settings_that_cost_or_save() -> None:
    base = needs()
    assert base.teacher == base.weights  # the default recipe learns from hidden states
    assert needs(distill=False).teacher == 0
    assert needs(threshold="matrix").selection < base.selection
    assert needs(gradient_checkpointing="on").activations < base.activations
    assert needs(precision="bfloat16").activations * 2 == base.activations
    assert needs(micro_batch_size=2).activations * 4 == base.activations
    assert needs(max_length=128).activations > 2 * base.activations  # attention scores grow with the square


def test_what_does_not_fit_is_computed_again() -> None:
    base = needs()
    pruned = [spec.numel for spec in tensors(CONFIGS["bert"], 3) if spec.group is not None]
    assert base.pooled == 4 * sum(spec.numel for spec in tensors(CONFIGS["bert"], 3) if spec.group == "attention")
    assert needs(threshold="matrix").pooled == 0
    assert base.selection - base.pooled == needs(threshold="matrix").selection == 11 * max(pruned)
    assert base.least <= base.total
    large = replace(base, activations=0, gradients=0)
    assert large.total - large.least == max(large.pooled, large.evaluation - large.layer - 11 * max(pruned))


def test_frozen_weights_in_fewer_bits() -> None:
    specs = tensors(CONFIGS["bert"], 3)
    pruned = sum(spec.numel for spec in specs if spec.group is not None)
    rows = sum(spec.map_shape[0] for spec in specs if spec.group is not None)
    wide = sum(spec.numel for spec in specs if spec.head or len(spec.shape) == 1)
    whole = sum(spec.numel for spec in specs)
    half, quarter = (needs(frozen_weights=kind, storage_dtype="bfloat16") for kind in ("bfloat16", "int8"))
    assert half.weights == 2 * (whole - wide) + 4 * wide
    assert quarter.weights == half.weights - pruned + 4 * rows
    assert half.evaluation == 2 * pruned and half.layer * 4 == needs().layer
    assert needs(method="dense").weights == 4 * whole


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_kept_floats_are_those_that_autograd_keeps(name: str) -> None:
    """Of the blocks: two depths are compared, so that embeddings and head drop out."""
    depth = "n_layers" if name == "distilbert" else "num_hidden_layers"
    inputs = tokens(rows=8, length=32)
    measured, predicted = [], []
    for layers in (2, 4):
        deep: dict[str, Any] = {depth: layers}
        model = tiny(name, **deep).train()
        measured.append(memory.kept_bytes(lambda: model(**inputs).logits.sum(), model))  # noqa: B023 (called at once)
        config = {**CONFIGS[name], **deep}
        settings = replace(SETTINGS, method="dense", max_length=32)
        predicted.append(training_memory(config, tensors(config, 3), settings, "classification").activations)
    torch.testing.assert_close(
        torch.tensor(float(predicted[1] - predicted[0])),
        torch.tensor(float(measured[1] - measured[0])),
        rtol=0.12,
        atol=0,
    )
