"""The sparse CPU engine against torch and transformers, with every set of instructions that this machine has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pst_native as native
import pytest
import torch
from pst_native import Activation, Form, Precision, Weight
from torch import Tensor

from pst.files.shards import Given
from pst.native.choice import Chooser
from pst.native.encoders import NativeEncoder
from pst.native.model import Agreement
from pst.plan.engine import has_config
from pst.plan.families import ModelDescription
from tests.pst.tiny import CONFIGS, tiny

LAYOUTS = list(itertools.product(Form, Precision))
SHAPES = ((1, 1), (3, 5), (17, 64), (37, 131), (32, 384), (40, 770))
TOKENS = (1, 5, 16, 17, 130, 300)
ERRORS = {Precision.FLOAT32: 1e-5, Precision.BFLOAT16: 1e-2, Precision.INT8: 3e-2}
"""The largest relative error of a model's logits."""
ENCODERS = [name for name, config in CONFIGS.items() if has_config(config)]
TEXTS = (1, 3, 17, 34, 16, 33, 2)
"""Tokens of texts that are answered together: below, at and beyond what a vector holds."""


@pytest.fixture(params=native.instructions())
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    native.use(request.param)
    yield request.param
    native.use(native.instructions()[-1])


def product(weight: Weight, x: Tensor, bias: Tensor, activation: Activation, threads: int) -> Tensor:
    out = torch.full((len(x), weight.n), torch.nan)
    weight.product(x.data_ptr(), len(x), out.data_ptr(), bias=bias.data_ptr(), activation=activation, threads=threads)
    return out


def expected(precision: Precision, weight: Tensor, x: Tensor) -> Tensor:
    """The product as the engine defines it, in float64."""
    if precision is Precision.FLOAT32:
        return x.double() @ weight.double().T
    if precision is Precision.BFLOAT16:
        return x.bfloat16().double() @ weight.bfloat16().double().T
    scales, token_scales = weight.abs().amax(1) / 127, x.abs().amax(1, keepdim=True) / 127
    whole = torch.where(scales[:, None] > 0, weight / scales[:, None], 0 * weight).round()
    return ((x / token_scales).round().double() @ whole.double().T) * token_scales * scales


@pytest.mark.parametrize(("form", "precision"), LAYOUTS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
def test_a_product_is_torchs(instructions: str, form: Form, precision: Precision, sparsity: float) -> None:
    if not native.has(form, precision):
        with pytest.raises(ValueError, match="no "):
            Weight(form, precision, 1, 1, torch.ones(1, 1).data_ptr())
        return
    torch.manual_seed(0)
    # A value at half a step is rounded one way by us and another by torch: by at most one step.
    tolerance = 5e-3 if precision is Precision.INT8 else 1e-5
    for n, k in SHAPES:
        dense, bias = torch.randn(n, k) * (torch.rand(n, k) >= sparsity), torch.randn(n)
        dense[:, : k // 7] = 0  # empty columns, and an empty row
        dense[n // 2] = 0
        weight = Weight(form, precision, n, k, dense.data_ptr())
        for tokens, threads in zip(TOKENS, itertools.cycle((1, 2, 3)), strict=False):
            x = torch.randn(tokens, k)
            wanted = expected(precision, dense, x) + bias
            found = product(weight, x, bias, Activation.NONE, threads)
            torch.testing.assert_close(
                found.double(), wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max())
            )


@pytest.mark.parametrize(
    ("activation", "reference"),
    [
        (Activation.GELU, torch.nn.functional.gelu),
        (Activation.GELU_TANH, lambda x: torch.nn.functional.gelu(x, approximate="tanh")),
        (Activation.RELU, torch.relu),
        (Activation.TANH, torch.tanh),
    ],
)
def test_an_activation_is_torchs(instructions: str, activation: Activation, reference: Any) -> None:
    x = torch.linspace(-30, 30, 4001)[:, None]
    identity = torch.ones(1, 1)
    weight = Weight(Form.CELLS, Precision.FLOAT32, 1, 1, identity.data_ptr())
    found = product(weight, x, torch.zeros(1), activation, 1)
    torch.testing.assert_close(found, reference(x), rtol=1e-5, atol=3e-6)


def test_int8_weights_take_the_scales_that_are_given() -> None:
    if not native.has(Form.CELLS, Precision.INT8):
        pytest.skip("this machine has no int8 products")
    values, scales = torch.randint(-60, 60, (8, 12)).float(), torch.rand(8) + 0.1
    dense, x = values * scales[:, None], torch.randint(-127, 128, (3, 12)).float()
    x[:, 0] = 127
    weight = Weight(Form.CELLS, Precision.INT8, 8, 12, dense.data_ptr(), scales.data_ptr())
    torch.testing.assert_close(product(weight, x, torch.zeros(8), Activation.NONE, 1), x @ dense.T)


def test_what_is_packed_is_smaller_than_what_was_dense() -> None:
    dense = torch.randn(768, 768) * (torch.rand(768, 768) >= 0.9)
    for form, precision, most in (
        (Form.CELLS, Precision.FLOAT32, 0.14),
        (Form.CELLS, Precision.INT8, 0.12),
        (Form.TILES, Precision.INT8, 0.07),
    ):
        if native.has(form, precision):
            assert Weight(form, precision, 768, 768, dense.data_ptr()).bytes < most * 4 * dense.numel()


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4), (2**16, 2**16)])
def test_a_weight_without_a_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="for a weight of"):
        Weight(Form.CELLS, Precision.FLOAT32, *size, torch.ones(1).data_ptr())


def pruned(name: str) -> Any:
    torch.manual_seed(0)
    model = tiny(name).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for key, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layer." in key:
            module.weight.data *= torch.rand_like(module.weight) >= 0.7
    return model


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_answers_as_transformers_does(instructions: str, name: str) -> None:
    model, config = pruned(name), CONFIGS[name]
    texts = [torch.randint(0, config["vocab_size"], (length,)).tolist() for length in TEXTS]
    kinds = [[int(place > len(text) // 2) for place in range(len(text))] for text in texts]
    typed = config.get("type_vocab_size", 1) > 1
    with torch.no_grad():
        extra = [{"token_type_ids": torch.tensor([kind])} if typed else {} for kind in kinds]
        wanted = torch.cat(
            [model(torch.tensor([text]), **more).logits for text, more in zip(texts, extra, strict=True)]
        )
    for form, precision in LAYOUTS:
        if not native.has(form, precision):
            continue
        described = ModelDescription(config, labels=wanted.shape[1])
        encoder = NativeEncoder(described, Given(model.state_dict()), lambda _, layout=(form, precision): layout)
        for threads in (1, 2):
            found = encoder.logits(texts, kinds if typed else None, threads)
            assert float((found - wanted).norm() / wanted.norm()) < ERRORS[precision], (form, precision, threads)


def test_what_a_model_lacks_is_refused() -> None:
    model, config = pruned("bert"), CONFIGS["bert"]
    encoder = NativeEncoder(
        ModelDescription(config, labels=3), Given(model.state_dict()), Chooser({Precision.FLOAT32}, 1)
    )
    vocabulary, positions = config["vocab_size"], config["max_position_embeddings"]
    for ids, types in (
        ([[vocabulary]], None),
        ([[-1]], None),
        ([[]], None),
        ([[3] * (positions + 1)], None),
        ([[3, 3]], [[0, 2]]),
    ):
        with pytest.raises(ValueError, match="none of the model's"):
            encoder.logits(ids, types, 1)
    assert encoder.logits([[3] * positions], None, 1).isfinite().all()


def test_tensors_that_do_not_fit_each_other_are_refused() -> None:
    state = dict(pruned("bert").state_dict())
    name = "bert.encoder.layer.1.output.dense.weight"
    state[name] = state[name][:, :-1].contiguous()
    with pytest.raises(ValueError, match="do not fit"):
        NativeEncoder(ModelDescription(CONFIGS["bert"], labels=3), Given(state), Chooser({Precision.FLOAT32}, 1))


def test_what_the_engine_lacks_is_told_beforehand() -> None:
    assert not has_config(CONFIGS["gpt2"])
    assert not has_config(CONFIGS["bert"] | {"hidden_act": "silu"})
    assert not has_config(CONFIGS["bert"] | {"position_embedding_type": "relative_key"})


def test_a_choice_is_one_of_the_allowed() -> None:
    chooser = Chooser({Precision.FLOAT32, Precision.INT8}, 1)
    form, precision = chooser(torch.randn(64, 64) * (torch.rand(64, 64) > 0.5))
    assert (form, precision) in chooser.candidates and len(chooser.candidates) >= 1
    assert Chooser({Precision.FLOAT32}, 1)(torch.randn(8, 8)) == (Form.CELLS, Precision.FLOAT32)


def test_int8_is_used_where_a_job_saw_it_agree(tmp_path: Path) -> None:
    (tmp_path / "sparse").mkdir()
    assert Agreement.read(tmp_path) is None
    for rows, share, holds in ((19, 1.0, False), (20, 1.0, True), (1000, 0.995, True), (1000, 0.994, False)):
        Agreement(rows, share, 0.1).write(tmp_path)
        found = Agreement.read(tmp_path)
        assert found == Agreement(rows, share, 0.1) and found.holds == holds
    for damaged in ("", "[]", "{}", '{"int8": {"rows": "many"}}', '{"int8": 3}'):
        (tmp_path / "sparse/engine.json").write_text(damaged)
        assert Agreement.read(tmp_path) is None
