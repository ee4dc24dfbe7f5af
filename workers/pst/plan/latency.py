"""How long a serving node takes: what it measured of itself, and what that says of a model that is not there yet.

Standard library only: the planner, and through it the web tier, imports this module.

A forward pass of r rows of t tokens is predicted as a sum: every linear map (n, k) as one product with r t tokens at
its sparsity, what a layer does beside its products (attention, norms, activations), and what a model does beside its
layers. A product's time is interpolated between measured ones: over n k and tokens in logarithms, over sparsity in
straight lines, and it never rises with sparsity nor falls with size, whatever noise the measurement had. Outside of
what was measured, smaller is taken to last as long as the smallest; larger grows as the last two did, at least in
proportion.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pst.plan import engine
from pst.plan.families import Attention, ModelDescription

MAX_ENTRIES = 500


@dataclass(frozen=True)
class Product:
    """Seconds of x W^T for W (rows, columns) and x (tokens, columns), at each of the profile's sparsities."""

    rows: int
    columns: int
    tokens: int
    seconds: list[float]


@dataclass(frozen=True)
class Layer:
    """Seconds of all but the products of an encoder layer of this width, on one row of so many tokens."""

    width: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """What a node measured of its engine. ``fixed_seconds``: a model without layers (embeddings, head)."""

    engine: str
    device: str
    threads: int
    software: str
    sparsities: list[float]
    products: list[Product]
    layers: list[Layer]
    fixed_seconds: float


def check(profile: Profile) -> Profile:
    """Return the profile, or raise ValueError saying why nothing can be predicted with it."""
    if not 1 <= len(profile.products) <= MAX_ENTRIES or not 1 <= len(profile.layers) <= MAX_ENTRIES:
        raise ValueError(f"products and layers must have 1 to {MAX_ENTRIES} entries each")
    shares = profile.sparsities
    if not shares or shares[0] != 0 or shares != sorted(set(shares)) or shares[-1] >= 1:
        raise ValueError("sparsities must rise from 0 and stay below 1")
    if any(len(product.seconds) != len(shares) for product in profile.products):
        raise ValueError("every product needs one time for each sparsity")
    sizes = [(item.rows, item.columns, item.tokens) for item in profile.products]
    if any(value < 1 for entry in sizes for value in entry) or any(
        value < 1 for item in profile.layers for value in (item.width, item.tokens)
    ):
        raise ValueError("sizes must be at least 1")
    times = [time for item in profile.products for time in item.seconds] + [item.seconds for item in profile.layers]
    if not all(math.isfinite(time) and time > 0 for time in [*times, profile.fixed_seconds]):
        raise ValueError("times must be positive")
    _grid({(rows * columns, tokens) for rows, columns, tokens in sizes}, len(sizes), "products")
    _grid({(item.width, item.tokens) for item in profile.layers}, len(profile.layers), "layers")
    return profile


def _grid(points: set[tuple[int, int]], count: int, what: str) -> None:
    firsts, seconds = {point[0] for point in points}, {point[1] for point in points}
    if not len(points) == count == len(firsts) * len(seconds):
        raise ValueError(f"{what} must have each size at each number of tokens, once")


@dataclass
class Timing:
    """A profile, and the input for which times are asked: ``rows`` texts of ``tokens`` tokens each. ``sparse``: the
    profile of the node's sparse engine, where it has one."""

    profile: Profile
    rows: int = 1
    tokens: int = 128
    sparse: Profile | None = None
    _tables: list[list[list[float]]] = field(default_factory=list, repr=False)
    _known: dict[tuple[int, int, int, float], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        products = self.profile.products
        self._sizes = sorted({item.rows * item.columns for item in products})
        self._lengths = sorted({item.tokens for item in products})
        found = {(item.rows * item.columns, item.tokens): rising(item.seconds, falling=True) for item in products}
        # One table (size, tokens) for each sparsity.
        for place in range(len(self.profile.sparsities)):
            columns = [rising([found[size, length][place] for size in self._sizes]) for length in self._lengths]
            self._tables.append([list(row) for row in zip(*columns, strict=True)])
        self._widths = sorted({item.width for item in self.profile.layers})
        self._spans = sorted({item.tokens for item in self.profile.layers})
        rest = {(item.width, item.tokens): item.seconds for item in self.profile.layers}
        self._rest = [[rest[width, span] for span in self._spans] for width in self._widths]
        self._on_engine = None if self.sparse is None else Timing(self.sparse, self.rows, self.tokens)

    def product(self, n: int, k: int, tokens: int, sparsity: float = 0.0) -> float:
        """Seconds of one product."""
        key = (n, k, tokens, sparsity)
        if key not in self._known:
            shares = self.profile.sparsities
            place = max(1, min(bisect.bisect_left(shares, sparsity), len(shares) - 1))
            times = [
                _surface(self._sizes, self._lengths, self._tables[at], n * k, tokens)
                for at in range(place - 1, min(place + 1, len(shares)))
            ]
            left, right = times[0], times[-1]
            span = shares[place] - shares[place - 1] if len(shares) > 1 else 1.0
            part = min(1.0, max(0.0, (sparsity - shares[place - 1]) / span))
            self._known[key] = left + part * (right - left)
        return self._known[key]

    def served(self, model: ModelDescription, sparsity: Mapping[str, float]) -> float:
        """Seconds of one forward pass as the node serves the model: by its sparse engine, where that has it."""
        if self._on_engine is None or not engine.has(model):
            return self.forward(model, sparsity)
        return self._on_engine.forward(model, sparsity, last_by_row=True)

    def forward(self, model: ModelDescription, sparsity: Mapping[str, float], *, last_by_row: bool = False) -> float:
        """Seconds of one forward pass of the model, pruned to ``sparsity`` by group, with the engine of
        :attr:`profile`. ``last_by_row``: the last layer is computed for one token a row, but for keys and values.

        Attentions and feed-forward parts count as half a layer each. What is computed once a row (a pooler, a head)
        is one product with ``rows`` tokens; generation computes every token's probabilities over the vocabulary.
        """
        many = self.rows * self.tokens
        seconds = self.profile.fixed_seconds
        by_row = _by_row(model) if last_by_row else frozenset()
        for spec in model.tensors:
            if spec.group is not None:
                tokens = self.rows if spec.name.removesuffix(".weight") in by_row else many
                seconds += self.product(*spec.map_shape, tokens, sparsity[spec.group])
            elif len(spec.shape) == engine.MATRIX and not spec.embedding and model.task != "generation":
                seconds += self.product(*spec.map_shape, self.rows)
        seconds += sum(self._rest_of(part.width) / 2 for part in model.blocks)
        if model.task == "generation":
            width = next(part.width for part in model.blocks if isinstance(part, Attention))
            seconds += self.product(int(model.config["vocab_size"]), width, many)
        return seconds

    def _rest_of(self, width: int) -> float:
        """Seconds of a layer beside its products: a constant for its calls, and the rest for each row."""
        calls = min(self._rest[0])
        one = _surface(self._widths, self._spans, self._rest, width, self.tokens)
        return calls + self.rows * max(0.0, one - calls)


def _by_row(model: ModelDescription) -> frozenset[str]:
    """The linear maps of the last layer but its keys and values."""
    last = max(part.layer for part in model.blocks)
    names: list[str] = []
    for part in model.blocks:
        if part.layer == last:
            names += [part.query, part.output] if isinstance(part, Attention) else [*part.inputs, part.output]
    return frozenset(names)


def _surface(xs: Sequence[int], ys: Sequence[int], table: Sequence[Sequence[float]], x: int, y: int) -> float:
    return _along(xs, [_along(ys, row, y) for row in table], x)


def _along(xs: Sequence[int], values: Sequence[float], x: int) -> float:
    """The value at ``x``, straight between its neighbours in logarithms of both."""
    if x <= xs[0]:
        return values[0]
    place = min(bisect.bisect_left(xs, x), len(xs) - 1)
    if place == 0:
        return values[0] * x / xs[0]
    span = math.log(xs[place] / xs[place - 1])
    slope = math.log(values[place] / values[place - 1]) / span
    if x > xs[place]:
        return values[place] * math.exp(max(slope, 1.0) * math.log(x / xs[place]))
    return values[place - 1] * math.exp(slope * math.log(x / xs[place - 1]))


def rising(values: Sequence[float], *, falling: bool = False) -> list[float]:
    """The nearest values (least squares) that never fall, or never rise: neighbours that do are averaged."""
    order: Callable[[float, float], bool] = (lambda a, b: a < b) if falling else (lambda a, b: a > b)
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and order(blocks[-2][0], blocks[-1][0]):
            (left, m), (right, n) = blocks[-2:]
            blocks[-2:] = [((left * m + right * n) / (m + n), m + n)]
    return [mean for mean, count in blocks for _ in range(count)]
