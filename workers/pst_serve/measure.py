"""How fast this node is: products, a layer's rest and a whole model's, timed with the engine that serves.

Takes a few seconds. Of each point the fastest of some runs is kept: what other programs do meanwhile only ever adds.
An engine that multiplies zeros too is measured without any: differences would be noise, and read as a gain.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from pst.plan.latency import Layer, Product, Profile
from pst_serve.measurable import Measurable

if TYPE_CHECKING:
    from torch import Tensor

SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
SHAPES = ((128, 128), (384, 384), (1536, 384), (3072, 768), (4096, 3072))
TOKENS = (1, 16, 128, 512)
WIDTHS = (128, 384, 1024)
SPANS = (16, 128, 512)
MIN_LAYER_SECONDS = 1e-6
MIN_CALL_SECONDS = 0.05
COPIES_BYTES, MAX_COPIES = 128 * 2**20, 64
"""A weight is used in turns with copies of it: in a model, no weight waits in the cache for its next use."""
MIN_RUNS, MAX_RUNS = 3, 50
"""Runs of a point: at most so many, and at least, however long one takes."""


def measure(engine: Measurable) -> Profile:
    """The profile of this machine with ``engine``."""
    import torch

    with torch.inference_mode():
        products = [product for n, k in SHAPES for product in _products(engine, n, k)]
        layers, fixed = _layers(engine)
    return Profile(
        engine=engine.name,
        device=engine.device_name,
        threads=torch.get_num_threads(),
        software=software(),
        sparsities=list(_sparsities(engine)),
        products=products,
        layers=layers,
        fixed_seconds=fixed,
    )


def software() -> str:
    """What computes, as far as another version of it may be faster."""
    return f"torch {metadata.version('torch')}, transformers {metadata.version('transformers')}"


def _sparsities(engine: Measurable) -> tuple[float, ...]:
    return SPARSITIES if engine.skips_zeros else SPARSITIES[:1]


def _products(engine: Measurable, n: int, k: int) -> list[Product]:
    """One weight with every number of tokens."""
    import torch

    generator = torch.Generator().manual_seed(n + k)
    weight, lot = torch.randn(n, k, generator=generator), torch.rand(n, k, generator=generator)
    copies = max(1, min(MAX_COPIES, COPIES_BYTES // (4 * n * k)))
    turns = []
    for sparsity in _sparsities(engine):
        pruned = torch.where(lot >= sparsity, weight, 0.0)
        turns.append(itertools.cycle([engine.product(pruned.clone()) for _ in range(copies)]))

    def call(turn: Iterator[Callable[[Tensor], object]], inputs: Tensor) -> Callable[[], object]:
        return lambda: next(turn)(inputs)

    found = []
    for tokens in TOKENS:
        inputs = torch.randn(tokens, k, generator=generator).to(engine.device)
        found.append(Product(n, k, tokens, fastest([call(turn, inputs) for turn in turns], engine.wait)))
    return found


def _layers(engine: Measurable) -> tuple[list[Layer], float]:
    """All but the products: of a layer at each width and span, and of a classifier without layers."""
    layers, bare = [], []
    for width in WIDTHS:
        for span in SPANS:
            without, one = fastest(engine.encoders(width, span), engine.wait)
            layers.append(Layer(width, span, max(one - without, MIN_LAYER_SECONDS)))
            bare.append(without)
    return layers, min(bare)


def fastest(calls: Sequence[Callable[[], object]], wait: Callable[[], None]) -> list[float]:
    """Seconds of the fastest run of each call. They run in turns, so that all meet the same machine."""
    for call in calls:
        call()
    wait()
    best = [float("inf")] * len(calls)
    begin = time.perf_counter()
    for run in range(MAX_RUNS):
        if run >= MIN_RUNS and time.perf_counter() - begin > MIN_CALL_SECONDS * len(calls):
            break
        for place, call in enumerate(calls):
            start = time.perf_counter()
            call()
            wait()
            best[place] = min(best[place], time.perf_counter() - start)
    return best
