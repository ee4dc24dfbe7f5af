"""Everything that happens to an upload: files in; canonical rows, a report and problems out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.datasets.formats import report as reports
from hub.datasets.formats.columns import Roles, suggest
from hub.datasets.formats.problems import Limits, Options, Problems, Unreadable
from hub.datasets.formats.rows import Row, sort_labels
from hub.datasets.formats.splits import split_off
from hub.datasets.formats.tables import Table, open_table

MAX_LABEL_CHARS = 200
TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass
class Outcome:
    """``splits`` is empty when there are problems: nothing is half imported."""

    problems: Problems
    splits: dict[str, list[Row]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    text_pair: bool = False
    found: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def validate(files: Mapping[str, tuple[str, bytes]], options: Options, limits: Limits) -> Outcome:
    """Check ``files`` ((name, content) by split; "train" is there) and take a validation split where none came."""
    outcome = Outcome(Problems())
    try:
        train = open_table(*files[TRAIN], options, limits, outcome.problems)
        roles = choose_roles(train, options, outcome.problems)
    except Unreadable:
        return outcome
    outcome.text_pair = bool(roles.text_pair)
    outcome.found = {
        **train.layout.to_dict(),
        "columns": train.columns,
        "text_column": roles.text,
        "text_pair_column": roles.text_pair,
        "label_column": roles.label,
        "files": {TRAIN: train.layout.to_dict()},
    }
    splits: dict[str, list[Row]] = {}
    empty: dict[str, int] = {}
    splits[TRAIN], empty[TRAIN] = read_rows(train, roles, outcome.problems)
    train_is_sound = not outcome.problems
    for split in (VALIDATION, TEST):
        if split not in files:
            continue
        try:
            table = open_table(*files[split], options, limits, outcome.problems, like=train)
        except Unreadable:
            continue
        outcome.found["files"][split] = table.layout.to_dict()
        splits[split], empty[split] = read_rows(table, roles, outcome.problems)
    uploaded = splits[TRAIN]
    outcome.labels = sort_labels({row.label for row in uploaded})
    if train_is_sound:  # else a label may be missing only because its row could not be read
        _check_labels(files, splits, outcome.labels, limits, outcome.problems)
    if VALIDATION in files:
        outcome.found["validation"] = {"from": "file"}
    elif options.validation_share > 0:
        outcome.found["validation"] = {"from": TRAIN, "share": options.validation_share, "seed": options.seed}
        splits[TRAIN], taken = split_off(uploaded, options.validation_share, options.seed)
        if taken:
            splits = {TRAIN: splits[TRAIN], VALIDATION: taken} | splits
    else:
        outcome.found["validation"] = {"from": None}
    outcome.report = reports.make(splits, uploaded, empty, train.columns)
    if not outcome.problems:
        outcome.splits = splits
    return outcome


def choose_roles(table: Table, options: Options, problems: Problems) -> Roles:
    """The columns that the user named, the others by suggestion. Raises Unreadable where that leaves none."""
    roles = suggest(
        table.columns,
        table.sample(),
        text=options.text_column,
        text_pair=options.text_pair_column,
        label=options.label_column,
    )
    if not roles.text or not roles.label:
        problems.add(table.name, "No column is left for the text or the label; name both.", line=1)
        raise Unreadable
    chosen = [roles.text, roles.label, *([roles.text_pair] if roles.text_pair else [])]
    if len(set(chosen)) < len(chosen):
        problems.add(table.name, "The text, the second text and the label must be different columns.", line=1)
        raise Unreadable
    return roles


def read_rows(table: Table, roles: Roles, problems: Problems) -> tuple[list[Row], int]:
    """The table's sound rows, texts and labels without white space around them, and how many texts were empty."""
    names = [roles.text, roles.label, *([roles.text_pair] if roles.text_pair else [])]
    labels: dict[str, str] = {}
    rows: list[Row] = []
    empty = 0
    for line, cells in table.read(names, problems):
        text, label, *pair = [(value or "").strip() for value in cells]
        if not text or (pair and not pair[0]):
            empty += 1
            problems.add(table.name, "The text is empty.", line=line, column=roles.text_pair if text else roles.text)
        elif not label:
            problems.add(table.name, "The label is missing.", line=line, column=roles.label)
        elif len(label) > MAX_LABEL_CHARS:
            message = f"The label has {len(label):,} characters; is this the label's column?"
            problems.add(table.name, message, line=line, column=roles.label)
        else:
            rows.append(Row(line, text, pair[0] if pair else None, labels.setdefault(label, label)))
    if not rows and not problems:
        problems.add(table.name, "There are no rows in the file.")
    return rows, empty


def _check_labels(
    files: Mapping[str, tuple[str, bytes]],
    splits: dict[str, list[Row]],
    labels: list[str],
    limits: Limits,
    problems: Problems,
) -> None:
    name = files[TRAIN][0]
    if len(labels) > limits.classes:
        message = (
            f"There are {len(labels):,} different labels; {limits.classes:,} are the most. Is it the right column?"
        )
        problems.add(name, message)
        return
    if len(labels) < 2 and splits[TRAIN]:
        problems.add(name, f'All rows have the label "{labels[0]}"; at least two classes are needed.')
    known = set(labels)
    for split, rows in splits.items():
        if split == TRAIN:
            continue
        strange: dict[str, list[int]] = {}
        for row in rows:
            if row.label not in known:
                strange.setdefault(row.label, []).append(row.line)
        for label, lines in strange.items():
            message = f'The label "{label}" ({len(lines):,} rows) does not occur in the training rows.'
            problems.add(files[split][0], message, line=lines[0])
