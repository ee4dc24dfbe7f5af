"""What an architecture is described with: tensors, and the attentions and feed-forward parts of its blocks.

Legend: h hidden size, f feed-forward size, e embedding size, v vocabulary, p positions, L layers, c labels.
A map (n, k) has n outputs and k inputs; its stored matrix is (k, n) where the model uses GPT-2's Conv1D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pst.errors import BudgetError
from pst.messages import Message

Config = Mapping[str, Any]

CLASSIFIERS = ("classification", "regression", "multilabel")
TASKS = (*CLASSIFIERS, "generation")
NO_LIMIT = 2**31 - 1
"""Tokens of an input where positions are relative: any length will do."""
MAX_SIZE = 2**24
"""Of any size that a config states."""
LAYERS = 256
HEADS = 1024
"""Of a stack and of an attention: planning takes time for each, so a config is not believed beyond."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the checkpoint, with its stored shape.

    ``group`` names the pruned group it belongs to, or is None. ``head`` marks the task head, which every method
    trains; ``embedding`` a table of tokens or positions; ``conv1d`` a map (n, k) that is stored as (k, n); ``zeros`` a
    tensor that holds nothing but zeros in every known checkpoint.
    """

    name: str
    shape: tuple[int, ...]
    group: str | None = None
    head: bool = False
    embedding: bool = False
    conv1d: bool = False
    zeros: bool = False

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def map_shape(self) -> tuple[int, int]:
        """(n, k) of a matrix, as the layer has it."""
        n, k = self.shape
        return (k, n) if self.conv1d else (n, k)


@dataclass(frozen=True)
class Attention:
    """One attention: the module names of its maps. ``query``, ``key`` and ``value`` are the same name where one map
    holds all three (GPT-2).

    ``kv_heads`` heads of keys and values serve ``heads`` heads of queries. ``position_bias`` names a table (buckets,
    heads) that is added to the scores; attentions that share one must keep the same heads.
    ``config_keys`` says how many config entries grow with one unit (a key-value head with its query heads), and is
    empty where the architecture's config can't say fewer heads; ``config_fixed`` what must be stated when it does;
    ``allowed`` the numbers of units it can say, None: any.
    """

    group: str
    layer: int
    query: str
    key: str
    value: str
    output: str
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    bias: bool = True
    output_bias: bool = True
    conv1d: bool = False
    position_bias: str = ""
    config_keys: tuple[tuple[str, int], ...] = ()
    config_fixed: tuple[tuple[str, int], ...] = ()
    allowed: tuple[int, ...] | None = None

    def tensors(self) -> Iterator[TensorSpec]:
        inner, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.query == self.key:
            yield from _map(self.query, inner + 2 * narrow, self.width, self.group, self.bias, self.conv1d)
        else:
            for name, size in ((self.query, inner), (self.key, narrow), (self.value, narrow)):
                yield from _map(name, size, self.width, self.group, self.bias, self.conv1d)
        yield from _map(self.output, self.width, inner, self.group, self.output_bias, self.conv1d)


@dataclass(frozen=True)
class FeedForward:
    """One feed-forward part. ``inputs`` is its first map, or the gate and the map that it gates (SiLU, gated GELU);
    ``config_key`` the config entry that counts its neurons, ``activation`` the name of its activation function."""

    group: str
    layer: int
    inputs: tuple[str, ...]
    output: str
    width: int
    inner: int
    config_key: str
    activation: str
    bias: bool = True
    conv1d: bool = False

    def tensors(self) -> Iterator[TensorSpec]:
        for name in self.inputs:
            yield from _map(name, self.inner, self.width, self.group, self.bias, self.conv1d)
        yield from _map(self.output, self.width, self.inner, self.group, self.bias, self.conv1d)


Block = Attention | FeedForward


@dataclass(frozen=True)
class Architecture:
    """A model type. ``blocks(config, task)`` lists the parts that are pruned, in the order of computation,
    ``rest(config, task, labels)`` every other tensor, ``tied(config, task)`` the names under which a tensor shows up a
    second time, with the name it is stored under. ``max_tokens(config)`` is the longest input."""

    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    blocks: Callable[[Config, str], Iterator[Block]]
    rest: Callable[[Config, str, int], Iterator[TensorSpec]]
    tied: Callable[[Config, str], dict[str, str]]
    max_tokens: Callable[[Config], int]


def size(config: Config, key: str, default: int | None = None, *, most: int = MAX_SIZE) -> int:
    """A size that config.json states, or the default of its architecture. Raises :class:`BudgetError`."""
    value = config.get(key)
    value = default if value is None and default is not None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BudgetError(
            "base_model",
            Message("config.json must give {key} as a positive whole number, not {value}", key=key, value=repr(value)),
        )
    if value > most:
        raise BudgetError(
            "base_model",
            Message("config.json gives {key} as {value}, and {most} is the most", key=key, value=str(value), most=most),
        )
    return value


def share(config: Config, whole: int, parts: int) -> int:
    """Size of a head where ``parts`` heads divide ``whole``. Raises :class:`BudgetError`."""
    if whole % parts:
        raise BudgetError(
            "base_model",
            Message("config.json has {parts} attention heads, which do not divide {whole}", parts=parts, whole=whole),
        )
    return whole // parts


def flag(config: Config, key: str, default: bool) -> bool:
    """A switch of config.json."""
    value = config.get(key)
    return default if value is None else bool(value)


def text(config: Config, key: str, default: str) -> str:
    """A name that config.json states."""
    value = config.get(key)
    return value if isinstance(value, str) else default


def norm(name: str, width: int, *, bias: bool = True) -> Iterator[TensorSpec]:
    """LayerNorm, or without bias RMSNorm."""
    yield TensorSpec(f"{name}.weight", (width,))
    if bias:
        yield TensorSpec(f"{name}.bias", (width,))


def table(name: str, rows: int, width: int) -> TensorSpec:
    """An embedding table."""
    return TensorSpec(f"{name}.weight", (rows, width), embedding=True)


def linear(name: str, n: int, k: int, *, bias: bool = True, head: bool = False) -> Iterator[TensorSpec]:
    """A map that is never pruned."""
    yield TensorSpec(f"{name}.weight", (n, k), head=head)
    if bias:
        yield TensorSpec(f"{name}.bias", (n,), head=head)


def two_layer_head(name: str, width: int, labels: int) -> Iterator[TensorSpec]:
    """The usual classification head: a hidden layer and the layer of labels."""
    yield from linear(f"{name}.dense", width, width, head=True)
    yield from linear(f"{name}.out_proj", labels, width, head=True)


def _map(name: str, n: int, k: int, group: str, bias: bool, conv1d: bool) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{name}.weight", (k, n) if conv1d else (n, k), group, conv1d=conv1d)
    if bias:
        yield TensorSpec(f"{name}.bias", (n,))
