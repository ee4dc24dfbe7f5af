"""The predicted memory: parts that can be counted exactly, and how the rest moves."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pst.config import TrainSettings
from pst.model import memory
from pst.plan.families import FAMILIES, ModelDescription
from pst.plan.methods import METHODS
from pst.plan.training_memory import EVALUATED, EVALUATED_USUALLY, TrainingMemory, training_memory
from pst.tasks import generation, heads
from tests.pst.tiny import CONFIGS, tiny, tokens

SETTINGS = TrainSettings(max_length=64, batch_size=8)


ENCODER: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 384}
GATED: dict[str, Any] = {"hidden_size": 96, "intermediate_size": 256}
REAL_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    **dict.fromkeys(("bert", "roberta", "mpnet", "electra"), ("num_hidden_layers", ENCODER)),
    "distilbert": ("n_layers", {"dim": 96, "hidden_dim": 384}),
    "gpt2": ("n_layer", {"n_embd": 96}),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), ("num_hidden_layers", GATED)),
}
"""Name: what its config calls the number of layers, and widths whose ratios are those of real models."""


def needs(name: str = "bert", task: str = "classification", *, gpu: bool = False, **changes: Any) -> TrainingMemory:
    settings = replace(SETTINGS, **changes)
    return training_memory(ModelDescription(CONFIGS[name], task, 3), settings, gpu=gpu)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("method", METHODS)
def test_every_family_and_method_has_a_need(name: str, method: Any) -> None:
    for task in FAMILIES[CONFIGS[name]["model_type"]].tasks:
        found = needs(name, task, method=method)
        assert (
            found.total
            > found.weights
            == 4 * sum(spec.numel for spec in ModelDescription(CONFIGS[name], task, 3).tensors)
        )
        assert found.activations > 0


def test_what_full_fine_tuning_holds() -> None:
    found = needs(method="dense")
    assert (found.trained, found.teacher, found.layer, found.held) == (3 * found.weights, 0, 0, 0)
    assert found.gradients > found.weights
    assert found.total == 4 * found.weights + max(found.activations, found.gradients, found.batch)


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
    pruned = [spec.numel for spec in ModelDescription(CONFIGS["bert"], labels=3).tensors if spec.group is not None]
    assert base.pooled == 4 * sum(
        spec.numel for spec in ModelDescription(CONFIGS["bert"], labels=3).tensors if spec.group == "attention"
    )
    assert needs(threshold="matrix").pooled == 0
    assert base.selection - base.pooled == needs(threshold="matrix").selection == 11 * max(pruned)
    assert base.least <= base.total
    large = replace(base, activations=0, gradients=0)
    alone, step = large.weights + large.trained + large.teacher, large.layer + 11 * max(pruned)
    assert large.total == alone + max(step + large.pooled, large.held + large.batch)
    assert large.least == alone + max(step, large.batch)


def test_rows_are_counted_that_the_tasks_score_at_once() -> None:
    assert {"generation": generation.BATCH} == EVALUATED
    assert heads.BATCH == EVALUATED_USUALLY


class Allocated(TorchDispatchMode):
    """Bytes of all tensors that operations returned and that are alive, the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                at = storage.data_ptr()
                if at and at not in self.sizes:
                    self.sizes[at] = storage.nbytes()
                    self.now += self.sizes[at]
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._free, at)
        return result

    def _free(self, at: int) -> None:
        self.now -= self.sizes.pop(at)


@pytest.mark.parametrize("name", REAL_SHAPES)
def test_a_scored_batch_holds_what_its_largest_block_does(name: str) -> None:
    model = tiny(name, **REAL_SHAPES[name][1]).eval()
    config = model.config.to_dict()
    inputs = tokens(rows=EVALUATED_USUALLY, length=32)
    with torch.no_grad(), Allocated() as allocated:
        model(**inputs)
    settings = replace(SETTINGS, method="dense", max_length=32)
    batch = training_memory(ModelDescription(config, labels=3), settings).batch
    assert batch == pytest.approx(
        allocated.most, rel=0.2 if name == "mpnet" else 0.1
    )  # its bias of positions is not counted


def test_a_gpu_casts_and_keeps_no_attention_scores() -> None:
    narrow, wide = needs(gpu=True), needs(gpu=True, precision="float32")
    assert narrow.library == wide.library == 64 * 2**20
    assert narrow.activations < wide.activations < needs().activations
    assert narrow.weights == wide.weights == needs().weights
    assert (
        needs(gpu=True, method="dense", distill=False).activations
        > needs(gpu=True, method="l0", distill=False).activations
    )


def test_frozen_weights_in_fewer_bits() -> None:
    specs = ModelDescription(CONFIGS["bert"], labels=3).tensors
    pruned = sum(spec.numel for spec in specs if spec.group is not None)
    rows = sum(spec.map_shape[0] for spec in specs if spec.group is not None)
    wide = sum(spec.numel for spec in specs if spec.head or len(spec.shape) == 1)
    whole = sum(spec.numel for spec in specs)
    half, quarter = (needs(frozen_weights=kind, storage_dtype="bfloat16") for kind in ("bfloat16", "int8"))
    assert half.weights == 2 * (whole - wide) + 4 * wide
    assert quarter.weights == half.weights - pruned + 4 * rows
    assert half.held == 2 * pruned and half.layer * 4 == needs().layer
    assert needs(method="dense").weights == 4 * whole


@pytest.mark.parametrize("name", REAL_SHAPES)
def test_kept_floats_are_those_that_autograd_keeps(name: str) -> None:
    """Of the blocks: two depths are compared, so that embeddings and head drop out."""
    depth, shape = REAL_SHAPES[name]
    inputs = tokens(rows=8, length=32)
    measured, predicted = [], []
    for layers in (2, 4):
        model = tiny(name, **{**shape, depth: layers}).train()
        measured.append(memory.kept_bytes(lambda: model(**inputs).logits.sum(), model))  # noqa: B023 (called at once)
        config = model.config.to_dict()
        settings = replace(SETTINGS, method="dense", max_length=32)
        predicted.append(training_memory(ModelDescription(config, labels=3), settings).activations)
    assert predicted[1] - predicted[0] == pytest.approx(measured[1] - measured[0], rel=0.06)
