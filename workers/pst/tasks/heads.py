"""What the tasks with a head on top of an encoder or decoder share: classification, regression and multilabel.

Legend: n rows, l labels of the head, t tokens of a padded row; logits (n, l).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pst.config import TaskName, TrainSettings
from pst.errors import FormatError, PSTError
from pst.messages import Message
from pst.model.data import Encoded, Label, Row, length_sorted_batches, read_objects, text_of
from pst.model.loading import LazyModel, TensorLocation, open_model
from pst.plan.families import ModelDescription
from pst.tasks.scores import Measured

BATCH = 64
TOLERANCE = 1e-3  # absolute and relative, on logits computed in float32


class HeadTask(Measured):
    """The common part; a task adds the labels of its rows, its loss and its metrics."""

    name: TaskName
    metric: str

    def __init__(
        self,
        labels: Sequence[str],
        tokenizer: Any,
        max_length: int,
        settings: TrainSettings,
        config: Mapping[str, Any],
    ) -> None:
        self.two_stacks = ModelDescription(config, self.name).two_stacks
        if self.two_stacks and tokenizer.eos_token_id not in tokenizer("")["input_ids"]:
            raise PSTError(
                Message(
                    "The base model's tokenizer puts no end of text behind a text, where an encoder-decoder answers; "
                    "take the tokenizer that belongs to the model."
                )
            )
        self.labels: Sequence[str] = list(labels)
        self.tokenizer, self.settings = tokenizer, settings
        self.max_length, self.pad_id = max_length, int(tokenizer.pad_token_id)
        self.train: Sequence[Encoded] = ()
        self.validation: Sequence[Encoded] = ()

    def label_of(self, place: str, value: Any) -> Label:
        """The label of a row as read. Raises :class:`PSTError`."""
        raise NotImplementedError

    def gold(self, labels: Sequence[Label], count: int) -> Tensor:
        """The gold answers of ``labels``, ignored ones after them up to ``count`` rows."""
        raise NotImplementedError

    def read(self, path: Path) -> list[Row]:
        rows = []
        for place, value in read_objects(path):
            pair = value.get("text_pair")
            if pair is not None and not isinstance(pair, str):
                raise PSTError(Message('{place}: "text_pair" must be a string or null.', place=place))
            label = self.label_of(place, value.get("label"))
            rows.append(Row(text_of(place, value, "text"), pair, label, place=place))
        return rows

    def held_out(self, rows: Sequence[Row]) -> list[Row]:
        return list(rows)

    def classes_of(self, row: Row) -> Collection[int]:
        return ()

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Tokenise with special tokens; rows longer than ``max_length`` tokens are cut, and one without any has one."""
        paired = any(row.text_pair is not None for row in rows)
        result = self.tokenizer(
            [row.text for row in rows],
            [row.text_pair or "" for row in rows] if paired else None,
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
            return_special_tokens_mask=self.two_stacks,
        )
        if self.two_stacks:
            # An encoder-decoder answers at its end of text, of which every row must have as many: none of the text's.
            result["input_ids"] = [
                [token for token, own in zip(*row, strict=True) if own or token != self.tokenizer.eos_token_id]
                for row in zip(result["input_ids"], result["special_tokens_mask"], strict=True)
            ]
        types = result.get("token_type_ids") or [None] * len(rows)
        tokens = zip(result["input_ids"], types, rows, strict=True)
        # Decoders add no special token, so that an empty text leaves nothing to compute with.
        only = [self.tokenizer.eos_token_id if self.tokenizer.eos_token_id is not None else self.pad_id]
        return [
            Encoded(ids, kinds, row.label) if ids else Encoded(only, None if kinds is None else [0], row.label)
            for ids, kinds, row in tokens
        ]

    def learn(self, train: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
        self.train, self.validation = train, validation

    def open(self, folder: Path, seed: int, location: TensorLocation | None = None) -> LazyModel:
        return open_model(folder, self.name, self.labels, seed, location)

    def length(self, row: Encoded) -> int:
        return len(row.input_ids)

    def collate(
        self, rows: Sequence[Encoded], *, length: Any = None, count: int | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        width, height = length or max(len(row.input_ids) for row in rows), count or len(rows)
        labels = [row.label for row in rows]
        rows = [*rows, *[rows[0]] * (height - len(rows))]  # BART wants an end of text in every row
        inputs = {
            "input_ids": torch.full((height, width), self.pad_id),
            "attention_mask": torch.zeros(height, width, dtype=torch.long),
        }
        if any(row.token_type_ids is not None for row in rows):
            inputs["token_type_ids"] = torch.zeros(height, width, dtype=torch.long)
        for place, row in enumerate(rows):
            tokens = len(row.input_ids)
            inputs["input_ids"][place, :tokens] = torch.tensor(row.input_ids)
            inputs["attention_mask"][place, :tokens] = 1
            if row.token_type_ids is not None:
                inputs["token_type_ids"][place, :tokens] = torch.tensor(row.token_type_ids)
        return inputs, self.gold(labels, height)

    @torch.no_grad()
    def predict(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """``logits`` (n, l) in float32. Leaves the model's mode as it was."""
        training, device = model.training, next(model.parameters()).device
        model.train(False)
        batches = length_sorted_batches([len(row.input_ids) for row in rows], BATCH)
        outputs = []
        for batch in batches:
            inputs, _ = self.collate([rows[index] for index in batch])
            placed = {name: tensor.to(device) for name, tensor in inputs.items()}
            outputs.append(model(**placed).logits.float().cpu())
        model.train(training)
        joined = torch.cat(outputs)
        result = torch.empty_like(joined)
        result[torch.tensor([index for batch in batches for index in batch])] = joined
        return {"logits": result}

    def answer(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> Sequence[list[float] | str]:
        found: list[list[float] | str] = self.chances(self.predict(model, rows)["logits"]).tolist()
        return found

    def chances(self, logits: Tensor) -> Tensor:
        """What a user sees of logits (n, l), in the same shape."""
        raise NotImplementedError

    def decide(self, logits: Tensor) -> Tensor:
        """The answers (n, …) that logits (n, l) stand for."""
        raise NotImplementedError

    def agreement(self, answers: dict[str, Tensor], others: dict[str, Tensor]) -> float:
        one, other = self.decide(answers["logits"]), self.decide(others["logits"])
        return float((one == other).reshape(len(one), -1).all(-1).double().mean())

    def difference(self, got: dict[str, Tensor], wanted: dict[str, Tensor], who: str) -> float:
        """The largest absolute difference of logits. Raises :class:`FormatError`."""
        one, other = got["logits"], wanted["logits"]
        if one.shape != other.shape:
            raise FormatError(
                Message(
                    "{who} gives logits of shape {shape}, the trainer {wanted}.",
                    who=who,
                    shape=tuple(one.shape),
                    wanted=tuple(other.shape),
                )
            )
        largest = float((one - other).abs().max())
        close = torch.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE).all(-1)
        odd = (self.decide(one) != self.decide(other)).reshape(len(one), -1).any(-1) & ~close
        if odd.any():
            raise FormatError(
                Message(
                    "{who} gives another answer than the trainer for {count} of {rows} rows.",
                    who=who,
                    count=int(odd.sum()),
                    rows=len(one),
                )
            )
        if not close.all():
            raise FormatError(
                Message("{who} differs from the trainer by {difference:.3g} in a logit.", who=who, difference=largest)
            )
        return largest
