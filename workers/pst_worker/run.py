"""The child that owns the accelerator: runs the job in a folder that the parent has filled.

``python -m pst_worker.run FOLDER --events FD [--parent PID] [--processes N]``. Events go to the file descriptor FD as
JSON lines; ``FOLDER/outcome.json`` says how it ended; stdout and stderr are free for whatever libraries print. With N
above 1 it is torchrun that is started here, and this program again N times (:mod:`pst_worker.distributed`): those know
by torchrun's environment variables which they are, and their events go to their parent's file descriptor.

Exit codes: 0 the folder ``export`` and ``report.json`` are ready; 65 the user's data or settings can't work
(outcome.json has the sentence); 70 the program failed (outcome.json has the traceback); 71 one of several processes
died; 75 stopped on SIGTERM after writing a checkpoint. A child that dies of a signal leaves no outcome.json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pst.messages import Message, said

SUCCEEDED, REFUSED, BROKEN, DIED, STOPPED = 0, 65, 70, 71, 75
CODES = {"succeeded": SUCCEEDED, "refused": REFUSED, "broken": BROKEN, "died": DIED, "stopped": STOPPED}
OUTCOME = "outcome.json"
PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, however that happens. Linux only."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def describe(error: Exception) -> dict[str, Any]:
    """The outcome of a run that raised: a sentence for the user and the traceback for the operator."""
    from pst.errors import ProcessLost, PSTError, disk_is_full

    detail = "".join(traceback.format_exception(error))[-20_000:]
    if isinstance(error, ProcessLost):
        return {"outcome": "died", "error": str(error), "detail": detail}
    if isinstance(error, PSTError):
        return {"outcome": "refused", "error": str(error), "detail": detail}
    if out_of_memory(error):
        sentence = Message(
            "The job ran out of memory: submit it with a smaller batch_size or max_length, or to a larger worker."
        )
    elif any(disk_is_full(cause) for cause in causes(error)):
        sentence = Message(
            "The worker's disk is full: whoever runs this installation must make room there; then submit the job again."
        )
    else:
        sentence = Message(
            "The training program failed: {kind}: {error}", kind=type(error).__name__, error=str(error)[:500]
        )
    return {"outcome": "broken", "error": sentence, "detail": detail}


def outcome_name(rank: int) -> str:
    return OUTCOME if rank == 0 else f"outcome-{rank}.json"


@contextmanager
def peers() -> Iterator[dict[str, Any]]:
    """What the pipeline is told of the other processes that torchrun started; nothing where there are none."""
    if "RANK" not in os.environ:
        yield {}
        return
    from pst.training.parallel import joined

    with joined() as found:
        yield {"peers": found}


def run(folder: Path, events: int | str, rank: int = 0) -> int:
    """Run the job, writing events to a descriptor or path, and return the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda signum, frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name = outcome_name(rank)
    descriptor = events if isinstance(events, int) else os.open(events, os.O_WRONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as stream:

        def emit(event: dict[str, Any]) -> None:
            stream.write(json.dumps(event) + "\n")

        try:
            from pst import pipeline  # here, so that a failing import is reported too
        except Exception as error:
            return end(folder, BROKEN, describe(error), name)
        try:
            with peers() as more:
                report = pipeline.run(folder, emit=emit, should_stop=stop.is_set, **more)
        except pipeline.Stopped:
            outcome: dict[str, Any] = {"outcome": "stopped"}
        except Exception as error:
            outcome = describe(error)
            return end(folder, CODES[outcome["outcome"]], outcome, name)
        else:
            outcome = {"outcome": "succeeded", "report": report}
    if rank:  # torchrun would end the first, which still writes, for an exit code
        return SUCCEEDED
    return end(folder, CODES[outcome["outcome"]], outcome)


def end(folder: Path, code: int, outcome: dict[str, Any], name: str = OUTCOME) -> int:
    if "error" in outcome:
        outcome = without_folders(outcome | {"said": said(outcome["error"])}, folder)
    (folder / name).write_text(json.dumps(outcome), encoding="utf-8")
    return code


def without_folders(outcome: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``outcome`` as users may see it: a file of the job or of its base model by its name alone."""
    try:
        base = [json.loads((folder / "spec.json").read_text("utf-8"))["base_model"]]
    except (OSError, ValueError, LookupError, TypeError):
        base = []  # what is wrong may be the very spec
    places = sorted({str(folder), *(place for place in base if isinstance(place, str) and place)}, key=len)
    pattern = re.compile("|".join(re.escape(place) + r"(?:/|\b)" for place in reversed(places)))

    def hide(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda match: "" if match.group().endswith("/") else "the folder", value)
        if isinstance(value, dict):
            return {key: hide(inner) for key, inner in value.items()}
        return value

    return {key: hide(value) for key, value in outcome.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pst_worker.run", description="Run one job in a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, required=True, metavar="FD", help="open file descriptor for events")
    parser.add_argument("--parent", type=int, metavar="PID", help="die when this parent dies")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="train on so many GPUs")
    options = parser.parse_args(arguments)
    folder = options.folder.resolve()
    if options.parent is not None:
        die_with_parent(options.parent)
    if "RANK" in os.environ:
        rank = int(os.environ["RANK"])
        return run(folder, os.devnull if rank else f"/proc/{os.getppid()}/fd/{options.events}", rank)
    os.set_inheritable(options.events, False)
    if options.processes > 1:
        from pst_worker import distributed

        return distributed.run(folder, options.events, options.processes)
    return run(folder, options.events)


if __name__ == "__main__":
    sys.exit(main())
