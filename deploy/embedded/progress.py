"""A job's events on a terminal: a live bar, or a line now and then where the output is no terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

QUIET_SECONDS = 10.0


class JobView:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("  {task.description:<8}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:>5.0f}/{task.total:<5.0f} {task.fields[figures]}"),
            console=console,
            disable=not self.live,
        )
        self.phase = ""
        self.task: TaskID | None = None
        self.metric = ""
        self.printed = 0.0

    def __enter__(self) -> JobView:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(None, None, None)

    def show(self, event: dict[str, Any]) -> None:
        data = event["data"]
        if event["type"] == "progress":
            self._progress(data)
        elif event["type"] == "metric":
            self.metric = f"{data['name']} {data['value']:.3f}"
        elif event["type"] == "phase" and data["phase"] not in {"dense", "train"}:
            self.console.print(f"  {data['phase']}")
        elif event["type"] == "log" and data["level"] != "info":
            self.console.print(f"  [yellow]{data['level']}[/] {data['message']}")
        elif event["type"] == "state" and data.get("message"):
            self.console.print(f"  {data['message']}")

    def _progress(self, data: dict[str, Any]) -> None:
        if data["phase"] != self.phase:
            self.phase, self.metric = data["phase"], ""
            self.task = self.bar.add_task(self.phase, total=data["total_steps"], figures="")
        parts = [f"loss {data['loss']:.3f}" if data.get("loss") is not None else ""]
        parts.append(f"sparsity {data['sparsity']:.1%}" if data.get("sparsity") is not None else "")
        parts.append(self.metric)
        parts.append(f"{data['eta_seconds']:.0f} s left" if data.get("eta_seconds") is not None else "")
        figures = "  ".join(part for part in parts if part)
        if self.task is not None:
            self.bar.update(self.task, completed=data["step"], total=data["total_steps"], figures=figures)
        last = data["step"] == data["total_steps"]
        if not self.live and (last or time.monotonic() - self.printed > QUIET_SECONDS):
            self.printed = time.monotonic()
            self.console.print(f"  {self.phase:<6} {data['step']:>5}/{data['total_steps']:<5} {figures}")
