"""What this machine has, found without torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

QUERY_SECONDS = 20.0


def version() -> str:
    """Version of the installed workers package; ``source`` when it runs from a source tree."""
    try:
        return metadata.version("sparsewright-workers")
    except metadata.PackageNotFoundError:
        return "source"


def describe() -> dict[str, Any]:
    """``{"machine", "python", "cpus", "memory_bytes", "gpus": [{"name", "memory_bytes"}]}``."""
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus(),
    }


def gpus() -> list[dict[str, Any]]:
    """The NVIDIA GPUs that this process may use; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError):
        return []
    return [parse_gpu(line) for line in done.stdout.splitlines() if line.strip()]


def parse_gpu(line: str) -> dict[str, Any]:
    """One line ``name, MiB``; the memory of a GPU that doesn't tell (``[N/A]``) is None."""
    name, _, memory = line.rpartition(",")
    mebibytes = memory.strip()
    return {"name": name.strip(), "memory_bytes": int(mebibytes) * 2**20 if mebibytes.isdigit() else None}
