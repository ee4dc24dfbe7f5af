from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from pst.budget import BudgetError, Plan, Target, plan
from pst.config import TrainSettings
from pst.families import FAMILIES, tensors
from pst.formats import write_dense, write_sparse
from pst.inject import inject, learning_rates
from pst.masks import kept_count, mask_of, select

CONFIG = {
    "model_type": "bert",
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}


def classifier(config: dict[str, Any], labels: int) -> Any:
    torch.manual_seed(0)
    values = {key: value for key, value in config.items() if key != "model_type"}
    made = AutoConfig.for_model(config["model_type"], num_labels=labels, **values)
    return AutoModelForSequenceClassification.from_config(made)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
@pytest.mark.parametrize("embedding", [64, 24])
def test_the_table_is_the_real_state_dict(kind: str, embedding: int) -> None:
    config = {**CONFIG, "model_type": kind} | ({"embedding_size": embedding} if kind == "electra" else {})
    real = {name: tuple(tensor.shape) for name, tensor in classifier(config, 5).state_dict().items()}
    assert {spec.name: spec.shape for spec in tensors(config, 5)} == real


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_predicted_sizes_are_those_of_the_real_files(tmp_path: Path, dtype: str, sparsity: float) -> None:
    planned = plan(CONFIG, Target(sparsity=sparsity), num_labels=7, storage_dtype=dtype)
    state = {name: t.to(getattr(torch, dtype)) for name, t in classifier(CONFIG, 7).state_dict().items()}
    for spec in tensors(CONFIG, 7):
        if spec.group is not None:
            scores = state[spec.name].float().abs()
            mask = mask_of(scores, select(scores, kept_count(spec.numel, sparsity)))
            state[spec.name] = torch.where(mask, state[spec.name], 0.0)
    assert write_sparse(state, tmp_path) == planned.sparse_bytes
    index = json.loads((tmp_path / "index.json").read_text())["tensors"]
    pruned = [index[spec.name]["bytes"] for spec in tensors(CONFIG, 7) if spec.group is not None]
    assert sum(group.bytes for group in planned.groups) == sum(pruned)
    assert write_dense(state, tmp_path / "model.safetensors") == planned.dense_bytes


def test_counts_add_up() -> None:
    planned = plan(CONFIG, Target(sparsity=0.9), num_labels=7)
    model = classifier(CONFIG, 7)
    assert planned.total_params == sum(p.numel() for p in model.parameters())
    assert planned.prunable_params == sum(group.weights for group in planned.groups)
    assert planned.fixed_params + planned.prunable_params == planned.total_params
    assert [(group.name, group.matrices) for group in planned.groups] == [("attention", 12), ("ffn", 6)]
    assert planned.sparsity == pytest.approx(0.9, abs=1e-3)
    assert planned.binding == "sparsity"
    assert json.loads(json.dumps(planned.to_dict()))["groups"][1]["shapes"] == [[64, 128], [128, 64]]


@pytest.mark.parametrize("method", ["pst", "magnitude", "dense"])
def test_trainable_parameters_are_those_of_the_method(method: Any) -> None:
    settings = TrainSettings(method=method, update_rank=5, score_rank=3)
    planned = plan(CONFIG, Target(sparsity=0.9), num_labels=7, settings=settings)
    model = classifier(CONFIG, 7)
    specs = tensors(CONFIG, 7)
    inject(model, specs, settings)
    rates = learning_rates(model, specs, settings)
    assert planned.trainable_params == sum(p.numel() for name, p in model.named_parameters() if name in rates)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(rates)


@pytest.mark.parametrize("limit,attribute", [("max_nonzero_params", "nonzero_params"), ("max_bytes", "sparse_bytes")])
def test_a_budget_is_kept_with_the_least_sparsity(limit: str, attribute: str) -> None:
    wanted = getattr(plan(CONFIG, Target(sparsity=0.8), num_labels=7), attribute)
    planned = plan(CONFIG, Target(**{limit: wanted}), num_labels=7)
    assert getattr(planned, attribute) <= wanted
    assert planned.binding == limit
    assert planned.sparsity == pytest.approx(0.8, abs=2e-3)


def test_the_tightest_limit_binds() -> None:
    loose = plan(CONFIG, Target(sparsity=0.6), num_labels=7)
    tight = plan(CONFIG, Target(sparsity=0.9), num_labels=7)
    both = plan(CONFIG, Target(sparsity=0.6, max_bytes=tight.sparse_bytes), num_labels=7)
    assert (both.binding, both.sparse_bytes <= tight.sparse_bytes) == ("max_bytes", True)
    assert plan(CONFIG, Target(sparsity=0.95, max_bytes=loose.sparse_bytes), num_labels=7).binding == "sparsity"


def test_a_budget_that_the_dense_model_keeps_prunes_nothing() -> None:
    planned = plan(CONFIG, Target(max_nonzero_params=10**9), num_labels=7)
    assert (planned.sparsity, planned.nonzero_params) == (0.0, planned.total_params)


@pytest.mark.parametrize("limit", ["max_nonzero_params", "max_bytes", "max_memory_bytes"])
def test_an_impossible_budget_says_what_the_least_is(limit: str) -> None:
    with pytest.raises(BudgetError) as caught:
        plan(CONFIG, Target(**{limit: 1000}), num_labels=7)
    attribute = {"max_nonzero_params": "nonzero_params", "max_bytes": "sparse_bytes"}.get(limit, "memory_bytes")
    least = getattr(plan(CONFIG, Target(sparsity=0.99), num_labels=7), attribute)
    assert caught.value.field == limit
    assert f"{least:,}" in caught.value.message
    assert plan(CONFIG, Target(**{limit: least}), num_labels=7).reached


@pytest.mark.parametrize(
    "target,field",
    [
        (Target(), "target"),
        (Target(sparsity=0.3), "sparsity"),
        (Target(sparsity=0.995), "sparsity"),
        (Target(sparsity=float("nan")), "sparsity"),
        (Target(max_bytes=0), "max_bytes"),
        (Target(max_nonzero_params=-5), "max_nonzero_params"),
    ],
)
def test_bad_targets_name_their_field(target: Target, field: str) -> None:
    with pytest.raises(BudgetError) as caught:
        plan(CONFIG, target, num_labels=7)
    assert caught.value.field == field


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba"}, {"model_type": ["bert"]}])
def test_unknown_architectures_are_told_the_known_ones(config: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match=r"known are bert, camembert, electra"):
        plan(config, Target(sparsity=0.9), num_labels=2)


@pytest.mark.parametrize("value", [None, 0, "64", True, 1.5])
def test_a_config_without_its_sizes_is_refused(value: Any) -> None:
    with pytest.raises(BudgetError, match="hidden_size"):
        plan({**CONFIG, "hidden_size": value}, Target(sparsity=0.9), num_labels=2)


def test_dense_runs_prune_nothing_and_say_whether_the_budget_holds() -> None:
    settings = TrainSettings(method="dense")

    def dense(**target: Any) -> Plan:
        return plan(CONFIG, Target(**target), num_labels=7, settings=settings)

    assert not dense(sparsity=0.9).reached
    assert dense(sparsity=0.9).sparsity == 0.0
    assert dense(max_bytes=10**9).reached
    assert not dense(max_bytes=1000).reached


def test_planner_needs_no_torch() -> None:
    code = "import sys, pst.budget, pst.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    source = Path(__file__).parents[2] / "workers"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(source)}).returncode == 0
