"""Reading rows as an upload is read, for the tests of the formats."""

from __future__ import annotations

from typing import Any

from hub.datasets.formats.problems import Limits, Options
from hub.datasets.formats.validation import Outcome, validate

LIMITS = Limits(rows=50_000, columns=50, cell_chars=5_000, classes=100)


def read(content: bytes | str, name: str = "rows.csv", **options: Any) -> Outcome:
    data = content.encode() if isinstance(content, str) else content
    return validate({"train": (name, data)}, Options(**({"validation_share": 0.0} | options)), LIMITS)


def texts(outcome: Outcome) -> list[tuple[str, str]]:
    assert not outcome.problems, outcome.problems.listed()
    return [(row.text, row.label) for row in outcome.splits["train"]]


def problems(outcome: Outcome) -> list[tuple[int | None, str | int | None, str]]:
    assert outcome.splits == {}
    return [(problem.line, problem.column, problem.message) for problem in outcome.problems.first]
