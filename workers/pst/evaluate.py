"""Predictions and metrics. Legend: logits (rows, labels) float32; gold (rows) label indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pst.data import Encoded, collate, length_sorted_batches

BATCH = 64
RESAMPLES = 2000


@torch.no_grad()
def predict(model: nn.Module, rows: Sequence[Encoded], pad_id: int, device: torch.device) -> Tensor:
    """Logits (rows, labels), float32 on the CPU, in the order of ``rows``. Leaves the model's mode as it was."""
    training = model.training
    model.eval()
    batches = length_sorted_batches([len(row.input_ids) for row in rows], BATCH)
    outputs = []
    for batch in batches:
        inputs, _ = collate([rows[index] for index in batch], pad_id, device)
        outputs.append(model(**inputs).logits.float().cpu())
    model.train(training)
    joined = torch.cat(outputs)
    result = torch.empty_like(joined)
    result[torch.tensor([index for batch in batches for index in batch])] = joined
    return result


def gold_of(rows: Sequence[Encoded]) -> Tensor:
    """Label indices (rows)."""
    return torch.tensor([row.label for row in rows])


def accuracy(predicted: Tensor, gold: Tensor) -> float:
    """Share of equal entries."""
    return int((predicted == gold).sum()) / len(gold)


def macro_f1(predicted: Tensor, gold: Tensor, labels: int) -> float:
    """Mean F1 over the labels that occur in ``gold`` or ``predicted``."""
    matrix = confusion_matrix(predicted, gold, labels)
    hits = matrix.diagonal().double()
    occurrences = (matrix.sum(0) + matrix.sum(1)).double()
    present = occurrences > 0
    return float((2 * hits[present] / occurrences[present]).mean())


def confusion_matrix(predicted: Tensor, gold: Tensor, labels: int) -> Tensor:
    """Counts (labels, labels): row = gold label, column = predicted label."""
    return torch.bincount(gold * labels + predicted, minlength=labels * labels).reshape(labels, labels)


def bootstrap_interval(share: float, rows: int, seed: int) -> tuple[float, float]:
    """95 % interval of an accuracy. Resampling right/wrong answers with replacement is drawing from a binomial."""
    drawn = np.random.default_rng(seed).binomial(rows, share, RESAMPLES) / rows
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def metrics(predicted: Tensor, gold: Tensor, labels: int, seed: int) -> dict[str, Any]:
    """``accuracy``, ``macro_f1`` and the accuracy's ``interval``."""
    share = accuracy(predicted, gold)
    low, high = bootstrap_interval(share, len(gold), seed)
    return {"accuracy": share, "macro_f1": macro_f1(predicted, gold, labels), "interval": [low, high]}
