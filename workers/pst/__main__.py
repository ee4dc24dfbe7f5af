"""``python -m pst train|export|report|expand|bench|sweep FOLDER``: the library without the platform.

``torchrun --nproc-per-node N -m pst train FOLDER`` trains on N GPUs (:mod:`pst.training.parallel`).

Exit codes: 0 done, 1 a plain error, 2 wrong usage, 130 stopped with Ctrl-C or SIGTERM (``train`` and ``sweep`` go on
from there).
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
from rich.table import Column, Table
from safetensors import SafetensorError

from pst import report
from pst.errors import PSTError, disk_is_full
from pst.terminal import Bars

STOPPED = 130
MAX_COUNT = 100_000


def _shown(work: Callable[[Callable[[dict[str, Any]], None]], dict[str, Any]]) -> dict[str, Any]:
    """Do ``work(emit)`` and show its events on standard error."""
    with Bars(Console(stderr=True)) as bars:

        def emit(event: dict[str, Any]) -> None:
            if event["type"] == "trial":
                values = ", ".join(f"{name} {value}" for name, value in event["values"].items())
                share = f"{event['share']:.3g} of the epochs"
                bars.line(f"run {event['index']} of {event['of']}, {share}: {values}", style="bold")
            bars.show(event["type"], event)

        return work(emit)


def _stoppable(
    work: Callable[[Callable[[dict[str, Any]], None], Callable[[], bool]], dict[str, Any]],
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Do ``work(emit, should_stop)``, which the first Ctrl-C or SIGTERM asks to stop; a second one ends at once.

    Raises KeyboardInterrupt once it has stopped.
    """
    from pst.training.trainer import Stopped

    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return (
            work(lambda event: None, lambda: stopping) if quiet else _shown(lambda emit: work(emit, lambda: stopping))
        )
    except Stopped:
        if not quiet:
            sys.stderr.write("Stopped. The same command goes on from the last checkpoint.\n")
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train(options: argparse.Namespace) -> int:
    from pst.pipeline import run
    from pst.training.parallel import joined

    with joined() as peers:
        content = _stoppable(
            lambda emit, should_stop: run(options.folder, emit=emit, should_stop=should_stop, peers=peers),
            quiet=not peers.is_main,
        )
        if content:
            _print_card(content)
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from pst import sweep

    numbers = {name: getattr(options, name) for name in ("trials", "eta", "rungs", "seed")}
    search = sweep.parse_search(options.config, options.set, **numbers)
    content = _stoppable(
        lambda emit, should_stop: sweep.run(options.folder, search, emit=emit, should_stop=should_stop)
    )
    head, lines = sweep.table(content)
    # the state may not break over lines where a terminal is narrow
    table = Table(
        *(Column(name, no_wrap=name == head[-1], overflow="fold") for name in head),
        caption="* no other finished trial is better in one of metric and bytes without being worse",
    )
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    return 0


def _report(options: argparse.Namespace) -> int:
    content = report.read(options.folder)
    comparisons = []
    if options.against:
        from pst.report.agreement import compare  # it loads torch

        comparisons = [compare(options.folder, other) for other in options.against]
    if options.html is not None:
        from pst.report.page import render

        try:
            options.html.write_text(render(content, comparisons), "utf-8")
        except OSError as error:
            raise PSTError(f"The page can't be written to {options.html}: {error.strerror}.") from error
        print(options.html)
    elif options.json:
        print(json.dumps(content | ({"against": comparisons} if comparisons else {}), indent=2, ensure_ascii=False))
    else:
        _print_card(content)
        for other in comparisons:
            _print_overlap(other)
    return 0


def _export(options: argparse.Namespace) -> int:
    from pst.pipeline import export

    _print_card(_shown(lambda emit: export(options.folder, emit=emit)))
    return 0


def _expand(options: argparse.Namespace) -> int:
    from pst.files.formats import expand

    print(expand(options.folder))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from pst import machine
    from pst.report import bench  # it loads torch

    threads = options.threads or machine.cpus()
    found = bench.bench(options.folder, rows=options.rows, tokens=options.tokens, threads=threads)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    head, lines = bench.table(found)
    words = f"{threads} threads; times as fast as torch float32; * what a serving node runs"
    if found["instructions"]:
        words = f"{found['instructions']}, {words}"
    table = Table(*(Column(name, overflow="fold") for name in head), caption=words)
    for line in lines:
        table.add_row(*line)
    Console().print(table)
    return 0


def _print_card(content: dict[str, Any]) -> None:
    table = Table("measure", "dense", content["method"])
    for line in report.card(content):
        table.add_row(*line)
    Console().print(table)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_COUNT:
        raise argparse.ArgumentTypeError(f"must be from 1 to {MAX_COUNT}")
    return number


def _print_overlap(other: dict[str, Any]) -> None:
    """Mean Jaccard index of the masks by kind of matrix."""
    kinds: dict[str, list[dict[str, float]]] = {}
    for matrix in other["matrices"]:
        kinds.setdefault(" ".join(filter(None, (matrix["stack"], matrix["kind"]))), []).append(matrix)
    table = Table("masks in common", "Jaccard", "by chance", title=f"against {other['method']} in {other['folder']}")
    for kind, matrices in kinds.items():
        means = (sum(matrix[name] for matrix in matrices) / len(matrices) for name in ("jaccard", "chance"))
        table.add_row(kind, *(f"{mean:.3f}" for mean in means))
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="pst", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    words = {
        "train": ("train, export and verify what FOLDER/spec.json asks for", _train),
        "export": ("merge and export again from the best checkpoint", _export),
        "report": ("print the report card of a finished run, or render its page", _report),
        "expand": ("rebuild model.safetensors of an exported folder from its compact file", _expand),
        "bench": ("measure how fast a model's folder runs here, dense and sparse", _bench),
        "sweep": ("search over settings and targets of FOLDER/spec.json by successive halving", _sweep),
    }
    made = {}
    for name, (help_text, work) in words.items():
        made[name] = command = commands.add_parser(name, help=help_text)
        command.add_argument("folder", type=Path)
        command.set_defaults(work=work)
    form = made["report"].add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print report.json instead")
    form.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs nothing else")
    made["report"].add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        metavar="OTHER",
        help="folders of finished runs: compare the masks",
    )
    measured = made["bench"]
    for option, default, what in (("rows", [1, 8], "texts at once"), ("tokens", [16, 128], "tokens of a text")):
        measured.add_argument(f"--{option}", type=_count, nargs="+", default=default, metavar="N", help=what)
    measured.add_argument("--threads", type=_count, metavar="N", help="as many as the process may use (all)")
    measured.add_argument("--json", action="store_true", help="print JSON instead")
    search = made["sweep"]
    search.add_argument("--config", type=Path, metavar="FILE", help='JSON: {"values": {name: [..]}, "trials"?, ..}')
    search.add_argument(
        "--set", action="append", default=[], metavar="NAME=A,B", help="values of a setting or of a part of the target"
    )
    search.add_argument("--trials", type=int, help="draw so many of the combinations")
    search.add_argument("--eta", type=int, help="one of so many trials goes on to the next rung (3)")
    search.add_argument("--rungs", type=int, help="runs of rising length; 1 runs every trial whole")
    search.add_argument("--seed", type=int, help="seed of the draw (0)")
    options = parser.parse_args(arguments)
    try:
        done: int = options.work(options)
        return done
    except PSTError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except (OSError, SafetensorError) as error:
        if not disk_is_full(error):
            raise
        sys.stderr.write(f"error: The disk of {options.folder} is full: free some space and run the command again.\n")
        return 1
    except KeyboardInterrupt:
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())
