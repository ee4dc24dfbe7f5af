"""The real base model, where one is at hand (SPARSEWRIGHT_MINILM)."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from pst import tasks
from pst.config import TrainSettings
from pst.export.merge import merge
from pst.files.formats import write_sparse
from pst.layers.inject import frozen, inject, select_all
from pst.model.data import Row
from pst.model.loading import load_tokenizer, matched_specs, read_config
from pst.plan.families import ModelDescription
from pst.plan.planner import Target, plan


def test_real_weights_are_injected_merged_and_as_large_as_planned(minilm: Path, tmp_path: Path) -> None:
    labels = ["a", "b", "c"]
    task = tasks.make("classification", labels, load_tokenizer(minilm), 32, TrainSettings(), read_config(minilm))
    model = task.load(minilm, 0)
    planned = plan(ModelDescription(read_config(minilm), labels=3), Target(sparsity=0.9), storage_dtype="bfloat16")
    modules = inject(model, matched_specs(model, ModelDescription(read_config(minilm), labels=3)), TrainSettings())
    select_all(modules, planned.sparsities(), "matrix")
    rows = task.encode([Row("Where is my parcel?", None, 0), Row("I was charged twice.", "Help", 1)])
    with frozen(modules):
        before = task.predict(model, rows)["logits"]
    merge(model, modules, torch.bfloat16)
    after = task.predict(model, rows)["logits"]
    assert (after - before).abs().max() < 0.05
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    assert abs(write_sparse(state, tmp_path) / planned.sparse_bytes - 1) < 0.001
    index = json.loads((tmp_path / "index.json").read_text())["tensors"]
    pruned = [entry for entry in index.values() if entry["encoding"] != "dense"]
    assert len(pruned) == 36
    assert sum(entry["bytes"] for entry in pruned) <= 0.17 * sum(entry["dense_bytes"] for entry in pruned)
