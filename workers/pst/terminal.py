"""The events of a run on a terminal, whether it runs here or on a platform's worker."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

FIGURES = (
    ("loss", "loss {:.3f}"),
    ("sparsity", "sparsity {:.1%}"),
    ("metric", "validation {:.4g}"),
)


class Bars:
    """A bar for each phase that counts steps, and lines for what happens between; without a terminal, lines alone."""

    def __init__(self, console: Console, *, silent: bool = False) -> None:
        self.console, self.silent = console, silent
        self._live = console.is_terminal and not silent
        name, figures = TextColumn("{task.description:<8}"), TextColumn("{task.fields[figures]}")
        columns = name, BarColumn(bar_width=30), figures, TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, disable=not self._live)
        self._task: tuple[str, TaskID] | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def line(self, text: str, style: str | None = None) -> None:
        if not self.silent:
            self.console.print(text, markup=False, style=style)

    def show(self, kind: str, event: Mapping[str, Any]) -> None:
        """One event: what stands in it is what its kind has, and may be None or missing."""
        if kind == "progress":
            self._show_progress(event)
        elif kind == "phase":
            place = "" if event.get("index") is None else f" {event['index'] + 1} of {event['of']}"
            self.line(f"phase{place}: {event['phase']}")
        elif kind == "metric" and event.get("value") is not None and not self._live:
            self.line(f"{event['phase']} step {event['step']}: {event['name']} {event['value']:.3f}")
        elif kind == "log":
            self.line(f"{event['level']}: {event['message']}")

    def _show_progress(self, event: Mapping[str, Any]) -> None:
        name = event.get("part") or event.get("phase") or ""
        if self._task is None or self._task[0] != name:
            self._task = name, self._progress.add_task(name, figures="")
        known = [text.format(event[key]) for key, text in FIGURES if event.get(key) is not None]
        figures = "  ".join([f"{event['step']}/{event['total_steps']}", *known])
        self._progress.update(self._task[1], completed=event["step"], total=event["total_steps"], figures=figures)
