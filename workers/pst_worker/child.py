"""The child process of one attempt, seen from the parent: start it, read its events, signal it, say how it ended."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pst import machine
from pst.messages import Message
from pst_client.environment import PREFIX
from pst_worker.run import OUTCOME, REFUSED, STOPPED, SUCCEEDED

log = logging.getLogger(__name__)

LOG = "child.log"
DETAIL_BYTES = 8_000
LONGEST_EVENT = 1 << 20
SOURCE_ROOT = Path(__file__).resolve().parents[1]


class Child:
    """Starts at once, in a session and process group of its own, and trains with so many ``processes``, one a GPU.
    ``on_event`` is called in a reader thread.

    Make it in a thread that outlives it: the kernel kills the child when that thread ends.
    """

    def __init__(self, folder: Path, on_event: Callable[[dict[str, Any]], None], processes: int = 1) -> None:
        self.folder = folder
        self._on_event = on_event
        reading, writing = os.pipe()
        with (folder / LOG).open("wb") as output:
            self._process = subprocess.Popen(
                command(folder, writing, processes),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[writing],
                start_new_session=True,
                env=environment(processes),
            )
        os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(reading,), name="child-events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, seconds: float) -> bool:
        """Wait for the end for so long. True: it has ended and all its events were handed over."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.kill()  # what it may have started and left behind
        self._reader.join()
        return True

    def stop(self) -> None:
        """Ask for a checkpoint and an end. Only the leader is asked: what it started it ends itself."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole process group at once."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def outcome(self) -> dict[str, Any]:
        """After the end: ``{"outcome", "error"?, "detail"?, "report"?}``; the outcome is one of succeeded, stopped,
        refused, broken (see :mod:`pst_worker.run`) and died."""
        code = self._process.returncode
        path = self.folder / OUTCOME
        if code < 0 or not path.is_file():
            return {"outcome": "died", "error": describe_exit(code), "detail": self._log_tail()}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if code not in (SUCCEEDED, STOPPED, REFUSED):
            found["detail"] = f"{found.get('detail', '')}\n{self._log_tail()}".strip()
        return found

    def _log_tail(self) -> str:
        with (self.folder / LOG).open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - DETAIL_BYTES))
            return output.read().decode(errors="replace")

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "r", encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(LONGEST_EVENT):
                try:
                    # Not a number is no JSON; the platform gets null.
                    event = json.loads(line, parse_constant=lambda name: None)
                except ValueError:
                    # A child killed in the middle of a line leaves a piece of one.
                    event = {"type": "log", "level": "warning", "message": f"unreadable event: {line[:200]!r}"}
                try:
                    self._on_event(event)
                except Exception:  # a child whose events nobody reads stops at a full pipe
                    log.exception("this event of the child can't be used: %.200s", line)


def command(folder: Path, events: int, processes: int) -> list[str]:
    """The command line of the child of this process."""
    run = [sys.executable, "-m", "pst_worker.run", str(folder), "--events", str(events), "--parent", str(os.getpid())]
    return [*run, "--processes", str(processes)] if processes > 1 else run


def environment(processes: int = 1) -> dict[str, str]:
    """The child's environment: without the worker's credentials, and without a network's temptations."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    path = os.pathsep.join(filter(None, [str(SOURCE_ROOT), kept.get("PYTHONPATH", "")]))
    made = {**kept, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if processes == 1:  # several share the cores: torchrun's starter divides them
        machine.limit_threads(made)
    return made


def describe_exit(code: int) -> str:
    """A plain sentence about a child that ended without saying why."""
    if code == -signal.SIGKILL:
        return Message(
            "The training process was killed (signal 9), most likely because the machine ran "
            "out of memory: use a smaller batch_size or max_length, or a larger worker."
        )
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return Message("The training process died of {name}.", name=name)
    return Message("The training process ended with exit code {code} and without a result.", code=code)
