"""One number for a text or a pair of texts (STS-B-like): mean squared error on a head with one output.

With a teacher: L = (1 - w) (z - y)^2 + w (z - t)^2, each a mean over rows; z student, t teacher (n, 1), y gold (n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst.config import TaskName
from pst.errors import PSTError
from pst.messages import Message
from pst.model.data import Encoded, Label, Row
from pst.tasks import scores
from pst.tasks.heads import HeadTask


class Regression(HeadTask):
    name: TaskName = "regression"
    primary = metric = "pearson_spearman"

    def label_of(self, place: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise PSTError(
                Message(
                    "{place}: the label of a regression row must be a number, not {value}.",
                    place=place,
                    value=repr(value),
                )
            )
        return float(value)

    def gold(self, labels: Sequence[Label], count: int) -> Tensor:
        return torch.tensor([*labels, *[math.nan] * (count - len(labels))])

    def check(self, train: Sequence[Row], validation: Sequence[Row]) -> list[str]:
        for name, rows in (("training", train), ("validation", validation)):
            if len({row.label for row in rows}) < 2:
                raise PSTError(
                    Message(
                        "All {split} rows have the same number as their label; there is nothing to learn.", split=name
                    )
                )
        return []

    def norm(self, gold: Tensor) -> Tensor:
        return (~gold.isnan()).sum().float().reshape(1)

    def loss(self, outputs: Any, gold: Tensor, teacher: Tensor | None, norm: Tensor) -> Tensor:
        said, kept = outputs.logits.float().squeeze(-1), ~gold.isnan()
        hard: Tensor = (((said - gold.nan_to_num()) * kept) ** 2).sum() / norm[0]
        if teacher is None:
            return hard
        soft: Tensor = (((said - teacher.float().squeeze(-1)) * kept) ** 2).sum() / norm[0]
        return (1 - self.settings.distill_weight) * hard + self.settings.distill_weight * soft

    def decide(self, logits: Tensor) -> Tensor:
        return logits.squeeze(-1)

    def chances(self, logits: Tensor) -> Tensor:
        return logits

    def probabilities(self, answers: dict[str, Tensor]) -> Tensor | None:
        return None

    def agreement(self, answers: dict[str, Tensor], others: dict[str, Tensor]) -> float:
        """Pearson's correlation of both models' numbers."""
        one, other = (self.decide(item["logits"]) for item in (answers, others))
        return 1.0 if torch.equal(one, other) else scores.correlation(one, other)

    def score(self, model: PreTrainedModel) -> tuple[float, float]:
        logits = self.predict(model, self.validation)["logits"]
        values = self.values({"logits": logits}, self.validation)
        return values[self.metric], -values["mse"]

    def measure(self, answers: dict[str, Tensor], rows: Sequence[Row | Encoded]) -> scores.Measure:
        gold = self.gold([row.label for row in rows], len(rows))
        return scores.regression(self.decide(answers["logits"]), gold)
