"""Dropout drawn in whole words: its rate, its scale, its seed, and attention without it and with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pst.model import dropout
from pst.model.dropout import Dropout, attention, dropped, replace_dropout
from tests.pst.tiny import tiny, tokens
from tests.pst.trainers import make, settings_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_each_number_is_zeroed_with_the_probability_and_scaled_else(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 11, 1301, dtype=dtype, requires_grad=True)
    y = dropped(x, p)
    kept = y != 0
    assert abs(float(kept.float().mean()) - (1 - p)) < 4 * (p * (1 - p) / x.numel()) ** 0.5
    scale = torch.tensor(65536 / (65536 - round(p * 65536)), dtype=torch.float64).to(dtype)
    assert torch.equal(y, kept * scale)
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y)
    for axis in range(3):  # neighbours are independent
        pairs = (kept.narrow(axis, 1, x.shape[axis] - 1) & kept.narrow(axis, 0, x.shape[axis] - 1)).float()
        assert abs(float(pairs.mean()) - (1 - p) ** 2) < 0.02


def test_the_seed_decides() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropped(x, 0.3), dropped(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(first, dropped(x, 0.3))
    assert not torch.equal(first, second)


def test_the_ends() -> None:
    x = torch.randn(5)
    assert torch.equal(dropped(x, 0.0), x)
    assert torch.equal(dropped(x, 1.0), torch.zeros(5))
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert dropped(torch.empty(0, 3), 0.5).shape == (0, 3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_attention_is_that_of_torch(
    masked: bool, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 4, dtype=dtype, requires_grad=True) for _ in range(3))
    mask = (torch.rand(2, 1, 9, 9) < 0.7) | torch.eye(9, dtype=torch.bool) if masked else None
    asked = []
    monkeypatch.setattr(dropout, "dropped", lambda x, p: asked.append(p) or x)
    got, _ = attention(nn.Module(), query, key, value, mask, dropout=0.2, is_causal=False)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    assert asked == [0.2]
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, [query, key, value], upstream),
        torch.autograd.grad(wanted, [query, key, value], upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "gpt2", "qwen2", "t5", "bart"])
def test_every_family_computes_the_same_without_dropout(name: str) -> None:
    model, inputs = tiny(name), tokens(rows=3, length=10)
    inputs["input_ids"][:, -1] = 1 if name == "t5" else 2
    inputs["attention_mask"][1, 3:6] = 0
    wanted = model(**inputs).logits
    replace_dropout(model)
    assert not any(type(module) is nn.Dropout for module in model.modules())
    torch.testing.assert_close(model(**inputs).logits, wanted)
    trained = model.train()(**inputs).logits
    assert bool(torch.isfinite(trained).all())
    assert torch.equal(trained, wanted) == (name == "qwen2")  # which has no dropout


def test_a_trainer_on_a_cpu_uses_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "bernoulli_", None)
    trainer = make(base, settings_of())
    trainer.model.train()
    trainer.optimise()
    assert trainer.model.config._attn_implementation == dropout.ATTENTION  # type: ignore[union-attr]
