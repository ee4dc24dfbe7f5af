"""What a user should know of the rows before training on them."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any

from hub.datasets.formats.answers import odd
from hub.datasets.formats.rows import UNSEEN, Label, Row, sort_labels
from pst.messages import Message, said, word

IMBALANCED = 0.8
"""From this share of one class on, a model that always answers it looks good."""
BINS = 30


def quantile(values: Sequence[int], share: float) -> int:
    """The nearest-rank quantile of sorted ``values``."""
    return values[min(len(values) - 1, int(share * len(values)))]


def describe(rows: Sequence[Row], empty_texts: int) -> dict[str, Any]:
    """Counts of one split."""
    counts = Counter(label for row in rows for label in row.classes)
    numbers = sorted(row.label for row in rows if isinstance(row.label, float))
    targets = sorted(len(row.label) for row in rows if isinstance(row.label, str) and row.references is not None)
    lengths = sorted(len(row.text) + len(row.text_pair or "") for row in rows)
    return {
        "rows": len(rows),
        "classes": [
            {"label": label, "count": counts[label], "share": round(counts[label] / len(rows), 4)}
            for label in sort_labels(counts)
        ],
        "text_length": _lengths(lengths),
        "target_length": _lengths(targets) if targets else None,
        "numbers": _numbers(numbers) if numbers else None,
        "duplicates": len(rows) - len({_said(row) for row in rows}),
        "empty_texts": empty_texts,
    }


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    return {
        "unit": "characters",
        "min": lengths[0] if lengths else 0,
        "p50": quantile(lengths, 0.5) if lengths else 0,
        "p95": quantile(lengths, 0.95) if lengths else 0,
        "max": lengths[-1] if lengths else 0,
        "histogram": _histogram(lengths),
    }


def _histogram(lengths: Sequence[int]) -> dict[str, Any]:
    """Rows in each of at most ``BINS`` equal stretches from 0 to the 99th percentile; longer ones count in the last."""
    end = max(1, quantile(lengths, 0.99)) if lengths else 1
    counts = [0] * min(BINS, end)
    for length in lengths:
        counts[min(len(counts) - 1, length * len(counts) // end)] += 1
    return {"end": end, "counts": counts}


def _numbers(numbers: Sequence[float]) -> dict[str, float]:
    """Of sorted numbers."""
    return {"min": numbers[0], "mean": fmean(numbers), "max": numbers[-1], "deviation": pstdev(numbers)}


def _said(row: Row) -> tuple[Any, ...]:
    """What makes a row a repetition: its texts; of generation its target too, as several answers may be right."""
    return _texts(row) if row.references is None else (*_texts(row), row.label)


def _rows(count: int) -> Message:
    return Message("1 row") if count == 1 else Message("{count:,} rows", count=count)


def _texts(row: Row) -> tuple[str, str | None]:
    return row.text, row.text_pair


def overlaps(splits: dict[str, list[Row]]) -> list[dict[str, Any]]:
    """For each two splits, how many rows of the second have texts that the first has too."""
    seen = {name: {_texts(row) for row in rows} for name, rows in splits.items()}
    return [
        {"a": a, "b": b, "rows": sum(1 for row in splits[b] if _texts(row) in seen[a])}
        for a, b in combinations(splits, 2)
    ]


def contradictions(rows: Sequence[Row]) -> int:
    """Texts that stand there with more than one label."""
    labels: dict[tuple[str, str | None], Label] = {}
    found: set[tuple[str, str | None]] = set()
    for row in rows:
        if row.references is not None:
            continue
        if labels.setdefault(_texts(row), row.label) != row.label:
            found.add(_texts(row))
    return len(found)


def similar(labels: Iterable[str]) -> list[list[str]]:
    """Labels that people take for the same, together: each list has two at least."""
    alike: dict[str | float, list[str]] = {}
    for label in sort_labels(labels):
        alike.setdefault(_folded(label), []).append(label)
    return [names for names in alike.values() if len(names) > 1]


def _folded(label: str) -> str | float:
    seen = "".join(each for each in label if unicodedata.category(each) not in UNSEEN)
    text = unicodedata.normalize("NFKC", " ".join(unicodedata.normalize("NFKC", seen).casefold().split()))
    try:
        return float(text) if math.isfinite(float(text)) else text
    except ValueError:
        return text


def _visible(label: str) -> str:
    """With the code of each character that is not seen, or that stands on another."""
    return (
        '"'
        + "".join(f"U+{ord(each):04X}" if unicodedata.category(each) in {*UNSEEN, "Mn"} else each for each in label)
        + '"'
    )


def make(
    splits: dict[str, list[Row]],
    uploaded: Sequence[Row],
    empty_texts: dict[str, int],
    columns: list[str],
    noted: Sequence[tuple[str, Message]] = (),
) -> dict[str, Any]:
    """The report. ``splits`` is what will be stored, ``uploaded`` the training file's rows before a split was taken."""
    described = {name: describe(rows, empty_texts.get(name, 0)) for name, rows in splits.items()}
    counts = Counter(label for row in uploaded for label in row.classes)
    one_class = all(isinstance(row.label, str) and row.references is None for row in uploaded)
    overlap = overlaps(splits)
    warnings: list[dict[str, Any]] = []

    def warn(code: str, message: Message) -> None:
        warnings.append({"code": code, "message": message, "said": said(message)})

    for code, message in noted:
        warn(code, message)
    if pieces := [label for label in counts if not one_class and odd(label)]:
        warn(
            "odd_lists",
            Message(
                "Labels that look like pieces of a list: {labels}. Write lists as JSON, or labels with the separator.",
                labels=", ".join(sort_labels(pieces)[:5]),
            ),
        )
    if pairs := similar(counts):
        shown = "; ".join(" = ".join(map(_visible, names[:8])) for names in pairs[:5]) + (
            "; …" if len(pairs) > 5 else ""
        )
        warn(
            "similar_labels",
            Message(
                "Labels that differ by case, unseen characters or the way a number is written alone: {pairs}.",
                pairs=shown,
            ),
        )
    if few := sort_labels(label for label, count in counts.items() if count < 2):
        shown = ", ".join(few[:5]) + (", …" if len(few) > 5 else "")
        warn(
            "few_rows",
            Message(
                "Classes with fewer than 2 training rows, which cannot be validated: {count} ({classes}).",
                count=len(few),
                classes=shown,
            ),
        )
    for name, split in described.items():
        if split["duplicates"]:
            warn(
                "duplicates",
                Message(
                    "In {split}, {rows} repeat the text of an earlier row.",
                    split=word(name),
                    rows=_rows(split["duplicates"]),
                ),
            )
    for item in overlap:
        if item["rows"]:
            warn(
                "overlap",
                Message(
                    "In {split}, {rows} have the text of a row of {other}.",
                    split=word(item["b"]),
                    rows=_rows(item["rows"]),
                    other=word(item["a"]),
                ),
            )
    if clashes := contradictions(uploaded):
        warn(
            "contradictions",
            Message("Training texts that stand there with more than one label: {count:,}.", count=clashes),
        )
    majority = max(counts.values(), default=0) / max(1, len(uploaded)) if one_class else 0.0
    if majority >= IMBALANCED:
        warn(
            "imbalanced",
            Message("{share:.0%} of the training rows have one label; look at more than accuracy.", share=majority),
        )
    return {
        "splits": described,
        "columns": columns,
        "overlap": overlap,
        "warnings": warnings,
        "majority_share": round(majority, 4),
    }
