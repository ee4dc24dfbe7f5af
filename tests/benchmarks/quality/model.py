"""BERT of MiniLM's size with a leading axis of experiments: several small models share one process, and one launch.

Legend: E experiments, B rows, T tokens, h hidden size, l layers. The pruned matrices lie in three stacks:
``attention`` (E, 4 l, h, h: query, key, value, output of each layer), ``inner`` (E, l, f, h), ``outer`` (E, l, h, f).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

HEADS = 12
EPSILON = 1e-12
DROPOUT = 0.1
MAPS = {
    "attention": ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    "inner": ("intermediate.dense",),
    "outer": ("output.dense",),
}
GROUPS = {"attention": ("attention",), "ffn": ("inner", "outer")}

Params = dict[str, Tensor]


def base_params(weights: Mapping[str, NDArray[np.float32]], device: torch.device) -> Params:
    """The base model's tensors without the axis E: ``weight.<stack>``, ``bias.<stack>``, ``norms`` (2 l + 1, 2, h),
    ``words`` (v, h), ``places`` (p, h), ``types`` (2, h), ``pooler.weight``, ``pooler.bias``."""
    get = {name: torch.from_numpy(value).to(device) for name, value in weights.items()}
    layers = range(len({name.split(".")[2] for name in get if name.startswith("encoder.layer.")}))
    params = {}
    for stack, names in MAPS.items():
        for kind in ("weight", "bias"):
            params[f"{kind}.{stack}"] = torch.stack(
                [get[f"encoder.layer.{layer}.{name}.{kind}"] for layer in layers for name in names]
            )
    norms = ["embeddings.LayerNorm"]
    for layer in layers:
        norms += [f"encoder.layer.{layer}.{name}.LayerNorm" for name in ("attention.output", "output")]
    params["norms"] = torch.stack([torch.stack([get[f"{name}.weight"], get[f"{name}.bias"]]) for name in norms])
    for name, key in (("words", "word"), ("places", "position"), ("types", "token_type")):
        params[name] = get[f"embeddings.{key}_embeddings.weight"]
    return params | {f"pooler.{kind}": get[f"pooler.dense.{kind}"] for kind in ("weight", "bias")}


def repeat(tensor: Tensor, count: int) -> Tensor:
    """(count, ...) copies that can be trained apart."""
    return tensor.expand(count, *tensor.shape).clone()


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _norm(x: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * scale[:, 0, None] + scale[:, 1, None]


def _embed(table: Tensor, ids: Tensor) -> Tensor:
    """Rows (E, B, T, h) of a shared table (v, h), or of one for each experiment (E, v, h)."""
    if table.dim() == 2:
        return table[ids]
    experiments, size = table.shape[:2]
    first = torch.arange(experiments, device=ids.device).view(-1, 1, 1) * size
    return F.embedding(ids + first, table.flatten(0, 1))


def forward(
    params: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    ids: Tensor,
    types: Tensor,
    mask: Tensor,
    *,
    train: bool,
    seen: dict[str, list[Tensor]] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Logits (E, B, labels) and the output (E, B T, h) of every block, for tokens ``ids`` and ``types`` (E, B, T);
    ``mask`` is True where a token is. ``weights`` holds the three stacks as they are applied.

    ``seen`` collects the inputs (E, B T, .) of the matrices, by stack.
    """
    experiments, rows, tokens = ids.shape
    hidden = params["norms"].shape[-1]

    def drop(x: Tensor) -> Tensor:
        return F.dropout(x, DROPOUT, train)

    words = _embed(params["words"], ids)
    x = words + params["places"][..., :tokens, :].unsqueeze(-3) + _embed(params["types"], types)
    x = drop(_norm(x.reshape(experiments, rows * tokens, hidden), params["norms"][:, 0]))
    attended = mask.reshape(experiments * rows, 1, 1, tokens)
    blocks = []
    for layer in range(weights["inner"].shape[1]):

        def apply(x: Tensor, stack: str, place: int) -> Tensor:
            if seen is not None:
                seen[stack].append(x)
            return _linear(x, weights[stack][:, place], params[f"bias.{stack}"][:, place])

        query, key, value = (
            apply(x, "attention", 4 * layer + part)
            .view(experiments * rows, tokens, HEADS, hidden // HEADS)
            .transpose(1, 2)
            for part in range(3)
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=attended, dropout_p=DROPOUT if train else 0.0
        )
        mixed = mixed.transpose(1, 2).reshape(experiments, rows * tokens, hidden)
        x = _norm(x + drop(apply(mixed, "attention", 4 * layer + 3)), params["norms"][:, 1 + 2 * layer])
        x = _norm(x + drop(apply(F.gelu(apply(x, "inner", layer)), "outer", layer)), params["norms"][:, 2 + 2 * layer])
        blocks.append(x)
    first = x.view(experiments, rows, tokens, hidden)[:, :, 0]
    pooled = drop(torch.tanh(_linear(first, params["pooler.weight"], params["pooler.bias"])))
    return _linear(pooled, params["head.weight"], params["head.bias"]), blocks
