"""What the command line prints: tables and bars for people, or one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from pst.terminal import Bars
from pst_client.api import Json
from pst_client.contract import StateEvent, read_event


class Output:
    """Results go to stdout; bars, notes and errors to stderr. With ``as_json``, stdout gets one JSON document."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, value: Any, *lines: str) -> None:
        """``value`` as JSON, or ``lines`` for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        for line in () if self.as_json else lines:
            self.out.print(line, markup=False)

    def note(self, line: str) -> None:
        self.err.print(line, markup=False)

    def error(self, message: str, details: Iterable[Json] = (), *, code: str = "failed") -> None:
        """One sentence, and its parts."""
        rows = list(details)
        if self.as_json:
            document = {"error": {"code": code, "message": message, "details": rows}}
            sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
            return
        self.err.print(f"error: {message}", markup=False)
        for row in rows:
            if row.get("message") != message:
                self.err.print(f"  {located(row)}", markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        if self.as_json:
            return
        table = Table(*columns, box=None, pad_edge=False)
        for row in rows:
            # As texts: what rows say is no markup.
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        self.out.print(table)

    @contextmanager
    def transfer(self, name: str, total: int) -> Iterator[Any]:
        """A bar of bytes; yields a function that takes the number of bytes done."""
        columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
        with Progress(*columns, console=self.err, disable=self.as_json or not self.err.is_terminal) as progress:
            task = progress.add_task(name, total=total)
            yield lambda done: progress.update(task, completed=done)


def located(problem: Json) -> str:
    """A problem with its place: a field, or file, line and column."""
    where = [str(problem[key]) for key in ("field", "file") if problem.get(key)]
    where += [f"{key} {problem[key]}" for key in ("line", "column") if problem.get(key) is not None]
    return ": ".join(filter(None, [", ".join(where), str(problem.get("message", ""))]))


def prediction(item: Json) -> dict[str, str]:
    """What a serving node says of one input, by column: a label and its score, all labels, a number, or a text."""
    found = {}
    if "label" in item:
        labels = item["label"]
        found["label"] = ", ".join(labels) or "none" if isinstance(labels, list) else str(labels)
    if "score" in item:
        found["score"] = f"{item['score']:.3f}"
    if "text" in item:
        found["written"] = str(item["text"])
    return found


def size(count: float | None) -> str:
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


class JobBars(Bars):
    """A job's events, as the API gives them; those that only a newer version can read are passed over."""

    def take(self, entry: Json) -> None:
        event = read_event(entry)
        if isinstance(event, StateEvent):
            self.line(f"job {event.data.state.value} {event.data.message}".rstrip())
        elif event is not None:
            self.show(event.type, event.data.model_dump())
