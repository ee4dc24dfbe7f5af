"""Model families: which tensors a checkpoint holds and which of them are pruned, read from ``config.json`` alone.

Standard library only: the planner (:mod:`pst.budget`) and the injection (:mod:`pst.inject`) share this table.

Legend: h hidden size, f feed-forward size, e embedding size, v vocabulary, p positions, L layers, c labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pst.errors import BudgetError

GROUPS = ("attention", "ffn")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the checkpoint. ``group`` names the pruned group it belongs to, or is None; ``head`` marks the
    task head, which every method trains."""

    name: str
    shape: tuple[int, ...]
    group: str | None = None
    head: bool = False

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def tensors(config: Mapping[str, Any], num_labels: int) -> list[TensorSpec]:
    """All tensors of the sequence classifier that ``config`` describes.

    Raises :class:`BudgetError` when the architecture is unknown or the config lacks a size.
    """
    kind = config.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise BudgetError(
            "base_model", f"model type {kind!r} is not supported; known are {', '.join(sorted(FAMILIES))}"
        )
    return list(family(config, num_labels))


def _size(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BudgetError("base_model", f"config.json must give {key} as a positive whole number, not {value!r}")
    return value


def _embeddings(config: Mapping[str, Any], prefix: str, width: int) -> Iterator[TensorSpec]:
    at = f"{prefix}.embeddings"
    yield TensorSpec(f"{at}.word_embeddings.weight", (_size(config, "vocab_size"), width))
    yield TensorSpec(f"{at}.position_embeddings.weight", (_size(config, "max_position_embeddings", 512), width))
    yield TensorSpec(f"{at}.token_type_embeddings.weight", (_size(config, "type_vocab_size", 2), width))
    yield from _norm(f"{at}.LayerNorm", width)


def _norm(name: str, width: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (width,))
    yield TensorSpec(f"{name}.bias", (width,))


def _linear(name: str, n: int, k: int, group: str | None = None, head: bool = False) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (n, k), group, head)
    yield TensorSpec(f"{name}.bias", (n,), None, head)


def _encoder(config: Mapping[str, Any], prefix: str) -> Iterator[TensorSpec]:
    hidden, inner = _size(config, "hidden_size"), _size(config, "intermediate_size")
    for layer in range(_size(config, "num_hidden_layers")):
        at = f"{prefix}.encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            yield from _linear(f"{at}.attention.self.{name}", hidden, hidden, "attention")
        yield from _linear(f"{at}.attention.output.dense", hidden, hidden, "attention")
        yield from _norm(f"{at}.attention.output.LayerNorm", hidden)
        yield from _linear(f"{at}.intermediate.dense", inner, hidden, "ffn")
        yield from _linear(f"{at}.output.dense", hidden, inner, "ffn")
        yield from _norm(f"{at}.output.LayerNorm", hidden)


def _bert(config: Mapping[str, Any], num_labels: int) -> Iterator[TensorSpec]:
    hidden = _size(config, "hidden_size")
    yield from _embeddings(config, "bert", hidden)
    yield from _encoder(config, "bert")
    # The pooler is the hidden layer of BERT's head, as classifier.dense is of RoBERTa's.
    yield from _linear("bert.pooler.dense", hidden, hidden, head=True)
    yield from _linear("classifier", num_labels, hidden, head=True)


def _two_layer_head(hidden: int, num_labels: int) -> Iterator[TensorSpec]:
    yield from _linear("classifier.dense", hidden, hidden, head=True)
    yield from _linear("classifier.out_proj", num_labels, hidden, head=True)


def _roberta(config: Mapping[str, Any], num_labels: int) -> Iterator[TensorSpec]:
    hidden = _size(config, "hidden_size")
    yield from _embeddings(config, "roberta", hidden)
    yield from _encoder(config, "roberta")
    yield from _two_layer_head(hidden, num_labels)


def _electra(config: Mapping[str, Any], num_labels: int) -> Iterator[TensorSpec]:
    hidden = _size(config, "hidden_size")
    width = _size(config, "embedding_size", 128)
    yield from _embeddings(config, "electra", width)
    if width != hidden:
        yield from _linear("electra.embeddings_project", hidden, width)
    yield from _encoder(config, "electra")
    yield from _two_layer_head(hidden, num_labels)


FAMILIES: dict[str, Callable[[Mapping[str, Any], int], Iterator[TensorSpec]]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "electra": _electra,
}


def max_tokens(config: Mapping[str, Any]) -> int:
    """The longest input the position table allows. RoBERTa's kind counts positions from the padding index on."""
    positions = _size(config, "max_position_embeddings", 512)
    if FAMILIES.get(str(config.get("model_type"))) is _roberta:
        return positions - 1 - int(config.get("pad_token_id", 1))
    return positions
