"""Rows, tokens and batches. Everything here is a pure function of its input and a seed, so that a resumed run sees
the very batches that an uninterrupted one would have seen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pst.errors import PSTError

BUCKET_BATCHES = 16  # rows are sorted by length within this many batches: little padding, still a random order


@dataclass(frozen=True)
class Row:
    """One row of a data set; ``label`` is an index into the job's labels."""

    text: str
    text_pair: str | None
    label: int


@dataclass(frozen=True)
class Encoded:
    """One tokenised row."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    label: int


def read_rows(path: Path, labels: Sequence[str]) -> list[Row]:
    """Read JSON lines ``{"text", "text_pair"?, "label"}``. Raises :class:`PSTError` naming file and line."""
    number = {label: index for index, label in enumerate(labels)}
    rows = []
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise PSTError(f"The data file {path} does not exist.") from None
    for line, content in enumerate(lines, 1):
        if not content.strip():
            continue
        try:
            value = json.loads(content)
        except json.JSONDecodeError as error:
            raise PSTError(f"{path.name}, line {line}: not valid JSON ({error.msg}).") from None
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise PSTError(f'{path.name}, line {line}: a row needs a "text" that is a string.')
        pair, label = value.get("text_pair"), value.get("label")
        if pair is not None and not isinstance(pair, str):
            raise PSTError(f'{path.name}, line {line}: "text_pair" must be a string or null.')
        if not isinstance(label, str) or label not in number:
            raise PSTError(f"{path.name}, line {line}: label {label!r} is not among the job's labels.")
        rows.append(Row(value["text"], pair, number[label]))
    if not rows:
        raise PSTError(f"{path.name} has no rows.")
    return rows


def stratified_split(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Split off ``share`` of each class for validation; both parts keep the order of the rows. A class with too few
    rows stays in training. Raises :class:`PSTError` when nothing could be split off."""
    generator = torch.Generator().manual_seed(seed)
    members: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        members[row.label].append(index)
    held: set[int] = set()
    for label in sorted(members):
        order = torch.randperm(len(members[label]), generator=generator).tolist()
        held.update(members[label][place] for place in order[: round(len(order) * share)])
    if not held:
        raise PSTError("There are too few rows to split off a validation set; give one, or more rows for each label.")
    return [row for i, row in enumerate(rows) if i not in held], [row for i, row in enumerate(rows) if i in held]


def encode(tokenizer: Any, rows: Sequence[Row], max_length: int) -> list[Encoded]:
    """Tokenise with special tokens; rows longer than ``max_length`` tokens are cut."""
    paired = any(row.text_pair is not None for row in rows)
    result = tokenizer(
        [row.text for row in rows],
        [row.text_pair or "" for row in rows] if paired else None,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
    )
    types = result.get("token_type_ids") or [None] * len(rows)
    return [Encoded(ids, kinds, row.label) for ids, kinds, row in zip(result["input_ids"], types, rows, strict=True)]


def collate(rows: Sequence[Encoded], pad_id: int, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Pad to the longest row. Returns the model's inputs, each (rows, length), and the labels (rows)."""
    length = max(len(row.input_ids) for row in rows)
    ids = [row.input_ids + [pad_id] * (length - len(row.input_ids)) for row in rows]
    mask = [[1] * len(row.input_ids) + [0] * (length - len(row.input_ids)) for row in rows]
    inputs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
    kinds = [row.token_type_ids for row in rows if row.token_type_ids is not None]
    if kinds:
        padded = [kind + [0] * (length - len(kind)) for kind in kinds]
        inputs["token_type_ids"] = torch.tensor(padded, device=device)
    return inputs, torch.tensor([row.label for row in rows], device=device)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Batches of one pass, the last of which may be short."""
    return (rows + batch_size - 1) // batch_size


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of each batch of one pass, in random order, rows of like length together."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), batch_size * BUCKET_BATCHES):
        bucket = sorted(order[start : start + batch_size * BUCKET_BATCHES], key=lambda row: lengths[row])
        batches += [bucket[at : at + batch_size] for at in range(0, len(bucket), batch_size)]
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers of each batch for evaluation: sorted by length, ties by row."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
