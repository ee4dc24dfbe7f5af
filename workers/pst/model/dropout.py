"""Dropout on a CPU, which torch draws number by number in double precision and, in attention, behind a slow fallback:
together about a tenth of a small model's training step.

    y = x * keep / (1 - p)        keep: 16 random bits >= 65536 p; p is thereby rounded to a multiple of 2^-16

The bits come from torch's default generator: the same seed gives the same masks, and a resumed run goes on with them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "sparsewright_sdpa"
STEPS = 2**16


def dropped(x: Tensor, p: float) -> Tensor:
    """``x`` (any shape), of which each number is zeroed with probability ``p`` (0..1) and scaled else."""
    zeroed = round(p * STEPS)
    if zeroed in (0, STEPS):
        return x if zeroed == 0 else torch.zeros_like(x)
    whole = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
    bits = whole.view(torch.int16)[: x.numel()].view(x.shape)
    return x * bits.ge_(zeroed - STEPS // 2).to(x.dtype).mul_(STEPS / (STEPS - zeroed))


class Dropout(nn.Dropout):
    """Draws its masks by :func:`dropped`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.p) if self.training else x


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """softmax(query key^T scaling) value (rows, tokens, heads, size) as Transformers' "sdpa" gives it, to which is left
    all that needs no dropout or more than a mask (True: seen)."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    boolean = attention_mask is not None and attention_mask.dtype == torch.bool
    plain = boolean or (attention_mask is None and not causal)
    if not dropout or not plain or query.shape[1] != key.shape[1] or more.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **more
        )  # fmt: skip
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    shares = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return (dropped(shares, dropout) @ value).transpose(1, 2).contiguous(), None


def replace_dropout(model: nn.Module) -> None:
    """Let a model on a CPU, in place, draw its dropout this way."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p).train(child.training))
    if model.config._attn_implementation == "sdpa":  # type: ignore[union-attr]
        AttentionInterface.register(ATTENTION, attention)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]
