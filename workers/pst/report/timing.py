"""Inference time of two models, measured in turns in one process, so that both meet the same machine.

The order changes from round to round. Speed-up is the dense model's median over the other's, with an interval from
resampled rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pst.report.intervals import percentiles

BUDGET_SECONDS = 2.0
MIN_ROUNDS, MAX_ROUNDS = 5, 60
WARM_UP = 2
RESAMPLES = 500


@torch.no_grad()
def compare(dense: Callable[[], object], sparse: Callable[[], object], seed: int) -> dict[str, Any]:
    """p50 and p95 in milliseconds of a call of each, and the speed-up with its interval.

    Takes about ``BUDGET_SECONDS``, or a few rounds where one takes longer.
    """
    models = {"dense": dense, "sparse": sparse}
    for _ in range(WARM_UP):
        for model in models.values():
            model()
    seconds: dict[str, list[float]] = {name: [] for name in models}
    begin = time.perf_counter()
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and time.perf_counter() - begin > BUDGET_SECONDS:
            break
        for name in list(models) if number % 2 else reversed(models):
            start = time.perf_counter()
            models[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: _milliseconds(values) for name, values in seconds.items()} | {
        "speedup": float(np.median(seconds["dense"]) / np.median(seconds["sparse"])),
        "interval": _interval(seconds["dense"], seconds["sparse"], seed),
        "rounds": len(seconds["dense"]),
    }


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"p50_ms": float(p50) * 1000, "p95_ms": float(p95) * 1000}


def _interval(dense: Sequence[float], sparse: Sequence[float], seed: int) -> list[float]:
    """Rounds are drawn, both models' times together."""
    pairs = np.array([dense, sparse])
    drawn = np.random.default_rng(seed).integers(0, pairs.shape[1], (RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, drawn], axis=-1)
    return percentiles(medians[0] / medians[1])
