from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pst_native import Form, Precision
from transformers import AutoConfig, AutoModelForSequenceClassification

from pst.config import Method, Structure, TrainSettings
from pst.errors import BudgetMet
from pst.export.merge import merge
from pst.export.quantize import quantize
from pst.export.structured import shrink
from pst.files.formats import Compact, write_sparse
from pst.files.shards import write_shards
from pst.layers.inject import inject, learning_rates, select_all
from pst.model.loading import matched_specs, state_of
from pst.native.encoders import NativeEncoder
from pst.native.modules import SparseLinear, fill
from pst.plan import engine
from pst.plan.families import ModelDescription
from pst.plan.latency import Timing
from pst.plan.methods import METHODS
from pst.plan.planner import BudgetError, Plan, Target, plan
from pst.plan.sizes import kept_count
from pst.sparsity.masks import mask_of, select
from tests.pst.test_latency import profile
from tests.pst.tiny import CONFIGS, tiny

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
    return AutoModelForSequenceClassification.from_config(made)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_predicted_sizes_are_those_of_the_real_files(tmp_path: Path, dtype: str, sparsity: float) -> None:
    planned = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=sparsity), storage_dtype=dtype)
    state = {name: t.to(getattr(torch, dtype)) for name, t in classifier(CONFIG, 7).state_dict().items()}
    for spec in ModelDescription(CONFIG, labels=7).tensors:
        if spec.group is not None:
            scores = state[spec.name].float().abs()
            mask = mask_of(scores, select(scores, kept_count(spec.numel, sparsity)))
            state[spec.name] = torch.where(mask, state[spec.name], 0.0)
    assert write_sparse(state, tmp_path) == planned.sparse_bytes
    index = json.loads((tmp_path / "index.json").read_text())["tensors"]
    pruned = [
        index[spec.name]["bytes"] for spec in ModelDescription(CONFIG, labels=7).tensors if spec.group is not None
    ]
    assert sum(group.bytes for group in planned.groups) == sum(pruned)
    assert write_shards(state, tmp_path / "model.safetensors") == planned.dense_bytes


def test_counts_add_up() -> None:
    planned = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9))
    model = classifier(CONFIG, 7)
    assert planned.total_params == sum(p.numel() for p in model.parameters())
    assert planned.prunable_params == sum(group.weights for group in planned.groups)
    assert planned.fixed_params + planned.prunable_params == planned.total_params
    assert [(group.name, group.matrices) for group in planned.groups] == [("attention", 12), ("ffn", 6)]
    assert planned.sparsity == pytest.approx(0.9, abs=1e-3)
    assert planned.binding == "sparsity"
    assert json.loads(json.dumps(planned.to_dict()))["groups"][1]["shapes"] == [[64, 128], [128, 64]]


# One unit more or less of a small model is a large share of it, so these hold for real files, byte for byte.
STORED: list[tuple[str, str, dict[str, Any]]] = [
    ("bert", "classification", {"structure": "structured"}),
    ("bert", "regression", {"structure": "2:4"}),
    ("mpnet", "multilabel", {"structure": "block_1x4"}),
    ("electra", "classification", {"structure": "block_4x1", "embedding_storage": "bfloat16"}),
    ("gpt2", "generation", {"structure": "unstructured", "quantize": True}),
    ("gpt2", "classification", {"structure": "structured", "quantize": True}),
    ("gpt2", "generation", {"structure": "block_4x1"}),
    ("llama", "generation", {"structure": "structured", "embedding_storage": "int8"}),
    ("llama-tied", "generation", {"structure": "unstructured"}),
    ("qwen3", "classification", {"structure": "2:4", "quantize": True}),
    ("t5", "generation", {"structure": "structured"}),
    ("t5-gated", "classification", {"structure": "unstructured", "embedding_storage": "int8", "quantize": True}),
    ("bart", "generation", {"structure": "structured", "quantize": True}),
    ("bart-untied", "generation", {"structure": "unstructured"}),
    ("distilbert", "classification", {"method": "lora", "quantize": True}),
]


@pytest.mark.parametrize(("name", "task", "changes"), STORED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_plan_is_what_is_stored(tmp_path: Path, name: str, task: Any, changes: dict[str, Any], dtype: str) -> None:
    settings = TrainSettings(**{"method": "magnitude", "threshold": "matrix", **changes})
    labels = {"generation": 0, "regression": 1}.get(task, 3)
    target = Target(sparsity=0.5 if settings.structure == "2:4" else 0.8)
    model = tiny(name, task, labels=labels or 3)
    config = model.config.to_dict()
    planned = plan(ModelDescription(config, task, labels), target, storage_dtype=dtype, settings=settings)

    specs = matched_specs(model, ModelDescription(config, task, labels))
    modules = inject(model, specs, settings)
    if METHODS[settings.method].prunes:
        select_all(
            modules, planned.sparsities(), "matrix", settings.structure, ModelDescription(config, task).unit_families
        )
    storage = getattr(torch, dtype)
    merge(model, modules, storage)
    if settings.structure == "structured":  # otherwise what a mask empties by chance is not planned
        model, _ = shrink(model, task)
    config = model.config.to_dict()
    storing = quantize(model, ModelDescription(config, task, labels).tensors, settings, storage)
    state = {key: value.to(storage) for key, value in state_of(model, ModelDescription(config, task)).items()}
    assert write_sparse(state, tmp_path, storing) == planned.sparse_bytes
    index = json.loads((tmp_path / "index.json").read_text())["tensors"]
    for group in planned.groups:
        held = [spec.name for spec in ModelDescription(config, task, labels).tensors if spec.group == group.name]
        assert sum(index[key]["bytes"] for key in held) == group.bytes
        nonzeros = sum(int((state[key] != 0).sum()) for key in held)
        # Quantising rounds a few more weights to zero.
        assert nonzeros <= group.nonzeros and nonzeros >= group.nonzeros * (0.9 if settings.quantize else 1)
    described = ModelDescription(config, task, labels)
    if engine.has(described):
        encoder = NativeEncoder(described, Compact(tmp_path), lambda matrix: (Form.CELLS, Precision.FLOAT32))
        loaded = encoder.bytes + engine.OVERHEAD_BYTES
        assert 0 <= planned.memory_bytes - loaded < 0.1 * planned.memory_bytes
    else:
        packed = fill(model, Compact(tmp_path), list(state), packs=True)
        held = sum(module.packed.bytes for module in model.modules() if isinstance(module, SparseLinear))
        held += 4 * sum(tensor.numel() for tensor in state_of(model, ModelDescription(config, task)).values())
        assert packed or settings.structure in ("structured", "2:4")
        assert planned.memory_bytes == pytest.approx(held + engine.OVERHEAD_BYTES, abs=200 * packed)
    assert planned.total_params == sum(spec.numel for spec in specs)


@pytest.mark.parametrize("structure", ["unstructured", "block_1x4"])
def test_a_global_threshold_keeps_an_exact_number_of_each_group(structure: Any) -> None:
    settings = TrainSettings(method="magnitude", threshold="global", structure=structure)
    planned = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9), settings=settings)
    model = classifier(CONFIG, 7)
    modules = inject(model, ModelDescription(CONFIG, labels=7).tensors, settings)
    select_all(modules, planned.sparsities(), "global", structure)
    for group in planned.groups:
        masks = [
            mask_of(module.layer.scores(), module.layer.selection) for module in modules if module.group == group.name
        ]
        assert sum(int(mask.sum()) for mask in masks) == group.nonzeros
    assert "sizes may differ" in planned.notes[0]


T5 = {**CONFIGS["t5"], "num_layers": 3}
BART = CONFIGS["bart"]


def shares(config: dict[str, Any], settings: TrainSettings | None = None, **target: Any) -> dict[str, float]:
    planned = plan(ModelDescription(config, "generation", 0), Target(**target), settings=settings)
    return planned.sparsities()


def test_targets_by_group() -> None:
    """The talk's two: "decoder 99 %" and "encoder + decoder 99 %"."""
    dense = {"encoder.attention": 0.0, "encoder.ffn": 0.0, "decoder.attention": 0.0, "decoder.ffn": 0.0}
    assert shares(BART, groups={"decoder": 0.99}) == {**dense, "decoder.attention": 0.99, "decoder.ffn": 0.99}
    assert shares(BART, groups={"encoder": 0.99, "decoder": 0.99}) == dict.fromkeys(dense, 0.99)
    assert shares(BART, groups={"decoder": 0.9, "decoder.ffn": 0.3}) == {
        **dense,
        "decoder.attention": 0.9,
        "decoder.ffn": 0.3,
    }
    assert shares(BART, groups={"decoder.ffn": 0.3, "decoder": 0.9})["decoder.ffn"] == 0.3
    planned = plan(ModelDescription(CONFIG, labels=3), Target(groups={"ffn": 0.9}))
    assert (planned.sparsities(), planned.binding) == ({"attention": 0.0, "ffn": 0.9}, "groups")
    assert planned.groups[0].nonzeros == planned.groups[0].weights


def test_a_limit_raises_the_named_groups_only() -> None:
    loose = plan(ModelDescription(CONFIG, labels=3), Target(groups={"ffn": 0.6}))
    tight = plan(ModelDescription(CONFIG, labels=3), Target(groups={"ffn": 0.9}))
    found = plan(ModelDescription(CONFIG, labels=3), Target(groups={"ffn": 0.6}, max_bytes=tight.sparse_bytes))
    assert (found.binding, found.sparsities()["attention"]) == ("max_bytes", 0.0)
    assert loose.sparse_bytes > tight.sparse_bytes >= found.sparse_bytes
    assert found.sparsities()["ffn"] == pytest.approx(0.9, abs=1e-2)
    assert (
        plan(ModelDescription(CONFIG, labels=3), Target(groups={"ffn": 0.9}, max_bytes=loose.sparse_bytes)).binding
        == "groups"
    )
    with pytest.raises(BudgetError, match=r"max_bytes: .* at 99% sparsity"):
        plan(ModelDescription(CONFIG, labels=3), Target(groups={"ffn": 0.6}, max_bytes=tight.sparse_bytes // 2))


def test_structured_needs_one_size_where_the_config_has_one_entry() -> None:
    settings = TrainSettings(structure="structured")
    with pytest.raises(BudgetError, match=r"groups: structured can't prune encoder\.ffn and decoder.ffn differently"):
        shares(T5, settings, groups={"decoder.ffn": 0.9})
    with pytest.raises(BudgetError, match="one num_heads for both"):
        shares(T5, settings, groups={"encoder": 0.9, "decoder.ffn": 0.9})
    assert set(shares(T5, settings, groups={"encoder": 0.9, "decoder": 0.9}).values()) == {0.9}
    assert shares(BART, settings, groups={"decoder.ffn": 0.9})["encoder.ffn"] == 0.0  # BART has two entries


def test_structured_says_what_stays_dense() -> None:
    settings = TrainSettings(structure="structured")
    planned = plan(ModelDescription(CONFIG, labels=3), Target(sparsity=0.9), settings=settings)
    assert planned.sparsities() == {"attention": 0.0, "ffn": 0.9}
    [note] = planned.notes
    assert note.startswith("structured can't prune attention, because the config of bert can't say fewer heads")
    assert planned.groups[1].nonzeros == 3 * 2 * 64 * 13  # of 128 neurons 13 stay
    assert plan(ModelDescription(CONFIGS["llama"], labels=3), Target(sparsity=0.9), settings=settings).notes == []
    with pytest.raises(BudgetError, match="can't say fewer heads; leave 'attention' out"):
        plan(ModelDescription(CONFIG, labels=3), Target(groups={"attention": 0.9}), settings=settings)


def test_two_of_four_is_half() -> None:
    settings = TrainSettings(structure="2:4")
    half = plan(ModelDescription(CONFIG, labels=3), Target(sparsity=0.5), settings=settings)
    assert half.sparsity == 0.5
    least = plan(ModelDescription(CONFIG, labels=3), Target(max_bytes=half.sparse_bytes), settings=settings)
    assert (least.sparsities(), least.binding) == ({"attention": 0.5, "ffn": 0.5}, "max_bytes")
    with pytest.raises(BudgetMet):
        plan(ModelDescription(CONFIG, labels=3), Target(max_bytes=10**9), settings=settings)
    with pytest.raises(BudgetError, match="at 50% sparsity"):
        plan(ModelDescription(CONFIG, labels=3), Target(max_bytes=half.sparse_bytes - 1), settings=settings)
    for target, field in ((Target(sparsity=0.9), "sparsity"), (Target(groups={"ffn": 0.9}), "groups")):
        with pytest.raises(BudgetError, match="2:4 removes exactly half of the weights") as caught:
            plan(ModelDescription(CONFIG, labels=3), target, settings=settings)
        assert caught.value.field == field


@pytest.mark.parametrize("structure", get_args(Structure))
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5", "bart"])
def test_nothing_is_ever_left_empty(structure: Any, name: str) -> None:
    share = 0.5 if structure == "2:4" else 0.99
    planned = plan(
        ModelDescription(CONFIGS[name], labels=2), Target(sparsity=share), settings=TrainSettings(structure=structure)
    )
    assert all(group.nonzeros >= group.matrices for group in planned.groups)


@pytest.mark.parametrize(("task", "labels"), [("classification", 1), ("multilabel", 0), ("regression", 2)])
def test_a_task_has_its_number_of_labels(task: str, labels: int) -> None:
    with pytest.raises(BudgetError) as caught:
        plan(ModelDescription(CONFIG, task, labels), Target(sparsity=0.9))
    assert caught.value.field == "num_labels"


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("norms", [False, True])
def test_trainable_parameters_are_those_of_the_method(method: Any, norms: bool) -> None:
    settings = TrainSettings(method=method, update_rank=5, score_rank=3, train_norms=norms)
    planned = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9), settings=settings)
    model = classifier(CONFIG, 7)
    specs = ModelDescription(CONFIG, labels=7).tensors
    inject(model, specs, settings)
    rates = learning_rates(model, specs, settings)
    assert planned.trainable_params == sum(p.numel() for name, p in model.named_parameters() if name in rates)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(rates)


def test_training_needs_what_its_dense_phase_does_too() -> None:
    def needed(method: Method, **changes: Any) -> Plan:
        ranks = {"update_rank": 1, "score_rank": 1}
        settings = TrainSettings(method=method, max_length=4, batch_size=1, **ranks, **changes)
        return plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9), settings=settings)

    dense, alone = needed("dense"), needed("pst", compare_dense=False, distill=False)
    both = needed("pst", distill=False)
    for kind in ("training_memory_bytes", "training_gpu_bytes"):
        assert getattr(alone, kind) < getattr(dense, kind) == getattr(both, kind)


@pytest.mark.parametrize("limit,attribute", [("max_nonzero_params", "nonzero_params"), ("max_bytes", "sparse_bytes")])
def test_a_budget_is_kept_with_the_least_sparsity(limit: str, attribute: str) -> None:
    wanted = getattr(plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.8)), attribute)
    planned = plan(ModelDescription(CONFIG, labels=7), Target(**{limit: wanted}))
    assert getattr(planned, attribute) <= wanted
    assert planned.binding == limit
    assert planned.sparsity == pytest.approx(0.8, abs=2e-3)


def test_the_tightest_limit_binds() -> None:
    loose = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.6))
    tight = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9))
    both = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.6, max_bytes=tight.sparse_bytes))
    assert (both.binding, both.sparse_bytes <= tight.sparse_bytes) == ("max_bytes", True)
    assert (
        plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.95, max_bytes=loose.sparse_bytes)).binding
        == "sparsity"
    )


@pytest.mark.parametrize("limit", ["max_nonzero_params", "max_bytes", "max_memory_bytes"])
@pytest.mark.parametrize("structure", ["unstructured", "structured"])
def test_a_budget_that_the_dense_model_meets_is_refused_in_words(limit: str, structure: Any) -> None:
    budget: dict[str, Any] = {limit: 10**9}
    settings = TrainSettings(structure=structure)
    with pytest.raises(BudgetMet, match="nothing would be removed, since the dense model meets this already") as caught:
        plan(ModelDescription(CONFIG, labels=7), Target(**budget), settings=settings)
    assert caught.value.field == limit
    # Beside a sparsity it is one more limit, which holds.
    assert (
        plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9, **budget), settings=settings).binding
        == "sparsity"
    )


def test_memory_falls_with_the_nonzeros_where_the_sparse_engine_has_the_model() -> None:
    model = ModelDescription(CONFIG, labels=7)
    at = [plan(model, Target(sparsity=share)) for share in (0.5, 0.9, 0.99)]
    assert at[0].dense_memory_bytes == at[2].dense_memory_bytes
    assert at[0].memory_bytes > at[1].memory_bytes > at[2].memory_bytes
    asked = at[1].memory_bytes
    found = plan(model, Target(max_memory_bytes=asked))
    assert found.binding == "max_memory_bytes" and found.memory_bytes <= asked
    assert max(found.sparsities().values()) == pytest.approx(0.9)


def test_a_memory_budget_names_the_structure_that_it_needs_and_what_that_brings() -> None:
    model = ModelDescription(CONFIGS["gpt2"], "generation")
    settings = TrainSettings(structure="2:4")  # half of the weights: a node expands it
    planned = plan(model, Target(sparsity=0.5), settings=settings)
    assert planned.memory_bytes == planned.dense_memory_bytes
    structured = TrainSettings(structure="structured")
    smallest = plan(model, Target(sparsity=0.99), settings=structured)
    for asked in (planned.memory_bytes, planned.memory_bytes - 1, 1000):
        with pytest.raises(
            BudgetError, match=r"; structure 'structured' makes the matrices themselves smaller"
        ) as caught:
            plan(model, Target(max_memory_bytes=asked), settings=settings)
        assert caught.value.remedy is not None and f"{smallest.memory_bytes:,} bytes" in caught.value.remedy
    with pytest.raises(BudgetError) as caught:
        plan(model, Target(max_memory_bytes=1000), settings=structured)
    assert caught.value.remedy is None


@pytest.mark.parametrize("structure", ["unstructured", "structured", "block_4x1"])
@pytest.mark.parametrize("quantize", [False, True])
def test_the_rows_add_up_to_the_file_and_embeddings_in_8_bits_are_predicted(structure: Any, quantize: bool) -> None:
    settings = TrainSettings(structure=structure, quantize=quantize)
    planned = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9), settings=settings)
    assert planned.fixed_bytes + sum(group.bytes for group in planned.groups) == planned.sparse_bytes
    assert 0 < planned.fixed_bytes < planned.sparse_bytes
    stored = plan(
        ModelDescription(CONFIG, labels=7), Target(sparsity=0.9), settings=replace(settings, embedding_storage="int8")
    )
    assert planned.int8_embeddings_bytes == stored.sparse_bytes < planned.sparse_bytes
    assert stored.int8_embeddings_bytes is None


@pytest.mark.parametrize("limit", ["max_nonzero_params", "max_bytes", "max_memory_bytes"])
def test_an_impossible_budget_says_what_the_least_is(limit: str) -> None:
    small: dict[str, Any] = {limit: 1000}
    with pytest.raises(BudgetError) as caught:
        plan(ModelDescription(CONFIG, labels=7), Target(**small))
    attribute = {"max_nonzero_params": "nonzero_params", "max_bytes": "sparse_bytes"}.get(limit, "memory_bytes")
    least = getattr(plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.99)), attribute)
    assert caught.value.field == limit
    assert f"{least:,}" in caught.value.message
    unit = "M parameters" if limit == "max_nonzero_params" else "MB"
    said = re.search(rf"the best is ([0-9.,]+) {unit}", caught.value.message)
    assert said is not None
    written = round(float(said[1].replace(",", "")) * 10**6)  # what a form that asks for MB makes of it
    assert least <= written < least + 1000
    if limit != "max_memory_bytes":
        assert plan(ModelDescription(CONFIG, labels=7), Target(**{limit: written})).reached


@pytest.mark.parametrize(
    "target,field",
    [
        (Target(), "target"),
        (Target(sparsity=0.3), "sparsity"),
        (Target(sparsity=0.995), "sparsity"),
        (Target(sparsity=float("nan")), "sparsity"),
        (Target(max_bytes=0), "max_bytes"),
        (Target(max_nonzero_params=-5), "max_nonzero_params"),
        (Target(sparsity=1.0), "sparsity"),
        (Target(groups={}), "groups"),
        (Target(groups={"ffn": 0.0}), "groups"),
        (Target(groups={"ffn": 1.0}), "groups"),
        (Target(groups={"ffn": -0.1}), "groups"),
        (Target(groups={"ffn": True}), "groups"),
        (Target(groups={"ffn": float("nan")}), "groups"),
        (Target(groups={"decoder": 0.9}), "groups"),
        (Target(groups={"ff": 0.9}), "groups"),
        (Target(groups={"ffn": 0.9}, sparsity=0.9), "groups"),
    ],
)
def test_bad_targets_name_their_field(target: Target, field: str) -> None:
    with pytest.raises(BudgetError) as caught:
        plan(ModelDescription(CONFIG, labels=7), target)
    assert caught.value.field == field


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba"}, {"model_type": ["bert"]}])
def test_unknown_architectures_are_told_the_known_ones(config: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match=r"known are bart, bert, camembert, distilbert"):
        plan(ModelDescription(config, labels=2), Target(sparsity=0.9))


@pytest.mark.parametrize("value", [None, 0, "64", True, 1.5])
def test_a_config_without_its_sizes_is_refused(value: Any) -> None:
    with pytest.raises(BudgetError, match="hidden_size"):
        plan(ModelDescription({**CONFIG, "hidden_size": value}, labels=2), Target(sparsity=0.9))


def test_dense_runs_prune_nothing_and_say_whether_the_budget_holds() -> None:
    settings = TrainSettings(method="dense")

    def dense(**target: Any) -> Plan:
        return plan(ModelDescription(CONFIG, labels=7), Target(**target), settings=settings)

    assert not dense(sparsity=0.9).reached
    assert dense(sparsity=0.9).sparsity == 0.0
    assert dense(max_bytes=10**9).reached
    assert not dense(max_bytes=1000).reached


def test_planner_needs_no_torch() -> None:
    code = "import sys, pst.plan.planner, pst.config; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    source = Path(__file__).parents[2] / "workers"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(source)}).returncode == 0


def test_a_plan_is_read_back_from_its_json() -> None:
    timing = Timing(profile(), rows=2, tokens=32)
    planned = plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9), timing=timing)
    written = json.loads(json.dumps(planned.to_dict() | {"more": 1}))
    assert Plan.from_dict(written).to_dict() == planned.to_dict()
    assert Plan.from_dict(written).weights() == ModelDescription(CONFIG, labels=7).weights()
    assert planned.weights() != ModelDescription(CONFIG, labels=8).weights()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"total_params": None}, "total_params"),
        ({"total_params": True}, "total_params"),
        ({"sparse_bytes": "12"}, "sparse_bytes"),
        ({"groups": {"ffn": 0.9}}, "groups"),
        ({"groups": [{"name": "ffn", "sparsity": 0.9}]}, "groups 0 matrices"),
        ({"groups": [3]}, "groups 0"),
        ({"time": {"rows": 1}}, "time tokens"),
    ],
)
def test_a_plan_that_lacks_something_is_refused(change: dict[str, Any], named: str) -> None:
    written = json.loads(json.dumps(plan(ModelDescription(CONFIG, labels=7), Target(sparsity=0.9)).to_dict()))
    with pytest.raises(ValueError, match=named):
        Plan.from_dict(written | change)
