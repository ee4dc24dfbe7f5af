"""Percentile bootstrap (Efron 1979) over rows: 95 % intervals of what the tasks' own metrics don't cover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

RESAMPLES = 300
LEVELS = (2.5, 97.5)


def percentiles(values: npt.ArrayLike) -> list[float]:
    """[2.5 %, 97.5 %] of ``values``."""
    low, high = np.percentile(np.asarray(values, dtype=np.float64), LEVELS)
    return [float(low), float(high)]


def interval(statistic: Callable[[Tensor], float], rows: int, seed: int) -> list[float]:
    """Interval of ``statistic(places)``, which is given the places (rows) drawn with replacement."""
    generator = np.random.default_rng(seed)
    drawn = (torch.from_numpy(generator.integers(0, rows, rows)) for _ in range(RESAMPLES))
    return percentiles([statistic(places) for places in drawn])


def mean_interval(values: Tensor, seed: int) -> list[float]:
    """Interval of the mean of ``values`` (rows)."""
    array = values.double()
    return interval(lambda places: float(array[places].mean()), len(array), seed)
