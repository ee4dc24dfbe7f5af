"""The family table against the real transformers classes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from pst.errors import BudgetError
from pst.model.loading import matched_specs, state_of
from pst.plan.families import FAMILIES, ModelDescription
from pst.plan.planner import Target, plan
from tests.pst.tiny import CONFIGS, DECODERS, ENCODERS, TWO_STACKS, tiny

CLASSIFIERS = [(name, task) for name in CONFIGS for task in ("classification", "regression", "multilabel")]
GENERATORS = [(name, "generation") for name in (*DECODERS, *TWO_STACKS)]


def test_every_family_is_tried() -> None:
    assert {config["model_type"] for config in CONFIGS.values()} == set(FAMILIES)


@pytest.mark.parametrize(("name", "task"), CLASSIFIERS[::3] + GENERATORS)
@pytest.mark.parametrize("source", ["short", "full"])
def test_the_table_is_the_real_model(name: str, task: str, source: str) -> None:
    """From the config as a folder may state it, with defaults left out, and as transformers writes it."""
    model = tiny(name, task, labels=5)
    config = CONFIGS[name] if source == "short" else model.config.to_dict()
    specs = matched_specs(model, ModelDescription(config, task, 5))
    state = state_of(model, ModelDescription(config, task))
    assert {spec.name: spec.shape for spec in specs} == {key: tuple(value.shape) for key, value in state.items()}
    assert len({spec.name for spec in specs}) == len(specs)
    parameters = {tensor.data_ptr(): tensor.numel() for tensor in model.parameters()}
    assert {tensor.data_ptr() for tensor in state.values()} >= set(parameters)
    for spec in specs:
        if spec.group is not None:
            layer = model.get_submodule(spec.name.removesuffix(".weight"))
            assert isinstance(layer, Conv1D if spec.conv1d else torch.nn.Linear)
            assert spec.map_shape == (layer.nf, layer.nx) if spec.conv1d else layer.weight.shape
        if spec.embedding:
            assert isinstance(model.get_submodule(spec.name.removesuffix(".weight")), torch.nn.Embedding)


@pytest.mark.parametrize("name", CONFIGS)
def test_groups_hold_every_map_of_the_blocks_and_nothing_else(name: str) -> None:
    model = tiny(name)
    specs = ModelDescription(CONFIGS[name], labels=3).tensors
    pruned = {spec.name for spec in specs if spec.group is not None}
    layers = {
        key
        for key, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D))
        and any(part.isdigit() for part in key.split("."))  # inside a numbered block
    }
    assert pruned == {f"{key}.weight" for key in layers}
    assert {spec.group for spec in specs if spec.group} == set(ModelDescription(CONFIGS[name]).groups)
    if name in TWO_STACKS:
        assert all((".decoder." in spec.name) == spec.group.startswith("decoder.") for spec in specs if spec.group)


@pytest.mark.parametrize(("name", "task"), CLASSIFIERS[::3])
def test_the_head_is_what_the_bare_model_lacks(name: str, task: str) -> None:
    """The task head is new (or a pooler): all other tensors come from the pretrained model."""
    model = tiny(name)
    bare = {f"{model.base_model_prefix}.{key}" for key in model.base_model.state_dict()}
    head = {spec.name for spec in ModelDescription(CONFIGS[name], labels=3).tensors if spec.head}
    assert {key for key in head if "pooler" not in key} == set(model.state_dict()) - bare
    assert head


def test_an_lm_head_is_no_task_head() -> None:
    for name in (*DECODERS, *TWO_STACKS):
        assert not any(spec.head for spec in ModelDescription(CONFIGS[name], "generation", 0).tensors)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_do_not_generate(name: str) -> None:
    with pytest.raises(BudgetError, match="no head for generation; those that have are bart, gpt2, llama"):
        _ = ModelDescription(CONFIGS[name], "generation", 0).tensors


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bert", 40), ("roberta", 38), ("mpnet", 38), ("distilbert", 40), ("gpt2", 40), ("llama", 40), ("bart", 40)],
)
def test_the_longest_input_fits_and_one_more_does_not(name: str, expected: int) -> None:
    assert ModelDescription(CONFIGS[name]).max_tokens == expected
    model = tiny(name)

    def run(length: int) -> Any:
        return model(input_ids=torch.full((1, length), 2), attention_mask=torch.ones(1, length, dtype=torch.long))

    with torch.no_grad():
        run(expected)
        if name != "llama":  # rotary positions go on
            with pytest.raises((IndexError, RuntimeError)):
                run(expected + 1)


def test_relative_positions_have_no_end() -> None:
    assert ModelDescription(CONFIGS["t5"]).max_tokens > 10**6


@pytest.mark.parametrize(("name", "task"), GENERATORS)
def test_tied_names_share_memory(name: str, task: str) -> None:
    state = tiny(name, task).state_dict()
    aliases = ModelDescription(CONFIGS[name], task).tied
    shared = {key for key, value in state.items() if sum(value.data_ptr() == v.data_ptr() for v in state.values()) > 1}
    assert shared == set(aliases) | set(aliases.values())


HEADS_CAN_GO = {"llama", "llama-tied", "llama-biased", "mistral", "qwen2", "qwen3", "t5", "t5-gated", "mt5"}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("task", ["classification", "generation"])
def test_unit_families_cover_their_matrices_evenly(name: str, task: str) -> None:
    if task == "generation" and name in ENCODERS:
        return
    specs = {spec.name: spec for spec in ModelDescription(CONFIGS[name], task, 3).tensors}
    families = ModelDescription(CONFIGS[name], task).unit_families
    members = [(member, axis) for family in families for member, axis in family.members]
    assert len(set(members)) == len(members)
    assert len({family.name for family in families}) == len(families)
    for family in families:
        for member, axis in family.members:
            assert specs[member].group == family.group
            assert specs[member].map_shape[axis] % family.count == 0
    heads = {member for family in families if family.kind == "heads" for member, _ in family.members}
    attention = {spec.name for spec in specs.values() if spec.group and spec.group.endswith("attention")}
    assert heads == (attention if name in HEADS_CAN_GO else set())
    neurons = {member for family in families if family.kind == "ffn" for member, _ in family.members}
    assert neurons == {spec.name for spec in specs.values() if spec.group and spec.group.endswith("ffn")}


def test_the_number_of_heads_is_one_that_the_config_can_say() -> None:
    # 12 heads of 4 over hidden 48 in 6 groups of 2; LLaMA wants heads to divide the hidden size.
    config = {**CONFIGS["llama"], "num_attention_heads": 12, "num_key_value_heads": 6}
    family = next(found for found in ModelDescription(config).unit_families if found.kind == "heads")
    assert [family.kept(share) for share in (0.0, 0.2, 0.5, 0.9, 0.99)] == [6, 6, 3, 1, 1]
    assert family.least(5) == 6  # ten heads do not divide 48
    assert family.changes(3) == {"num_key_value_heads": 3, "num_attention_heads": 6, "head_dim": 4}
    neurons = next(found for found in ModelDescription(config).unit_families if found.kind == "ffn")
    assert [neurons.kept(share) for share in (0.0, 0.5, 0.9, 0.99, 0.999)] == [40, 20, 4, 1, 1]


def test_t5_keeps_the_same_heads_within_a_stack() -> None:
    families = ModelDescription(CONFIGS["t5"], "generation").unit_families
    heads = [(family.layer, family.group, len(family.parts)) for family in families if family.kind == "heads"]
    cross = [(layer, "decoder.attention", 1) for layer in range(3)]
    assert sorted(heads) == sorted([*cross, (-1, "encoder.attention", 2), (-1, "decoder.attention", 3)])


@pytest.mark.parametrize("value", [None, 0, "64", True, 1.5])
@pytest.mark.parametrize(("name", "key"), [("t5", "d_model"), ("bart", "encoder_layers"), ("llama", "hidden_size")])
def test_a_config_without_its_sizes_is_refused(name: str, key: str, value: Any) -> None:
    with pytest.raises(BudgetError, match=key):
        _ = ModelDescription({**CONFIGS[name], key: value}, labels=2).tensors


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(BudgetError, match="5 attention heads, which do not divide 32"):
        _ = ModelDescription({**CONFIGS["bert"], "num_attention_heads": 5}).blocks


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(BudgetError, match="must be one of classification, regression"):
        _ = ModelDescription(CONFIGS["bert"], "translation", 2).tensors


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("bert", "num_hidden_layers"),
        ("llama", "num_hidden_layers"),
        ("gpt2", "n_layer"),
        ("t5", "num_layers"),
        ("bart", "decoder_layers"),
        ("llama", "num_attention_heads"),
        ("t5", "d_ff"),
    ],
)
def test_a_number_beyond_all_bounds_is_refused_at_once(kind: str, key: str) -> None:
    """100,000 layers kept an estimate busy for minutes."""
    config = {**tiny(kind).config.to_dict(), key: 10**8}
    begin = time.monotonic()
    with pytest.raises(BudgetError, match=f"gives {key} as 100000000"):
        plan(ModelDescription(config, labels=2), Target(sparsity=0.9))
    assert time.monotonic() - begin < 1
