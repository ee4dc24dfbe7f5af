"""Layers in a whole model and out of it again: every method, Conv1D too, every structure, what is trained how fast."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from pst.config import Method, Structure, TrainSettings
from pst.export.merge import merge
from pst.layers.inject import LAYERS, TargetModule, begin_step, calibrate, frozen, inject, learning_rates, select_all
from pst.plan.families import ModelDescription, TensorSpec
from pst.plan.methods import METHODS, trainable_total
from pst.sparsity.masks import mask_of
from tests.pst.tiny import logits, tiny, tokens

PRUNING: list[Method] = [method for method in LAYERS if METHODS[method].prunes]
HALF = {"attention": 0.5, "ffn": 0.5}
NONE = {"attention": 0.0, "ffn": 0.0}


def settings_of(method: Method, **changes: Any) -> TrainSettings:
    return replace(TrainSettings(method=method, update_rank=4, score_rank=2), **changes)


def injected(name: str, method: Method, **changes: Any) -> tuple[Any, list[TensorSpec], list[TargetModule]]:
    """A tiny model with the method's layers, ready to be pruned."""
    model = tiny(name)
    specs = ModelDescription(model.config.to_dict(), labels=3).tensors
    modules = inject(model, specs, settings_of(method, **changes))
    calibrate(model, modules, [tokens(1, 6), tokens(1, 4)])
    return model, specs, modules


def stir(model: nn.Module, method: Method) -> None:
    """As if some steps had been trained."""
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] in LAYERS[method].rates:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
@pytest.mark.parametrize("method", list(LAYERS))
def test_a_model_computes_as_before_until_something_is_pruned(method: Method, name: str) -> None:
    before = logits(tiny(name))
    model, _, modules = injected(name, method)
    assert len(modules) == {"gpt2": 8, "bert": 12}[name]
    assert all(module.transposed == (name == "gpt2") for module in modules)
    torch.testing.assert_close(logits(model), before)
    select_all(modules, NONE, "matrix")
    torch.testing.assert_close(logits(model), before)
    with frozen(modules):
        torch.testing.assert_close(logits(model), before)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
@pytest.mark.parametrize("method", list(LAYERS))
def test_a_merged_model_is_an_ordinary_one_that_computes_the_same(method: Method, name: str) -> None:
    original = tiny(name)
    kinds = {path: type(module) for path, module in original.named_modules()}
    shapes = {path: tensor.shape for path, tensor in original.state_dict().items()}
    model, _, modules = injected(name, method)
    stir(model, method)
    select_all(modules, HALF if METHODS[method].prunes else NONE, "matrix")
    masks = {module.name: mask_of(module.layer.scores(), module.layer.selection) for module in modules}
    wanted = logits(model)
    report = merge(model, modules, torch.float32)
    torch.testing.assert_close(logits(model), wanted)
    assert {path: type(module) for path, module in model.named_modules()} == kinds
    assert {path: tensor.shape for path, tensor in model.state_dict().items()} == shapes
    assert all(not tensor.is_meta for tensor in model.state_dict().values())
    for matrix, module in zip(report, modules, strict=True):
        stored = model.get_submodule(module.name).weight
        weight = stored.T if isinstance(model.get_submodule(module.name), Conv1D) else stored
        mask = masks[module.name]
        assert not weight[~mask].contiguous().view(torch.int32).any()  # +0.0, bit for bit
        assert stored.is_contiguous()
        assert matrix.sparsity == (0.5 if METHODS[method].prunes else 0.0)


PATTERNS = [(structure, threshold) for structure in get_args(Structure) for threshold in ("matrix", "global")]
PATTERNS.remove(("structured", "global"))  # there every layer keeps the same number of units


@pytest.mark.parametrize("structure,threshold", PATTERNS)
@pytest.mark.parametrize("method", PRUNING)
def test_every_structure_and_threshold_trains(method: Method, structure: str, threshold: str) -> None:
    model, specs, modules = injected("gpt2", method)
    stir(model, method)
    rates = learning_rates(model, specs, settings_of(method))
    before = {name: p.detach().clone() for name, p in model.named_parameters() if name in rates}
    families = ModelDescription(model.config.to_dict()).unit_families
    model.train()
    optimizer = torch.optim.SGD([p for name, p in model.named_parameters() if name in rates], lr=0.1)
    for final in (False, True):
        select_all(modules, HALF, threshold, structure, families)
        begin_step(modules, final)
        optimizer.zero_grad()
        model(**tokens()).logits.square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if name in rates and not torch.equal(p, before[name])}
    assert moved == set(rates)
    select_all(modules, HALF, threshold, structure, families)
    masks = [mask_of(module.layer.scores(), module.layer.selection) for module in modules]
    for group in HALF if structure != "structured" else ["ffn"]:  # transformers' GPT-2 can't say fewer heads
        of = [mask for module, mask in zip(modules, masks, strict=True) if module.group == group]
        assert sum(int(mask.sum()) for mask in of) * 2 == sum(mask.numel() for mask in of)
    for module, mask in zip(modules, masks, strict=True):
        n, k = mask.shape
        if structure == "2:4":
            assert (mask.reshape(n, k // 4, 4).sum(-1) == 2).all()
        if structure == "block_1x4":
            assert mask.reshape(n, k // 4, 4).float().mean(-1).unique().tolist() == [0.0, 1.0]
        if structure == "structured":
            alive = {True} if module.group == "attention" else {True, False}
            lines = mask if module.name.endswith("c_fc") else mask.T
            assert {bool(line[0]) for line in lines} == alive
            assert all(line.all() or not line.any() for line in lines)
        assert not module.layer.masked()[~mask].any()


@pytest.mark.parametrize("train_norms", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "bert", "qwen2"])
@pytest.mark.parametrize("method", get_args(Method))
def test_what_is_trained_and_how_fast(method: Method, name: str, train_norms: bool) -> None:
    settings = settings_of(
        method,
        train_norms=train_norms,
        learning_rate=1e-2,
        score_learning_rate=2e-2,
        head_learning_rate=3e-2,
        dense_learning_rate=4e-2,
        gate_learning_rate=5e-2,
    )
    model = tiny(name)
    specs = ModelDescription(model.config.to_dict(), labels=3).tensors
    inject(model, specs, settings)
    rates = learning_rates(model, specs, settings)
    sizes = {path: parameter.numel() for path, parameter in model.named_parameters()}
    assert sum(sizes[path] for path in rates) == trainable_total(specs, settings)
    assert {path for path, p in model.named_parameters() if p.requires_grad} == set(rates)
    head = {spec.name for spec in specs if spec.head}
    assert head
    for path, rate in rates.items():
        kind = path.rpartition(".")[2]
        if kind == "score":
            assert rate == 5e-2
        elif path in head:
            assert rate == 3e-2
        elif METHODS[method].full:
            assert rate == 4e-2
        elif kind.startswith("score_"):
            assert rate == 2e-2
        else:
            assert rate == 1e-2
            assert kind.startswith("update_") or (train_norms and kind in {"weight", "bias"})
    biases = {module for module in rates if module.endswith(".bias") and module not in head}
    assert bool(biases) == (train_norms or METHODS[method].full)


def test_calibration_sees_the_inputs_of_the_dense_model_and_starts_anew() -> None:
    model, _, modules = injected("bert", "wanda")
    plain, batches = tiny("bert"), [tokens(1, 6), tokens(1, 4)]
    seen: dict[str, list[Tensor]] = {module.name: [] for module in modules}
    for module in modules:
        plain.get_submodule(module.name).register_forward_pre_hook(
            lambda module, inputs, name=module.name: seen[name].append(inputs[0])
        )
    with torch.no_grad():
        for batch in batches:
            plain(**batch)
    model.train()
    calibrate(model, modules, batches)
    assert model.training
    for module in modules:
        norms = torch.cat([x.reshape(-1, x.shape[-1]) for x in seen[module.name]]).norm(dim=0)
        torch.testing.assert_close(module.layer.scores(), plain.get_submodule(module.name).weight.abs() * norms)
        assert not module.layer._forward_pre_hooks
    select_all(modules, HALF, "matrix")
    first = [mask_of(module.layer.scores(), module.layer.selection) for module in modules]
    calibrate(model, modules, [tokens(1, 7)])
    select_all(modules, HALF, "matrix")
    again = [mask_of(module.layer.scores(), module.layer.selection) for module in modules]
    assert any(not torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("method", ["pst", "wanda"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_rows_of_one_length_are_calibrated_at_once_and_weights_masked_once(
    name: str, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statistics are those of rows one by one; what it costs is counted."""
    model = tiny(name)
    modules = inject(model, ModelDescription(model.config.to_dict(), labels=3).tensors, settings_of(method))
    inputs = [tokens(3, length) for length in (6, 4, 9)]
    for each in inputs if name == "t5" else ():
        each["input_ids"][:, -1] = 1  # its end of the text
    rows = [{key: one[None] for key, one in zip(("input_ids", "attention_mask"), both, strict=True)}
            for each in inputs for both in zip(*each.values(), strict=True)]  # fmt: skip
    statistics: list[list[Tensor]] = []
    passes, merges = [0], [0]
    model.register_forward_pre_hook(lambda module, inputs: passes.__setitem__(0, passes[0] + 1))
    layer = type(modules[0].layer)
    whole, told = layer.masked, layer.calibrated

    def masked(self: Any) -> Tensor:
        merges[0] += 1
        return whole(self)

    def calibrated(self: Any, squares: Tensor) -> None:
        statistics[-1].append(squares.clone())
        told(self, squares)

    monkeypatch.setattr(layer, "masked", masked)
    monkeypatch.setattr(layer, "calibrated", calibrated)
    for batches in (rows, inputs):
        statistics.append([])
        calibrate(model, modules, batches)
    assert passes == [9 + 3]
    assert merges == [2 * len(modules)]
    for one, other in zip(*statistics, strict=True):
        torch.testing.assert_close(one, other)


def test_the_dense_model_is_left_alone() -> None:
    model = tiny("gpt2")
    before = copy.deepcopy(model.state_dict())
    specs = ModelDescription(model.config.to_dict(), labels=3).tensors
    assert inject(model, specs, settings_of("dense")) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_linear_maps_can_be_replaced() -> None:
    model = tiny("bert")
    specs = [TensorSpec("bert.embeddings.word_embeddings.weight", (60, 32), "attention")]
    with pytest.raises(TypeError, match="Embedding, neither a Linear nor a Conv1D"):
        inject(model, specs, settings_of("pst"))


def test_a_selection_is_searched_when_it_is_told_to() -> None:
    """At once, or in the next forward pass; never because somebody reads it."""
    model = tiny("bert")
    modules = inject(model, ModelDescription(model.config.to_dict(), labels=3).tensors, settings_of("pst"))
    layer = modules[0].layer
    whole = layer.selection
    select_all(modules, HALF, "matrix", later=True)
    assert layer.selection is whole
    model(**tokens(2, 5))
    later = [mask_of(module.layer.scores(), module.layer.selection) for module in modules]
    select_all(modules, HALF, "matrix")
    now = [mask_of(module.layer.scores(), module.layer.selection) for module in modules]
    assert all(torch.equal(*both) and 0.4 < both[0].float().mean() < 0.6 for both in zip(later, now, strict=True))
