"""What is wrong with a file, and where; and the limits and options that say what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pst.messages import Message, said


@dataclass(frozen=True)
class Limits:
    """What an installation takes."""

    rows: int
    columns: int
    cell_chars: int
    classes: int


@dataclass(frozen=True)
class Options:
    """What the user fixed; ``auto`` and empty mean: find it. ``delimiter`` is one character.

    For generation, text and label are source and target, and ``references_column`` holds more right answers.
    """

    task: str = "classification"
    format: str = "auto"
    encoding: str = "auto"
    delimiter: str = "auto"
    header: str = "auto"
    text_column: str = ""
    text_pair_column: str = ""
    label_column: str = ""
    references_column: str = ""
    label_separator: str = ","
    validation_share: float = 0.2
    seed: int = 42


@dataclass(frozen=True)
class Problem:
    """``line`` is 1-based and physical: where the record starts; ``column`` is a name or a 1-based number."""

    file: str | None
    line: int | None
    column: str | int | None
    message: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "said": said(self.message),
        }


@dataclass
class Problems:
    """Keeps the first ``limit`` problems and counts all."""

    limit: int = 100
    first: list[Problem] = field(default_factory=list)
    total: int = 0
    warnings: list[tuple[str, Message]] = field(default_factory=list)

    def add(
        self, file: str, message: str, *, line: int | None = None, column: str | int | None = None, count: int = 1
    ) -> None:
        self.total += count
        if len(self.first) < self.limit:
            self.first.append(Problem(file, line, column, message))

    def warn(self, code: str, message: Message) -> None:
        """Something that the user should look at and that stops nothing."""
        if len(self.warnings) < self.limit:
            self.warnings.append((code, message))

    def __bool__(self) -> bool:
        return self.total > 0

    def listed(self) -> list[dict[str, Any]]:
        """The problems as users see them, with a last line that says how many more there are."""
        listed = [problem.to_dict() for problem in self.first]
        if (more := self.total - len(self.first)) > 0:
            listed.append(Problem(None, None, None, Message("There are {more:,} more errors.", more=more)).to_dict())
        return listed


class Unreadable(Exception):
    """The file cannot be read as a table at all; why was added to the problems."""
