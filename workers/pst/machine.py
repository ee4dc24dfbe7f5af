"""Cores and memory that this process may use: the machine's, or less where a container (a control group) has a limit.

No library tells this of both versions of Linux's control groups: psutil and os report the machine's. A limit counts
wherever it stands between the process's own group and the root that it can see. Standard library only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path

PROC = Path("/proc")
THREADS = "OMP_NUM_THREADS"


def read(path: Path) -> str:
    """Empty where there is no such file, or no such process any more."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def cpus() -> int:
    """Cores that this process may keep busy; part of a core counts as none, but there is always one."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(found, quota())))


def quota() -> float:
    """Processors' time a second that the control groups allow; infinite without a limit."""
    found = math.inf
    for folder in groups("cpu"):
        # v2 has both numbers in one file, v1 one file for each.
        numbers = read(folder / "cpu.max").split() or [
            read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]
        share, period = (_number(text) for text in numbers[:2])
        if share and period:
            found = min(found, share / period)
    return found


def memory_bytes() -> int:
    """Memory that this process and its neighbours in the container may fill."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *(limit for limit, _ in _memory_limits())])


def available_bytes() -> int:
    """Memory that could be given to a program now; what the system only keeps as a cache of files counts as such."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", read(PROC / "meminfo"), re.MULTILINE)
    whole = int(found[1]) * 1024 if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return min([whole, *(max(0, limit - used) for limit, used in _memory_limits())])


def limit_threads(environ: MutableMapping[str, str]) -> None:
    """Have torch start no more threads than the quota feeds: those beyond only wait for the others' time. What the
    environment says already holds. Call it before torch is imported."""
    if math.isfinite(quota()):
        environ.setdefault(THREADS, str(cpus()))


def groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that hold this process, from its own to the root: v1's of that controller, then
    v2's."""
    own = {}
    for line in read(PROC / "self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        own[controller if controller in names.split(",") else names] = path
    for line in read(PROC / "self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        root, mount = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        name = {"cgroup2": "", "cgroup": controller if controller in options.split(",") else None}.get(kind)
        if name is None or name not in own:
            continue
        # A container without a namespace of its own reads its path on the host, of which it sees the end alone.
        inner = own[name].removeprefix(root) if root != "/" and own[name].startswith(root) else own[name]
        folder = top = Path(mount)
        if ".." not in inner and (top / inner.strip("/")).is_dir():
            folder = top / inner.strip("/")
        yield folder
        while folder != top:
            folder = folder.parent
            yield folder


def _memory_limits() -> list[tuple[int, int]]:
    """Of each control group with a limit: bytes that it may hold, and those that it holds and can't drop."""
    found = []
    for folder in groups("memory"):
        for limit_file, used_file, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(read(folder / limit_file)), _number(read(folder / used_file))
            if limit:
                droppable = re.search(rf"^{cache} (\d+)$", read(folder / "memory.stat"), re.MULTILINE)
                found.append((limit, (used or 0) - (int(droppable[1]) if droppable else 0)))
    return found


def _number(text: str) -> int | None:
    """None for ``max``, and for what v1 writes for no limit: -1."""
    return int(text) if text.strip().isdecimal() else None
