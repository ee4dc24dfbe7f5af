"""Any number of labels for a text or a pair of texts: a yes or no for each label, yes above probability 0.5.

Loss, w = distill_weight, tau = distill_temperature, a mean over rows and labels:

    L = (1 - w) BCE(sigmoid(z), y) + w tau^2 KL(sigmoid(t / tau) || sigmoid(z / tau))

Legend: z student logits, t teacher logits, y gold (0 or 1), all (n, l).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from pst.config import TaskName
from pst.errors import PSTError
from pst.messages import Message
from pst.model.data import Encoded, Label, Row
from pst.tasks import scores
from pst.tasks.heads import HeadTask


class Multilabel(HeadTask):
    name: TaskName = "multilabel"
    primary = metric = "micro_f1"

    def label_of(self, place: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, list):
            raise PSTError(
                Message(
                    "{place}: the label of a multilabel row must be a list of labels, not {value}.",
                    place=place,
                    value=repr(value),
                )
            )
        for label in value:
            if label not in self.labels:
                raise PSTError(
                    Message("{place}: label {value} is not among the job's labels.", place=place, value=repr(label))
                )
        return tuple(int(label in value) for label in self.labels)

    def classes_of(self, row: Row) -> Collection[int]:
        return [place for place, has in enumerate(row.label) if has]  # type: ignore[arg-type]

    def gold(self, labels: Sequence[Label], count: int) -> Tensor:
        padding = [(math.nan,) * len(self.labels)] * (count - len(labels))
        return torch.tensor([*labels, *padding], dtype=torch.float32)

    def check(self, train: Sequence[Row], validation: Sequence[Row]) -> list[str]:
        def held(rows: Sequence[Row]) -> list[bool]:
            return self.gold([row.label for row in rows], len(rows)).bool().any(0).tolist()

        learned, asked = held(train), held(validation)
        for label, known, wanted in zip(self.labels, learned, asked, strict=True):
            if wanted and not known:
                raise PSTError(
                    Message("The label {label} is in the validation rows but not in training rows.", label=repr(label))
                )
        absent = [label for label, known in zip(self.labels, learned, strict=True) if not known]
        return [f"No training row has the label {absent[0]!r} ({len(absent)} such labels in all)."] if absent else []

    def norm(self, gold: Tensor) -> Tensor:
        return (~gold.isnan()).sum().float().reshape(1)

    def loss(self, outputs: Any, gold: Tensor, teacher: Tensor | None, norm: Tensor) -> Tensor:
        logits, kept = outputs.logits.float(), ~gold.isnan()
        hard = (F.binary_cross_entropy_with_logits(logits, gold.nan_to_num(), reduction="none") * kept).sum() / norm[0]
        if teacher is None:
            return hard
        tau, share = self.settings.distill_temperature, self.settings.distill_weight
        wanted = teacher.float() / tau
        distance = F.binary_cross_entropy_with_logits(logits / tau, wanted.sigmoid(), reduction="none")
        least = F.binary_cross_entropy_with_logits(wanted, wanted.sigmoid(), reduction="none")
        soft = ((distance - least) * kept).sum() / norm[0]
        return (1 - share) * hard + share * tau * tau * soft

    def decide(self, logits: Tensor) -> Tensor:
        return logits > 0

    def chances(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def probabilities(self, answers: dict[str, Tensor]) -> Tensor | None:
        """(n, l, 2): no and yes."""
        yes = answers["logits"].sigmoid()
        return torch.stack([1 - yes, yes], -1)

    def score(self, model: PreTrainedModel) -> tuple[float, float]:
        logits = self.predict(model, self.validation)["logits"]
        gold = self.gold([row.label for row in self.validation], len(self.validation))
        loss = F.binary_cross_entropy_with_logits(logits, gold)
        return self.values({"logits": logits}, self.validation)[self.metric], -float(loss)

    def measure(self, answers: dict[str, Tensor], rows: Sequence[Row | Encoded]) -> scores.Measure:
        gold = self.gold([row.label for row in rows], len(rows))
        return scores.multilabel(self.decide(answers["logits"]), gold)
