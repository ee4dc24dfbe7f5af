"""The measures that need answers alone: quality, loyalty, robustness. Each compares two models on the same rows.

Legend: n rows; p, q probabilities (n, …, l) of the dense model and of the other; H entropy in bits.

    JS(p, q)  = H((p + q) / 2) - (H(p) + H(q)) / 2        Jensen-Shannon divergence (Lin 1991), 0 to 1
    closeness = mean over rows of 1 - sqrt(JS)            1: the same probabilities
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pst.model.data import Row
from pst.report.intervals import interval, mean_interval
from pst.report.perturb import KINDS, LIMIT, chosen, reported_split
from pst.tasks import Answers, Task


@dataclass(frozen=True)
class Compared:
    """Both models' answers to everything that :func:`pst.report.answers_needed` names, and the unperturbed rows."""

    task: Task
    rows: Mapping[str, Sequence[Row]]  # by split
    sparse: Mapping[str, Answers]
    dense: Mapping[str, Answers]
    seed: int
    limit: int = LIMIT

    @property
    def split(self) -> str:
        """The split that loyalty and robustness are taken on."""
        return reported_split(self.rows)


def take(answers: Answers, places: Tensor | Sequence[int]) -> Answers:
    """The answers to some rows."""
    index = torch.as_tensor(places)
    return {name: tensor[index] for name, tensor in answers.items()}


def quality(compared: Compared, metrics: Mapping[str, Any], dense_metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The primary metric of both models on each split and their difference, with intervals. ``metrics`` and
    ``dense_metrics`` are what the task gave for each split."""
    task, name = compared.task, compared.task.primary
    splits: dict[str, Any] = {}
    for split in ("validation", "test"):
        if split not in compared.rows:
            continue
        rows, ours, theirs = compared.rows[split], metrics[split], dense_metrics[split]
        gains = task.gains(compared.sparse[split], compared.dense[split], rows, compared.seed)
        splits[split] = {
            "rows": len(rows),
            "dense": theirs[name],
            "dense_interval": theirs["interval"],
            "sparse": ours[name],
            "sparse_interval": ours["interval"],
            "difference": ours[name] - theirs[name],
            "difference_interval": gains[name],
        }
    return {"metric": name, "splits": splits}


def loyalty(compared: Compared) -> dict[str, Any]:
    """How far the sparse model answers as the dense one does."""
    task, split, seed = compared.task, compared.split, compared.seed
    sparse, dense = compared.sparse[split], compared.dense[split]
    rows = len(compared.rows[split])
    result: dict[str, Any] = {
        "split": split,
        "agreement": task.agreement(sparse, dense),
        "agreement_interval": interval(
            lambda places: task.agreement(take(sparse, places), take(dense, places)), rows, seed
        ),
        "closeness": None,
        "closeness_interval": None,
    }
    p, q = task.probabilities(dense), task.probabilities(sparse)
    if p is not None and q is not None:
        near = closeness(p, q)
        result |= {"closeness": float(near.mean()), "closeness_interval": mean_interval(near, seed)}
    texts = getattr(task, "texts", None)
    if texts is not None:
        shared = torch.tensor([word_overlap(one, two) for one, two in zip(texts(sparse), texts(dense), strict=True)])
        result |= {"text_overlap": float(shared.mean()), "text_overlap_interval": mean_interval(shared, seed)}
    return result


def closeness(p: Tensor, q: Tensor) -> Tensor:
    """1 - sqrt(JS) for each row (n), the mean over any dimensions between rows and labels."""
    one, two = p.double(), q.double()
    divergence = _entropy((one + two) / 2) - (_entropy(one) + _entropy(two)) / 2
    near: Tensor = 1 - divergence.clamp(0, 1).sqrt()
    return near.reshape(len(p), -1).mean(1)


def _entropy(p: Tensor) -> Tensor:
    """In bits, of the last dimension."""
    bits: Tensor = torch.special.entr(p).sum(-1) / math.log(2)
    return bits


def word_overlap(one: str, other: str) -> float:
    """F1 of the words that two texts share, each counted as often as it stands in both."""
    words, others = Counter(one.split()), Counter(other.split())
    total = words.total() + others.total()
    return 2 * (words & others).total() / total if total else 1.0


def robustness(compared: Compared) -> dict[str, Any]:
    """The primary metric of both models on perturbed rows, and how far it falls from the same rows unperturbed."""
    task, split, seed = compared.task, compared.split, compared.seed
    places = chosen(len(compared.rows[split]), seed, compared.limit)
    rows = [compared.rows[split][place] for place in places]
    clean = {
        "dense": take(compared.dense[split], places),
        "sparse": take(compared.sparse[split], places),
    }
    values = {who: task.values(answers, rows)[task.primary] for who, answers in clean.items()}
    kinds: dict[str, Any] = {}
    for kind in KINDS:
        kinds[kind] = {}
        for who, given in (("dense", compared.dense[kind]), ("sparse", compared.sparse[kind])):
            value = task.values(given, rows)[task.primary]
            low, high = task.gains(given, clean[who], rows, seed)[task.primary]
            kinds[kind][who] = {"value": value, "drop": values[who] - value, "drop_interval": [0.0 - high, 0.0 - low]}
    drops = {who: sum(kind[who]["drop"] for kind in kinds.values()) / len(kinds) for who in clean}
    return {"metric": task.primary, "split": split, "rows": len(rows), "clean": values, "kinds": kinds, "drop": drops}
