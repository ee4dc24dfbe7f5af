"""What stands in a row's label column, by the task of the data set."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence

from hub.datasets.formats.problems import Options
from hub.datasets.formats.rows import Label, seen
from hub.datasets.formats.tables import Cell
from pst.messages import Message

MAX_LABEL_CHARS = 200
MAX_ROW_LABELS = 100
PLACEHOLDERS = frozenset({"none", "null", "nil", "nan", "nat", "na", "n/a", "<na>", "#n/a", "#na"})
"""What programs write for an empty cell, in small letters; it may be a class as well."""
OPENING, CLOSING = {"[", "{"}, {"]", "}"}


class BadAnswer(ValueError):
    """A label that is none; the message is a sentence."""


def one_label(cell: Cell) -> str:
    """A class."""
    label = _text(cell)
    if not label:
        raise BadAnswer(Message("The label is missing."))
    if len(label) > MAX_LABEL_CHARS:
        raise BadAnswer(Message("The label has {length:,} characters; is this the label's column?", length=len(label)))
    return label


def number(cell: Cell) -> float:
    """A finite number, written with a point."""
    text = _text(cell)
    if not text:
        raise BadAnswer(Message("The number is missing."))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadAnswer(Message('"{text}" is no number; write it like 3.5.', text=text[:50]))
    return value


def labels(cell: Cell, separator: str) -> tuple[str, ...]:
    """Classes, each once, in the order written; an empty cell or list is a row without any."""
    if isinstance(cell, str):
        listed = items(cell.strip())
        parts = cell.split(separator) if listed is None else listed
    else:
        parts = list(cell or ())
    parts = [part.strip() for part in parts if part.strip()]
    found = tuple(dict.fromkeys(parts))
    if len(parts) > len(found) and set(found) <= {"0", "1"}:
        raise BadAnswer(Message("The label is a row of zeros and ones; write the names of its labels instead."))
    if len(found) > MAX_ROW_LABELS:
        raise BadAnswer(
            Message(
                "The row has {count} labels; {most} are the most. Is the separator right?",
                count=len(found),
                most=MAX_ROW_LABELS,
            )
        )
    return tuple(one_label(part) for part in found)


QUOTED = re.compile(r"""'((?:[^'\\\\]|\\\\.)*)'|"((?:[^"\\\\]|\\\\.)*)\"""")


WRAPPED = re.compile(r"(?:array|frozenset|set|list|tuple)\((.*?)(?:,\s*dtype=[^,()\[\]]*)?\)")
BETWEEN = re.compile(r"[\s,;\[\](){}]*")


def items(text: str) -> list[str] | None:
    """What a list in one cell holds, as pandas, NumPy, Python, JSON and annotation tools write it, lists in lists
    too; None for any other text."""
    if wrapped := WRAPPED.fullmatch(text):
        text = wrapped[1].strip() or "[]"
    ends = text[:1] + text[-1:]
    if ends not in {"[]", "{}"} and not (ends == "()" and QUOTED.search(text)):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == len(found) == 1 else None if found else []
    if isinstance(found, list):
        found = [item for part in found for item in (part if isinstance(part, list) else [part])]
        if all(isinstance(item, (str, int)) for item in found):
            return [str(item) for item in found]
    inner = text[1:-1]
    if not re.search("['\"{}\\[\\]:]", inner):
        return re.split(r"[,;]" if re.search("[,;]", inner) else r"\s+", inner)
    if BETWEEN.fullmatch(QUOTED.sub("", inner)):
        return [one or other for one, other in QUOTED.findall(inner)]
    return None


def odd(label: str) -> bool:
    """Whether a label looks like a piece of a list, or like several with another separator between them."""
    return (label[:1] in OPENING) != (label[-1:] in CLOSING) or bool(re.search(r"\S\s*[;|]\s*\S", label))


def target(cell: Cell) -> str:
    """The text to generate."""
    text = _text(cell)
    if not text:
        raise BadAnswer(Message("The target is empty."))
    return text


def reader(options: Options) -> Callable[[Cell], Label]:
    """How the task's labels are read. Its errors are :class:`BadAnswer`."""
    if options.task == "multilabel":
        return lambda cell: labels(cell, options.label_separator)
    readers: dict[str, Callable[[Cell], Label]] = {
        "classification": one_label,
        "regression": number,
        "generation": target,
    }
    return readers[options.task]


def texts(cell: Cell) -> Sequence[str]:
    """A cell's texts without white space around them: those of a list, or the one."""
    parts = [] if cell is None else [cell] if isinstance(cell, str) else cell
    return [text for text in map(seen, parts) if text]


def _text(cell: Cell) -> str:
    if isinstance(cell, tuple):
        raise BadAnswer(Message("A list stands where one value is expected."))
    return seen(cell)
