"""Removing neurons and heads: the smaller model loads in plain transformers and computes the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from pst.export.structured import empty_units, remove_units, shrink
from pst.model.loading import state_of
from pst.plan.families import Attention, ModelDescription, UnitFamily
from tests.pst.tiny import CONFIGS, DECODERS, ENCODERS, TWO_STACKS, logits, tiny

CASES = [(name, "classification") for name in CONFIGS] + [(name, "generation") for name in (*DECODERS, *TWO_STACKS)]


def clear(model: Any, family: UnitFamily, units: list[int], axes: tuple[int, ...] = (0, 1)) -> None:
    """Zero the units' rows (axis 0) or columns (axis 1) in the family's matrices."""
    for name, axis in family.members:
        if axis not in axes:
            continue
        weight = model.get_submodule(name.removesuffix(".weight")).weight.detach()
        matrix = weight.T if type(model.get_submodule(name.removesuffix(".weight"))).__name__ == "Conv1D" else weight
        width = matrix.shape[axis] // family.count
        for unit in units:
            matrix.narrow(axis, unit * width, width).zero_()


def reloaded(model: Any, task: str, folder: Path) -> Any:
    """The model as plain transformers reads it from a folder; every tensor must be found there."""
    model.save_pretrained(folder)
    kind: Any = AutoModelForSequenceClassification
    if task == "generation":
        kind = AutoModelForSeq2SeqLM if model.config.is_encoder_decoder else AutoModelForCausalLM
    found, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return found.eval()


@pytest.mark.parametrize(("name", "task"), CASES)
def test_cleared_units_go_and_the_logits_stay(name: str, task: str, tmp_path: Path) -> None:
    model = tiny(name, task)
    config = model.config.to_dict()
    for place, family in enumerate(ModelDescription(config, task).unit_families):
        keep = family.kept(0.6)
        first = place % 2 if family.layer != -1 else 0  # other units in other layers
        clear(model, family, [(first + step) % family.count for step in range(family.count - keep)])
    before, size = logits(model, task), model.num_parameters()
    small, messages = shrink(model, task)
    assert small is not model and type(small) is type(model)
    assert small.num_parameters() < size
    torch.testing.assert_close(logits(small, task), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(reloaded(small, task, tmp_path), task), before, rtol=1e-5, atol=1e-5)
    shapes = {
        key: tuple(value.shape)
        for key, value in state_of(small, ModelDescription(small.config.to_dict(), task)).items()
    }
    stated = json.loads((tmp_path / "config.json").read_text())
    assert shapes == {spec.name: spec.shape for spec in ModelDescription(stated, task, 3).tensors}
    heads = any(family.kind == "heads" for family in ModelDescription(config, task).unit_families)
    assert any("heads" in message for message in messages) == heads
    assert any("neurons" in message for message in messages)
    for family in ModelDescription(stated, task).unit_families:
        assert family.count == next(
            f.kept(0.6) for f in ModelDescription(config, task).unit_families if f.name == family.name
        )
    again, nothing = shrink(small, task)
    assert again is small and nothing == []


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_with_no_empty_unit_is_left_alone(name: str) -> None:
    model = tiny(name)
    assert all(units == [] for units in empty_units(model.state_dict(), ModelDescription(CONFIGS[name])).values())
    assert shrink(model) == (model, [])


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "electra-wide"] + ["gpt2", "bart", "mbart"])
def test_neurons_without_inputs_are_folded_into_the_next_bias(name: str) -> None:
    """Their rows are zero, their biases and their columns are not: each adds act(bias) to the output."""
    model = tiny(name)
    for family in ModelDescription(model.config.to_dict()).unit_families:
        clear(model, family, [1, 2, 5], axes=(0,))
    before = logits(model)
    small, _ = shrink(model)
    config, smaller = model.config.to_dict(), small.config.to_dict()
    counts = zip(ModelDescription(config).unit_families, ModelDescription(smaller).unit_families, strict=True)
    assert all(new.count == old.count - 3 for old, new in counts)
    torch.testing.assert_close(logits(small), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", ["gate", "up", "both"])
@pytest.mark.parametrize("name", ["llama", "llama-biased", "t5-gated"])
def test_a_gated_neuron_goes_when_its_product_is_constant(name: str, rows: str) -> None:
    model = tiny(name)
    for family in ModelDescription(model.config.to_dict()).unit_families:
        if family.kind == "ffn":
            gate, up = (model.get_submodule(key.removesuffix(".weight")) for key, axis in family.members if axis == 0)
            for layer in {"gate": [gate], "up": [up], "both": [gate, up]}[rows]:
                layer.weight.detach()[4:10].zero_()
    before = logits(model)
    small, messages = shrink(model)
    # With biases, one empty row leaves a product that still depends on the input.
    assert bool(messages) == (name != "llama-biased" or rows == "both")
    torch.testing.assert_close(logits(small), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "goes"), [("llama", True), ("llama-biased", True), ("qwen2", False), ("t5", True)])
def test_heads_without_values_go_unless_a_constant_has_no_bias_to_go_to(name: str, goes: bool) -> None:
    model = tiny(name)
    for family in ModelDescription(model.config.to_dict()).unit_families:
        for part in family.parts:
            if isinstance(part, Attention):
                model.get_submodule(part.value).weight.detach()[: part.head_dim].zero_()
    before = logits(model)
    small, messages = shrink(model)
    # LLaMA: one of three groups of two heads; four heads divide the hidden size of 48.
    assert bool(messages) == goes
    torch.testing.assert_close(logits(small), before, rtol=1e-5, atol=1e-5)


def test_a_layer_with_fewer_empty_units_decides() -> None:
    model = tiny("bert")
    first, second = ModelDescription(model.config.to_dict()).unit_families
    clear(model, first, list(range(20)))
    clear(model, second, [3, 7])
    before = logits(model)
    small, messages = shrink(model)
    assert (small.config.intermediate_size, messages) == (46, ["2 of 48 neurons are removed from each layer of ffn."])
    torch.testing.assert_close(logits(small), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_patterns_of_four_keep_their_places(name: str) -> None:
    """Only whole aligned fours of neurons go, so that each 2:4 group and each block stays one."""
    model = tiny(name)
    neurons = [family for family in ModelDescription(model.config.to_dict()).unit_families if family.kind == "ffn"]
    for family in neurons:
        clear(model, family, [0, 1, 2, 3, 5, 6, 7, 8, 12, 13, 14, 15, 18])
    before = logits(model)
    for structure in ("2:4", "block_1x4", "block_4x1"):
        small, _ = shrink(copy.deepcopy(model), structure=structure)
        family = next(found for found in ModelDescription(small.config.to_dict()).unit_families if found.kind == "ffn")
        assert family.count == neurons[0].count - 8
        torch.testing.assert_close(logits(small), before, rtol=1e-5, atol=1e-5)
        name_of_rows = family.members[0][0]
        rows = [layer.state_dict()[name_of_rows] for layer in (model, small)]
        rows = [matrix.T if name == "gpt2" else matrix for matrix in rows]
        assert torch.equal(rows[1][:4], rows[0][4:8]) and torch.equal(rows[1][4:8], rows[0][8:12])
        assert torch.equal(rows[1][8:], rows[0][16:])


def test_a_wholly_empty_part_keeps_one_unit() -> None:
    model = tiny("llama")
    for family in ModelDescription(model.config.to_dict()).unit_families:
        clear(model, family, list(range(family.count)))
    before = logits(model)
    small, _ = shrink(model)
    assert (small.config.intermediate_size, small.config.num_key_value_heads, small.config.num_attention_heads) == (
        (1, 1, 2)
    )
    torch.testing.assert_close(logits(small), before, rtol=1e-5, atol=1e-5)


def test_a_count_of_heads_that_the_class_refuses_is_not_tried() -> None:
    model = tiny("llama", num_attention_heads=12, num_key_value_heads=6)
    for family in ModelDescription(model.config.to_dict()).unit_families:
        if family.kind == "heads":
            clear(model, family, [0])  # 10 heads do not divide 48
    assert shrink(model) == (model, [])


def test_remove_units_refuses_what_would_change_the_model_and_then_changes_nothing() -> None:
    model = tiny("bert")
    config = model.config.to_dict()
    first, second = ModelDescription(config).unit_families
    clear(model, first, [0])
    clear(model, second, [0])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    held = {key: value.clone() for key, value in state.items()}
    kept = list(range(1, 48))
    with pytest.raises(ValueError, match="is not empty"):
        remove_units(state, ModelDescription(config), {first.name: kept[:-1], second.name: kept[:-1]})
    with pytest.raises(ValueError, match=r"can't say that .* keeps"):
        remove_units(state, ModelDescription(config), {first.name: kept})
    assert all(torch.equal(state[key], held[key]) for key in held)
    changed = remove_units(state, ModelDescription(config), {first.name: kept, second.name: kept}).config
    assert changed == {**config, "intermediate_size": 47} and config["intermediate_size"] == 48
    touched = [key for key in held if "intermediate" in key or "output.dense.weight" in key]
    assert all(torch.equal(state[key], held[key]) == (key not in touched) for key in held if "attention" not in key)


def test_a_shrunk_model_takes_the_weights_of_the_old_one() -> None:
    model = tiny("bert")
    for family in ModelDescription(model.config.to_dict()).unit_families:
        clear(model, family, [0])
    small, _ = shrink(model)
    assert small is not model and all(parameter.numel() == 0 for parameter in model.parameters())
