"""Everything that happens to an upload: files in; canonical rows, a report and problems out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.datasets.formats import answers
from hub.datasets.formats import report as reports
from hub.datasets.formats.columns import Roles, suggest
from hub.datasets.formats.problems import Limits, Options, Problems, Unreadable
from hub.datasets.formats.rows import Row, longest_target, seen, sort_labels, words
from hub.datasets.formats.splits import split_off
from hub.datasets.formats.tables import Table, open_table
from pst.config import MAX_TARGET_TOKENS, TrainSettings
from pst.messages import Message, word

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass
class Outcome:
    """``splits`` is empty when there are problems: nothing is half imported."""

    problems: Problems
    splits: dict[str, list[Row]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of the file that each split's rows come from
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
        "references_column": roles.references,
        "files": {TRAIN: train.layout.to_dict()},
    }
    splits: dict[str, list[Row]] = {}
    empty: dict[str, int] = {}
    splits[TRAIN], empty[TRAIN] = read_rows(train, roles, options, outcome.problems)
    train_is_sound = not outcome.problems
    for split in (VALIDATION, TEST):
        if split not in files:
            continue
        try:
            table = open_table(*files[split], options, limits, outcome.problems, like=train)
        except Unreadable:
            continue
        outcome.found["files"][split] = table.layout.to_dict()
        splits[split], empty[split] = read_rows(table, roles, options, outcome.problems)
    uploaded = splits[TRAIN]
    outcome.labels = sort_labels({label for row in uploaded for label in row.classes})
    if not train_is_sound:
        pass  # a label may be missing only because its row could not be read
    elif options.task == "regression":
        _check_numbers(files[TRAIN][0], uploaded, outcome.problems)
    elif options.task != "generation":
        _check_labels(files, splits, outcome.labels, options, limits, outcome.problems)
        _warn_of_placeholders(files[TRAIN][0], uploaded, outcome.problems)
    if VALIDATION in files:
        outcome.found["validation"] = {"from": "file"}
    elif options.validation_share > 0:
        outcome.found["validation"] = {"from": TRAIN, "share": options.validation_share, "seed": options.seed}
        splits[TRAIN], taken = split_off(uploaded, options.validation_share, options.seed)
        if train_is_sound and uploaded and not outcome.problems:
            _check_few(files[TRAIN][0], splits[TRAIN], taken, options, outcome.problems)
        if taken:
            splits = {TRAIN: splits[TRAIN], VALIDATION: taken} | splits
    else:
        outcome.found["validation"] = {"from": None}
    outcome.names = {split: files.get(split, files[TRAIN])[0] for split in splits}
    _warn_of_long_targets(outcome.names, splits, outcome.problems)
    outcome.report = reports.make(splits, uploaded, empty, train.columns, outcome.problems.warnings)
    if not outcome.problems:
        outcome.splits = splits
    return outcome


def choose_roles(table: Table, options: Options, problems: Problems) -> Roles:
    """The columns that the user named, the others by suggestion. Raises Unreadable where that leaves none."""
    roles = suggest(
        table.columns,
        table.sample(),
        task=options.task,
        text=options.text_column,
        text_pair=options.text_pair_column,
        label=options.label_column,
        references=options.references_column,
    )
    text, label = ("source", "target") if options.task == "generation" else ("text", "label")
    if not roles.text or not roles.label:
        problems.add(
            table.name,
            Message("No column is left for the {text} or the {label}; name both.", text=word(text), label=word(label)),
            line=1,
        )
        raise Unreadable
    chosen = [name for name in (roles.text, roles.label, roles.text_pair, roles.references) if name]
    if len(set(chosen)) < len(chosen):
        problems.add(
            table.name,
            Message(
                "The {text}, the {label} and the others must be different columns.", text=word(text), label=word(label)
            ),
            line=1,
        )
        raise Unreadable
    return roles


def read_rows(table: Table, roles: Roles, options: Options, problems: Problems) -> tuple[list[Row], int]:
    """The table's sound rows, texts and labels without white space around them, and how many texts were empty."""
    names = [roles.text, roles.label]
    names += [name for name in (roles.text_pair, roles.references) if name]
    lists = {"multilabel": {roles.label}, "generation": {roles.label, roles.references}}.get(options.task, set())
    answer = answers.reader(options)
    known: dict[Any, Any] = {}
    rows: list[Row] = []
    empty = 0
    for line, (first, label, *others) in table.read(names, problems, lists=lists):
        text = seen(first)
        pair = seen(others[0]) if roles.text_pair else ""
        if not text or (roles.text_pair and not pair):
            empty += 1
            problems.add(
                table.name, Message("The text is empty."), line=line, column=roles.text_pair if text else roles.text
            )
            continue
        references: tuple[str, ...] | None = None
        try:
            if options.task == "generation":
                right = [*answers.texts(label), *(answers.texts(others[-1]) if roles.references else [])]
                label, references = next(iter(right), None), tuple(dict.fromkeys(right[1:]))
            found = answer(label)
        except answers.BadAnswer as error:
            problems.add(table.name, str(error), line=line, column=roles.label)
            continue
        if options.task == "generation" and isinstance(label, str) and (count := words(label)) >= MAX_TARGET_TOKENS:
            message = Message(
                "The target has {words:,} words; a job can generate texts of {most:,} tokens at most, the last one "
                "of which ends the text. Shorten or remove it.",
                words=count,
                most=MAX_TARGET_TOKENS,
            )
            problems.add(table.name, message, line=line, column=roles.label)
            continue
        rows.append(Row(line, text, pair if roles.text_pair else None, known.setdefault(found, found), references))
    if not rows and not problems:
        problems.add(table.name, Message("There are no rows in the file."))
    return rows, empty


def _check_numbers(name: str, rows: list[Row], problems: Problems) -> None:
    if len({row.label for row in rows}) < 2 and rows:
        problems.add(
            name,
            Message("All rows have the number {label}; at least two different ones are needed.", label=rows[0].label),
        )


def _check_few(name: str, left: list[Row], taken: list[Row], options: Options, problems: Problems) -> None:
    """A job needs rows to learn from and others to measure with."""
    rows = len(left) + len(taken)
    if options.task == "regression":
        if min(len({row.label for row in part}) for part in (left, taken)) < 2:
            message = Message(
                "With {rows} rows, too few different numbers are left for training and validation; add rows, or upload "
                "a validation file.",
                rows=rows,
            )
            problems.add(name, message)
    elif not taken:
        message = Message(
            "No validation rows can be taken of the {rows} rows: two different texts of each label are needed, or a "
            "validation file.",
            rows=rows,
        )
        problems.add(name, message)


def _warn_of_long_targets(names: Mapping[str, str], splits: Mapping[str, list[Row]], problems: Problems) -> None:
    usual = TrainSettings().max_target_length
    found = [longest for split, rows in splits.items() if (longest := longest_target(names[split], rows))]
    longest = max(found, key=lambda item: int(item["words"]), default=None)
    if longest is not None and longest["words"] >= usual:
        message = Message(
            "{file}, line {line}: the target has {words:,} words. A job generates {usual} tokens, at least one a word, "
            "unless you raise max_target_length among its settings.",
            **longest,
            usual=usual,
        )
        problems.warn("long_targets", message)


def _warn_of_placeholders(name: str, rows: list[Row], problems: Problems) -> None:
    found = {row.line: label for row in rows for label in row.classes if label.casefold() in answers.PLACEHOLDERS}
    if not found:
        return
    labels, lines = sort_labels(set(found.values())), [*found]
    message = Message(
        "{file} has labels that may stand for an empty cell: {labels} (line {lines}). They count as classes; if they "
        "are none, remove these rows or give them their labels.",
        file=name,
        labels=", ".join(f'"{label}"' for label in labels[:5]) + (", …" if len(labels) > 5 else ""),
        lines=", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else ""),
    )
    problems.warn("placeholder_labels", message)


def _check_labels(
    files: Mapping[str, tuple[str, bytes]],
    splits: dict[str, list[Row]],
    labels: list[str],
    options: Options,
    limits: Limits,
    problems: Problems,
) -> None:
    name = files[TRAIN][0]
    if len(labels) > limits.classes:
        message = Message(
            "There are {count:,} different labels; {most:,} are the most. Is it the right column?",
            count=len(labels),
            most=limits.classes,
        )
        problems.add(name, message)
        return
    if options.task == "multilabel":
        if not labels and splits[TRAIN]:
            problems.add(name, Message("No row has a label."))
    elif len(labels) < 2 and splits[TRAIN]:
        problems.add(
            name, Message('All rows have the label "{label}"; at least two classes are needed.', label=labels[0])
        )
    known = set(labels)
    for split, rows in splits.items():
        if split == TRAIN:
            continue
        strange: dict[str, list[int]] = {}
        for row in rows:
            for label in row.classes:
                if label not in known:
                    strange.setdefault(label, []).append(row.line)
        for label, lines in strange.items():
            message = Message(
                'The label "{label}" ({rows:,} rows) does not occur in the training rows.',
                label=label,
                rows=len(lines),
            )
            problems.add(files[split][0], message, line=lines[0])
