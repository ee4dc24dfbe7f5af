"""Canonical rows: what jobs train on, and what a data set's identity is computed from.

classification   {"text", "text_pair"?, "label": "a"}
regression       {"text", "text_pair"?, "label": 3.5}
multilabel       {"text", "text_pair"?, "label": ["a", "b"]}
generation       {"source", "target", "references"?: ["other", "right", "texts"]}
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Label = str | float | tuple[str, ...]
UNSEEN = ("Cf", "Cc", "Zl", "Zp")
"""Kinds of characters that leave no trace on the screen."""


def seen(cell: object) -> str:
    """A cell's text without white space around it; empty where nothing of it can be seen, since a tokenizer leaves of
    zero-width characters as little as of white space."""
    text = cell.strip() if isinstance(cell, str) else ""
    return "" if all(each.isspace() or unicodedata.category(each) in UNSEEN for each in text) else text


class Row(NamedTuple):
    """A row as the user's file has it: with its line, and its classes by name; what a run reads of its JSON is another
    (:class:`pst.model.data.Row`). Of generation, ``text`` is the source, ``label`` the target, and ``references`` are
    more right answers."""

    line: int
    text: str
    text_pair: str | None
    label: Label
    references: tuple[str, ...] | None = None  # None but for generation

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the row has: one, several, or none where the task knows no classes."""
        if isinstance(self.label, tuple):
            return self.label
        return (self.label,) if isinstance(self.label, str) and self.references is None else ()


def to_line(row: Row) -> bytes:
    """The row as a line of JSON. The label stands last: :func:`label_end` relies on it."""
    value: dict[str, Any]
    if row.references is not None:
        value = {"source": row.text, "target": row.label}
        if row.references:
            value["references"] = row.references
    else:
        value = {"text": row.text}
        if row.text_pair is not None:
            value["text_pair"] = row.text_pair
        value["label"] = row.label
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def to_lines(rows: Iterable[Row]) -> Iterator[bytes]:
    return map(to_line, rows)


def places(file: str, rows: Iterable[Row]) -> bytes:
    """Where the rows stand in the user's file, as :func:`pst.model.data.read_objects` reads it beside them."""
    return json.dumps({"file": file, "lines": [row.line for row in rows]}).encode()


def words(text: str) -> int:
    """The least number of tokens that any tokenizer makes of ``text``: none joins words over white space."""
    return sum(any(map(str.isalnum, word)) for word in text.split())


def longest_target(file: str, rows: Iterable[Row]) -> dict[str, Any] | None:
    """Of rows of generation, the target with most words."""
    found = (row for row in rows if row.references is not None)
    targets = [(words(row.label), -row.line) for row in found if isinstance(row.label, str)]
    if not targets:
        return None
    most, line = max(targets)
    return {"words": most, "file": file, "line": -line}


def from_line(line: bytes) -> dict[str, Any]:
    """A row as people see it: ``text``, ``text_pair``, ``label`` as one text, ``references``."""
    value: dict[str, Any] = json.loads(line)
    if "source" in value:
        return {"text": value["source"], "label": value["target"], "references": value.get("references", [])}
    label = value["label"]
    value["label"] = ", ".join(label) if isinstance(label, list) else label if isinstance(label, str) else f"{label:g}"
    return value | {"references": []}


def label_end(label: str) -> bytes:
    """How the line of every row with that one label ends, and no other: inside a text a quote is escaped."""
    return b',"label":' + json.dumps(label, ensure_ascii=False).encode() + b"}\n"


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Numbers by value; texts by their parts, so that item2 stands before item10."""
    found = list(labels)
    try:
        numbers = {label: float(label) for label in found}
        if all(math.isfinite(number) for number in numbers.values()):
            return sorted(found, key=lambda label: (numbers[label], label))
    except ValueError:
        pass  # not all are numbers: sort them as texts
    return sorted(found, key=lambda label: ([_part(part) for part in re.split(r"(\d+)", label)], label))


def _part(part: str) -> tuple[int, int, str]:
    return (1, int(part), "") if part.isdecimal() else (0, 0, part.casefold())


def identity(splits: Mapping[str, str], labels: Iterable[str]) -> str:
    """sha256 over the sorted "split sha256" lines and the labels: equal data sets have equal identities."""
    lines = [f"{split} {sha256}" for split, sha256 in sorted(splits.items())]
    text = "\n".join(lines) + "\n" + json.dumps(list(labels), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
