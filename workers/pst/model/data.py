"""Rows, tokens and batches. Everything here is a pure function of its input and a seed, so that a resumed run sees
the very batches that an uninterrupted one would have seen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pst.errors import PSTError
from pst.messages import Message
from pst.plan.holdout import held_out

IGNORED = -100  # a gold label that adds nothing to a loss
BUCKET_BATCHES = 16  # rows are sorted by length within this many batches: little padding, still a random order


Label = int | float | tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One row of a data set, whatever the task, as it is learned; the platform's own has classes by name and knows no
    job's labels (:class:`hub.datasets.formats.rows.Row`).

    ``label`` is an index into the job's labels, a number (regression), or 0 or 1 for each label (multilabel). A row of
    generation has its source as ``text`` and the right answers as ``references``, the first of which is learned.
    """

    text: str
    text_pair: str | None
    label: Label = 0
    references: tuple[str, ...] = ()
    place: str = field(default="", compare=False)  # "train.jsonl, line 7", for messages


@dataclass(frozen=True)
class Encoded:
    """One tokenised row. ``target`` holds the tokens to generate, with the end of text."""

    input_ids: list[int]
    token_type_ids: list[int] | None
    label: Label = 0
    target: tuple[int, ...] = ()


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("FILE, line N", object) of each line of a JSON lines file; file and line are the user's own where they lie
    beside it. Raises :class:`PSTError` naming file and line, also for a file without rows."""
    place_of = places_beside(path)
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise PSTError(Message("The data file {path} does not exist.", path=path)) from None
    except UnicodeDecodeError as error:
        raise PSTError(
            Message(
                "The data file {path} is not UTF-8 text ({reason} at byte {place}).",
                path=path,
                reason=error.reason,
                place=error.start,
            )
        ) from None
    found = 0
    for line, content in enumerate(lines, 1):
        if not content.strip():
            continue
        place = place_of(found, line)
        try:
            value = json.loads(content)
        except json.JSONDecodeError as error:
            raise PSTError(Message("{place}: not valid JSON ({error}).", place=place, error=error.msg)) from None
        if not isinstance(value, dict):
            raise PSTError(Message("{place}: a row must be a JSON object.", place=place))
        found += 1
        yield place, value
    if not found:
        raise PSTError(Message("{path} has no rows.", path=path.name))


def places_beside(path: Path) -> Callable[[int, int], str]:
    """The place of a row, of its number from 0 on and its line in ``path``. Beside ``train.jsonl``,
    ``train.lines.json`` may say where the rows come from: ``{"file": name, "lines": [each row's]}``."""
    beside = path.with_suffix(".lines.json")
    try:
        known = json.loads(beside.read_text("utf-8"))
        file, numbers = known["file"], known["lines"]
    except FileNotFoundError:
        return lambda row, line: f"{path.name}, line {line}"
    except (ValueError, KeyError, TypeError):
        raise PSTError(Message('{name} must hold {{"file": a name, "lines": [numbers]}}.', name=beside.name)) from None
    return lambda row, line: f"{file}, line {numbers[row]}" if row < len(numbers) else f"{path.name}, line {line}"


def text_of(place: str, value: Mapping[str, Any], name: str) -> str:
    """The text ``value[name]``. Raises :class:`PSTError` when it is none."""
    text = value.get(name)
    if not isinstance(text, str):
        raise PSTError(Message('{place}: a row needs a "{name}" that is a string.', place=place, name=name))
    return text


def split_off(
    rows: Sequence[Row], classes: Sequence[Collection[int]], share: float, seed: int, *, single: bool
) -> tuple[list[Row], list[Row]]:
    """Split off validation rows (:func:`pst.plan.holdout.held_out`); both parts keep the order. Raises
    :class:`PSTError` when one part would be empty."""
    held = held_out([(row.text, row.text_pair) for row in rows], classes, share, seed, single=single)
    if not held:
        raise PSTError(
            Message("There are too few rows to split off a validation set; give one, or more rows for each label.")
        )
    return [row for i, row in enumerate(rows) if i not in held], [row for i, row in enumerate(rows) if i in held]


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


def equal_length_batches(lengths: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Row numbers of batches that need no padding: the rows of each are of one length, in order."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        members[length].append(row)
    return [rows[at : at + batch_size] for rows in members.values() for at in range(0, len(rows), batch_size)]


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers of each batch for evaluation: sorted by length, ties by row."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
