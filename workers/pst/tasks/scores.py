"""Metrics of labels and numbers as functions of how often each row counts.

A bootstrap resample of n rows is a count for each row. Every metric here is built from weighted sums over rows, so that
all resamples are computed at once, as matrix products with the counts; so are two models on the same resamples.

Legend: n rows, l labels, r resamples; counts (n) or (r, n).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from pst.model.data import Encoded, Row
from pst.model.loading import LazyModel, TensorLocation

RESAMPLES = 1000

Array = NDArray[np.float64]
Measure = Callable[[Array], dict[str, Array]]
"""Metrics by name, each (…), from counts (…, n)."""


class Measured:
    """What a task's :meth:`open` and :meth:`measure` give for free."""

    primary: str

    def open(self, folder: Path, seed: int, location: TensorLocation | None = None) -> LazyModel:
        """The base model with the task's head, before its weights are read."""
        raise NotImplementedError

    def load(self, folder: Path, seed: int) -> PreTrainedModel:
        """The base model with the task's head, in float32 on the CPU."""
        return self.open(folder, seed).finish()

    def measure(self, answers: dict[str, Tensor], rows: Sequence[Row | Encoded]) -> Measure:
        """The task's metrics of ``answers`` to ``rows``."""
        raise NotImplementedError

    def values(self, answers: dict[str, Tensor], rows: Sequence[Row | Encoded]) -> dict[str, float]:
        """Metrics by name."""
        return {name: float(value) for name, value in self.measure(answers, rows)(np.ones(len(rows))).items()}

    def metrics(self, answers: dict[str, Tensor], rows: Sequence[Row | Encoded], seed: int) -> dict[str, Any]:
        """Metrics by name, ``intervals`` (95 %, bootstrap over rows) by name, and ``interval``, the primary one's."""
        measure = self.measure(answers, rows)
        values = {name: float(value) for name, value in measure(np.ones(len(rows))).items()}
        intervals = {name: _interval(drawn) for name, drawn in measure(resamples(len(rows), seed)).items()}
        return values | {"interval": intervals[self.primary], "intervals": intervals}

    def gains(
        self, answers: dict[str, Tensor], others: dict[str, Tensor], rows: Sequence[Row | Encoded], seed: int
    ) -> dict[str, list[float]]:
        """95 % intervals of metric minus the others' metric, both on the same resamples."""
        counts = resamples(len(rows), seed)
        ours, theirs = self.measure(answers, rows)(counts), self.measure(others, rows)(counts)
        return {name: _interval(drawn - theirs[name]) for name, drawn in ours.items()}


def resamples(rows: int, seed: int) -> Array:
    """Counts (r, n) of resampling n rows with replacement."""
    drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), RESAMPLES)
    return drawn.astype(np.float64)


def _interval(drawn: Array) -> list[float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return [float(low), float(high)]


def accuracy(predicted: Tensor, gold: Tensor) -> float:
    """Share of equal entries."""
    return int((predicted == gold).sum()) / len(gold)


def confusion_matrix(predicted: Tensor, gold: Tensor, labels: int) -> Tensor:
    """Counts (l, l): row = gold label, column = predicted label."""
    return torch.bincount(gold * labels + predicted, minlength=labels * labels).reshape(labels, labels)


def classification(predicted: Tensor, gold: Tensor, labels: int) -> Measure:
    """``accuracy``, ``macro_f1`` over the labels that occur, ``matthews``, and for two labels ``f1``, of the second."""
    one = np.eye(labels)
    told, said = one[gold.numpy()], one[predicted.numpy()]

    def of(counts: Array) -> dict[str, Array]:
        hits, golds, answers = counts @ (told * said), counts @ told, counts @ said
        total = golds.sum(-1)
        f1 = _f1(hits, golds, answers)
        covariance = hits.sum(-1) * total - (golds * answers).sum(-1)
        spread = (total**2 - (golds**2).sum(-1)) * (total**2 - (answers**2).sum(-1))
        result = {
            "accuracy": hits.sum(-1) / total,
            "macro_f1": _mean_present(f1, golds + answers),
            "matthews": np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0),
        }
        return result | {"f1": f1[..., 1]} if labels == 2 else result

    return of


def _f1(hits: Array, gold: Array, predicted: Array) -> Array:
    occurrences = gold + predicted
    return 2 * hits / np.where(occurrences > 0, occurrences, 1)


def _mean_present(values: Array, occurrences: Array) -> Array:
    """Mean over the labels (…, l) that occur at all."""
    present = occurrences > 0
    mean: Array = (values * present).sum(-1) / np.maximum(present.sum(-1), 1)
    return mean


def multilabel(predicted: Tensor, gold: Tensor) -> Measure:
    """``micro_f1``, ``macro_f1`` over the labels that occur, ``subset_accuracy``; both tensors (n, l) of 0 and 1."""
    told, said = gold.double().numpy(), predicted.double().numpy()
    exact = (told == said).all(-1).astype(np.float64)

    def of(counts: Array) -> dict[str, Array]:
        hits, golds, answers = counts @ (told * said), counts @ told, counts @ said
        return {
            "micro_f1": _f1(hits.sum(-1), golds.sum(-1), answers.sum(-1)),
            "macro_f1": _mean_present(_f1(hits, golds, answers), golds + answers),
            "subset_accuracy": counts @ exact / counts.sum(-1),
        }

    return of


def regression(predicted: Tensor, gold: Tensor) -> Measure:
    """``pearson``, ``spearman``, their mean ``pearson_spearman``, and ``mse``; a constant's correlation is 0."""
    said, told = predicted.double().numpy(), gold.double().numpy()
    errors = (said - told) ** 2

    def of(counts: Array) -> dict[str, Array]:
        pearson = _pearson(said, told, counts)
        spearman = _pearson(_ranks(said, counts), _ranks(told, counts), counts)
        mse = counts @ errors / counts.sum(-1)
        return {"pearson_spearman": (pearson + spearman) / 2, "pearson": pearson, "spearman": spearman, "mse": mse}

    return of


def _pearson(x: Array, y: Array, counts: Array) -> Array:
    """Correlation of x and y, (n) or (r, n), each row weighed by its count (…, n)."""
    total = counts.sum(-1, keepdims=True)
    x, y = (value - (counts * value).sum(-1, keepdims=True) / total for value in (x, y))
    both, one, other = ((counts * value).sum(-1) for value in (x * y, x * x, y * y))
    spread = np.sqrt(one * other)
    return np.where(spread > 1e-12, both / np.where(spread > 1e-12, spread, 1), 0.0)


def _ranks(values: Array, counts: Array) -> Array:
    """Rank (…, n) of each of ``values`` (n) in each resample; equal ones share the mean of their ranks."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    held = np.add.reduceat(counts[..., order], starts, axis=-1)  # rows of each distinct value
    ranks: Array = (np.cumsum(held, -1) - held + (held + 1) / 2)[..., place]
    return ranks


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation (n); 0 where either is constant."""
    return float(_pearson(one.double().numpy(), other.double().numpy(), np.ones(len(one))))
