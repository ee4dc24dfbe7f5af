"""``python -m pst train|export|report|expand FOLDER``: the library without the platform.

Exit codes: 0 done, 1 a plain error, 2 wrong usage, 130 stopped with Ctrl-C (``train`` goes on from there).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from pst import report
from pst.errors import PSTError

STOPPED = 130


class _Display:
    """Shows the events of a run on standard error."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self.console, self.progress = console, progress
        self.bar: TaskID | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "phase":
            self.console.print(f"[{event['index'] + 1}/{event['of']}] {event['phase']}", markup=False)
            if self.bar is not None:
                self.progress.remove_task(self.bar)
                self.bar = None
        elif kind == "progress":
            words = f"loss {event['loss']:.3f}  sparsity {event['sparsity']:.1%}"
            if event["metric"] is not None:
                words += f"  accuracy {event['metric']:.1%}"
            if self.bar is None:
                self.bar = self.progress.add_task("", total=event["total_steps"])
            self.progress.update(self.bar, completed=event["step"], description=words)
        elif kind == "log":
            self.console.print(f"{event['level']}: {event['message']}", markup=False)


def _shown(work: Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]) -> dict[str, Any]:
    console = Console(stderr=True)
    columns = TextColumn("{task.completed}/{task.total}"), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(BarColumn(), *columns, console=console) as progress:
        return work(_Display(console, progress))


def _train(folder: Path) -> int:
    from pst.pipeline import Stopped, run

    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        signal.signal(signal.SIGINT, before)  # a second Ctrl-C ends at once

    before = signal.signal(signal.SIGINT, stop)
    try:
        _print_card(_shown(lambda emit: run(folder, emit=emit, should_stop=lambda: stopping)))
    except Stopped:
        sys.stderr.write("Stopped. The same command goes on from the last checkpoint.\n")
        return STOPPED
    finally:
        signal.signal(signal.SIGINT, before)
    return 0


def _export(folder: Path) -> int:
    from pst.pipeline import export

    _print_card(_shown(lambda emit: export(folder, emit=emit)))
    return 0


def _expand(folder: Path) -> int:
    from pst.formats import expand

    print(expand(folder))
    return 0


def _print_card(content: dict[str, Any]) -> None:
    table = Table("measure", "dense", content["method"])
    for line in report.card(content):
        table.add_row(*line)
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="pst", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    words = {
        "train": "train, export and verify what FOLDER/spec.json asks for",
        "export": "merge and export again from the best checkpoint",
        "report": "print the report card of a finished run",
        "expand": "rebuild model.safetensors of an exported folder from its compact file",
    }
    for name, help_text in words.items():
        command = commands.add_parser(name, help=help_text)
        command.add_argument("folder", type=Path)
        if name == "report":
            command.add_argument("--json", action="store_true", help="print report.json instead")
    options = parser.parse_args(arguments)
    try:
        if options.command == "report":
            content = report.read(options.folder)
            if options.json:
                print(json.dumps(content, indent=2, ensure_ascii=False))
            else:
                _print_card(content)
            return 0
        return {"train": _train, "export": _export, "expand": _expand}[options.command](options.folder)
    except PSTError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
