"""Which models the sparse CPU engine (:mod:`pst.native`) has, and the memory that they take there. Standard library
only.

The engine chooses the layout of each weight by what is fastest on its machine. A plan counts the layout that takes
most, so that a node never needs more than was planned. For a weight (n, k) with z nonzeros:

    cells    5 z + 36 ceil(n / 32) ceil(k / 128) + 4            a float32 value and the byte of its column; counts
    tiles    z + 132 ceil(n / 16) ceil(k / 64) + 8 n + 68       an int8 value, one bit a weight; scales and sums
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pst.plan.families import ModelDescription, TensorSpec
from pst.plan.families.encoders import ENCODERS

ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_pytorch_tanh", "relu"})
OVERHEAD_BYTES = 32 * 1024 * 1024
"""Activations and tokenizer tables of one replica, whatever the model and the engine."""
MATRIX = 2
ITEM_BYTES = 4
"""Of a parameter of the engine that expands the compact file, and of a table of the sparse one."""


def has_config(config: Mapping[str, Any]) -> bool:
    """Whether the engine has such a model: its family, its activation, its positions."""
    encoder = ENCODERS.get(str(config.get("model_type")))
    return (
        encoder is not None
        and config.get(encoder.activation_key, "gelu") in ACTIVATIONS
        and config.get("position_embedding_type", "absolute") == "absolute"
    )


def has(model: ModelDescription) -> bool:
    """Whether the engine has the model, for its task."""
    return model.task != "generation" and has_config(model.config)


def packs(weights: int, nonzeros: int) -> bool:
    """Whether a map of a model that the engine does not run as a whole is packed: where that takes half of the memory
    of the dense matrix, and is faster than torch's product in all that was measured."""
    return 5 * nonzeros <= 2 * weights


def cells_bytes(n: int, k: int, nonzeros: int) -> int:
    """Bytes of a weight (n, k) in float32 cells."""
    return 5 * nonzeros + 36 * -(-n // 32) * -(-k // 128) + 4


def pruned_bytes(model: ModelDescription, n: int, k: int, nonzeros: int) -> int:
    """Bytes that a pruned weight (n, k) of the model takes at most."""
    if has(model):
        return weight_bytes(n, k, nonzeros)
    return cells_bytes(n, k, nonzeros) if packs(n * k, nonzeros) else ITEM_BYTES * n * k


def weight_bytes(n: int, k: int, nonzeros: int) -> int:
    """Bytes that a weight (n, k) of a model that the engine runs as a whole takes at most."""
    tiles = nonzeros + 132 * -(-n // 16) * -(-k // 64) + 8 * n + 68
    return max(cells_bytes(n, k, nonzeros), tiles)


def fixed_bytes(model: ModelDescription, spec: TensorSpec, stored: str) -> int:
    """Bytes that a tensor beside the pruned weights takes, ``stored`` as that safetensors dtype. In a model that the
    engine runs as a whole the table of words stays as it is, and MPNet's bias is spread over all distances; other
    tables, biases and norms are float32."""
    if not has(model):
        return ITEM_BYTES * spec.numel
    if spec.name.endswith("relative_attention_bias.weight"):
        return ITEM_BYTES * spec.shape[1] * (2 * int(model.config.get("max_position_embeddings", 512)) - 1)
    if spec.name.endswith("word_embeddings.weight"):
        held = {"I8": spec.numel + ITEM_BYTES * spec.shape[0], "BF16": 2 * spec.numel}
        return held.get(stored, ITEM_BYTES * spec.numel)
    if spec.embedding or len(spec.shape) != MATRIX:
        return ITEM_BYTES * spec.numel
    return weight_bytes(*spec.map_shape, spec.numel)


def expanded_bytes(specs: Iterable[TensorSpec]) -> int:
    """Memory of one replica that holds every parameter in float32."""
    return ITEM_BYTES * sum(spec.numel for spec in specs) + OVERHEAD_BYTES
