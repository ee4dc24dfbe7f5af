"""Inference time of models, measured in turns in one process, so that all meet the same machine.

The order changes from round to round. Speed-up is the dense model's median over the other's, with an interval from
resampled rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pst.report.intervals import percentiles

BUDGET_SECONDS = 2.0
MIN_ROUNDS, MAX_ROUNDS = 5, 60
WARM_UP = 2
RESAMPLES = 500


@torch.no_grad()
def in_turns(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of each call, round by round: about ``BUDGET_SECONDS``, or a few rounds where one takes longer."""
    for _ in range(WARM_UP):
        for call in calls.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and time.perf_counter() - begin > BUDGET_SECONDS:
            break
        for name in list(calls) if number % 2 else reversed(list(calls)):
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(dense: Callable[[], object], sparse: Callable[[], object], seed: int) -> dict[str, Any]:
    """p50 and p95 in milliseconds of a call of each, and the speed-up with its interval."""
    seconds = in_turns({"dense": dense, "sparse": sparse})
    times = {name: milliseconds(values) for name, values in seconds.items()}
    return times | speedup(seconds["dense"], seconds["sparse"], seed) | {"rounds": len(seconds["dense"])}


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"p50_ms": float(p50) * 1000, "p95_ms": float(p95) * 1000}


def speedup(slow: Sequence[float], fast: Sequence[float], seed: int) -> dict[str, Any]:
    """The ratio of the medians, and its interval: rounds are drawn, both models' times together."""
    pairs = np.array([slow, fast])
    drawn = np.random.default_rng(seed).integers(0, pairs.shape[1], (RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, drawn], axis=-1)
    ratio = float(np.median(slow) / np.median(fast))
    return {"speedup": ratio, "interval": percentiles(medians[0] / medians[1])}
