"""What this machine, or the container, has; found without torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pst import machine

QUERY_SECONDS = 20.0
LOAD_SECONDS = 2.0  # a heartbeat must not wait longer
PROC = Path("/proc")
FIELDS = ("index", "uuid", "name", "memory.total", "memory.used", "utilization.gpu")


def version() -> str:
    """Version of the installed workers package; ``source`` when it runs from a source tree."""
    try:
        return metadata.version("sparsewright-workers")
    except metadata.PackageNotFoundError:
        return "source"


def describe() -> dict[str, Any]:
    """``{"machine", "processor", "python", "cpus", "memory_bytes", "gpus": [{"name", "memory_bytes"}]}``."""
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "python": platform.python_version(),
        "cpus": machine.cpus(),
        "memory_bytes": machine.memory_bytes(),
        "gpus": gpus(),
    }


def load() -> dict[str, Any]:
    """``{"cpu_load", "memory_available_bytes", "gpus": [{"name", "memory_bytes", "memory_used_bytes",
    "utilisation"}]}`` as it is now: the processes that wanted to run over the last minute, and the share of the last
    moment in which a GPU was busy."""
    return {
        "cpu_load": round(os.getloadavg()[0], 2),
        "memory_available_bytes": machine.available_bytes(),
        "gpus": [
            {
                "name": gpu["name"],
                "memory_bytes": _mebibytes(gpu["memory.total"]),
                "memory_used_bytes": _mebibytes(gpu["memory.used"]),
                "utilisation": int(gpu["utilization.gpu"]) / 100 if gpu["utilization.gpu"].isdigit() else None,
            }
            for gpu in _visible(LOAD_SECONDS)
        ],
    }


def processor() -> str:
    """The processor's name as people know it, else the architecture's."""
    names = re.search(r"^model name\s*:\s*(.+)$", machine.read(PROC / "cpuinfo"), re.MULTILINE)
    return names[1].strip() if names else platform.processor() or platform.machine()


def session_bytes(session: int) -> int | None:
    """Resident bytes of the processes of a session, pages that they share counted for each; None where the system
    does not tell (no /proc), or when the session has ended."""
    return sum(int(fields[21]) for fields in _of_session(session)) * os.sysconf("SC_PAGE_SIZE") or None


def session_seconds(session: int) -> float:
    """Seconds of processor time that the processes of a session have used, those that they waited for included."""
    return sum(int(ticks) for fields in _of_session(session) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def _of_session(session: int) -> Iterator[list[str]]:
    """The fields of /proc/PID/stat from the third on (state ppid pgrp session ...) of each process of the session."""
    for folder in PROC.glob("[0-9]*"):
        # A process's name may hold anything, brackets too.
        fields = machine.read(folder / "stat").rpartition(")")[2].split()
        if len(fields) > 21 and int(fields[3]) == session:
            yield fields


def gpus() -> list[dict[str, Any]]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES says; none where there is no driver."""
    return [{"name": gpu["name"], "memory_bytes": _mebibytes(gpu["memory.total"])} for gpu in _visible(QUERY_SECONDS)]


def _visible(seconds: float) -> list[dict[str, str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except (subprocess.SubprocessError, OSError):
        return []
    return visible(done.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(table: str, wanted: str | None) -> list[dict[str, str]]:
    """The GPUs of nvidia-smi's ``table`` of FIELDS that CUDA_VISIBLE_DEVICES (``wanted``) names by number or by the
    beginning of their uuid; as in CUDA, a name that is none ends the list. A slice of a GPU (MIG) is none."""
    rows = [[value.strip() for value in line.split(",")] for line in table.splitlines() if line.strip()]
    found = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    if wanted is None:
        return found
    result: list[dict[str, str]] = []
    for name in (part.strip() for part in wanted.split(",")):
        named = [
            gpu for gpu in found if name == gpu["index"] or (name.startswith("GPU-") and gpu["uuid"].startswith(name))
        ]
        if len(named) != 1 or named[0] in result:
            break
        result += named
    return result


def _mebibytes(value: str) -> int | None:
    """Bytes; None for a GPU that doesn't tell (``[N/A]``)."""
    return int(value) * 2**20 if value.isdigit() else None
