"""One label for a text or a pair of texts.

Loss with a teacher (Hinton et al. 2015, arXiv 1503.02531), w = distill_weight, tau = distill_temperature:

    L = (1 - w) CE(z, y) + w tau^2 KL(softmax(t / tau) || softmax(z / tau))

Legend: z student logits, t teacher logits, both (n, l); y gold label indices (n).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from pst.config import TaskName
from pst.errors import PSTError
from pst.messages import Message
from pst.model.data import IGNORED, Encoded, Label, Row
from pst.tasks import scores
from pst.tasks.heads import HeadTask


class Classification(HeadTask):
    name: TaskName = "classification"
    primary = metric = "accuracy"
    weights: Tensor | None = None  # (l), by the inverse of their frequency

    def label_of(self, place: str, value: Any) -> int:
        if not isinstance(value, str) or value not in self.labels:
            raise PSTError(
                Message("{place}: label {value} is not among the job's labels.", place=place, value=repr(value))
            )
        return self.labels.index(value)

    def gold(self, labels: Sequence[Label], count: int) -> Tensor:
        return torch.tensor([*labels, *[IGNORED] * (count - len(labels))])

    def classes_of(self, row: Row) -> Collection[int]:
        return (int(row.label),)  # type: ignore[arg-type]

    def check(self, train: Sequence[Row], validation: Sequence[Row]) -> list[str]:
        learned = {row.label for row in train}
        for row in validation:
            if row.label not in learned:
                label = repr(self.labels[int(row.label)])  # type: ignore[arg-type]
                raise PSTError(
                    Message(
                        "The label {label} is in the validation rows but not in training rows ({place}).",
                        label=label,
                        place=row.place,
                    )
                    if row.place
                    else Message("The label {label} is in the validation rows but not in training rows.", label=label)
                )
        absent = [label for index, label in enumerate(self.labels) if index not in learned]
        return [f"No training row has the label {absent[0]!r} ({len(absent)} such labels in all)."] if absent else []

    def learn(self, train: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
        super().learn(train, validation)
        if self.settings.class_weights:
            self.weights = inverse_frequencies(self.gold([row.label for row in train], len(train)), len(self.labels))

    def norm(self, gold: Tensor) -> Tensor:
        kept = gold != IGNORED
        rows = kept.sum()
        weight = rows if self.weights is None else (self.weights[gold.clamp(min=0)] * kept).sum()
        return torch.stack([weight, rows]).float()

    def loss(self, outputs: Any, gold: Tensor, teacher: Tensor | None, norm: Tensor) -> Tensor:
        logits = outputs.logits.float()
        weights = None if self.weights is None else self.weights.to(logits.device, non_blocking=True)
        hard = F.cross_entropy(logits, gold, weights, reduction="sum", ignore_index=IGNORED) / norm[0]
        if teacher is None:
            return hard
        tau, share = self.settings.distill_temperature, self.settings.distill_weight
        student, wanted = F.log_softmax(logits / tau, -1), F.log_softmax(teacher.float() / tau, -1)
        distance = F.kl_div(student, wanted, reduction="none", log_target=True).sum(-1)
        soft = (distance * (gold != IGNORED)).sum() / norm[1]
        return (1 - share) * hard + share * tau * tau * soft

    def decide(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def chances(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def probabilities(self, answers: dict[str, Tensor]) -> Tensor | None:
        return answers["logits"].softmax(-1)

    def score(self, model: PreTrainedModel) -> tuple[float, float]:
        logits = self.predict(model, self.validation)["logits"]
        gold = self.gold([row.label for row in self.validation], len(self.validation))
        return scores.accuracy(self.decide(logits), gold), -float(F.cross_entropy(logits, gold))

    def measure(self, answers: dict[str, Tensor], rows: Sequence[Row | Encoded]) -> scores.Measure:
        gold = self.gold([row.label for row in rows], len(rows))
        return scores.classification(self.decide(answers["logits"]), gold, len(self.labels))


def inverse_frequencies(gold: Tensor, labels: int) -> Tensor:
    """Inverse frequencies (l) with mean 1 over the rows; a label without rows gets 0."""
    counts = torch.bincount(gold, minlength=labels).double()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(gold) / (present * counts.clamp(min=1)), 0.0).float()
