"""Where a classifier errs: the confusion matrix, and the rows that it got wrong.

Legend: n rows, l labels; logits (n, l).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pst.model.data import Row
from pst.tasks.scores import confusion_matrix

MAX_ROWS = 200


def confusion(split: str, labels: Sequence[str], logits: Tensor, rows: Sequence[Row]) -> dict[str, Any]:
    """Counts: a row for each right label, a column for each answer."""
    matrix = confusion_matrix(logits.argmax(-1), _gold(rows), len(labels))
    return {"split": split, "labels": list(labels), "matrix": matrix.tolist()}


def wrong_rows(split: str, labels: Sequence[str], logits: Tensor, dense: Tensor, rows: Sequence[Row]) -> dict[str, Any]:
    """The rows that ``logits`` answer wrongly, the surest first, with the answer of the ``dense`` model's logits."""
    probabilities, predicted = torch.softmax(logits.double(), -1).max(-1)
    wrong = (predicted != _gold(rows)).nonzero().reshape(-1)
    surest = wrong[probabilities[wrong].argsort(descending=True, stable=True)].tolist()
    others = dense.argmax(-1)
    return {
        "split": split,
        "count": len(surest),
        "rows": [
            {
                "row": place + 1,
                "text": rows[place].text,
                "text_pair": rows[place].text_pair,
                "gold": labels[int(rows[place].label)],
                "predicted": labels[int(predicted[place])],
                "dense": labels[int(others[place])],
                "probability": round(float(probabilities[place]), 4),
            }
            for place in surest[:MAX_ROWS]
        ],
    }


def _gold(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([row.label for row in rows])
