"""What the GPU benchmarks share: timing by device events, and a line that names machine and versions."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import torch


def machine() -> dict[str, str]:
    """Card, driver and versions."""
    import triton

    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    every = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    card, driver = every[0].split(", ")
    versions = {"torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version()}
    return {"card": card, "cards": str(len(every)), "driver": driver, **versions}


def timed(call: Callable[[], Any], repeats: int, warm: int = 3) -> dict[str, float]:
    """Median, least and largest milliseconds of ``call`` on the device."""
    for _ in range(warm):
        call()
    torch.cuda.synchronize()
    pairs = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) for begin, end in pairs]
    return {"ms": statistics.median(times), "least": min(times), "most": max(times)}


def graphed(call: Callable[[], Any]) -> Callable[[], None]:
    """The replay of ``call`` as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def transient(call: Callable[[], Any]) -> int:
    """Most bytes that ``call`` allocates at once beyond what it finds."""
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def show(**row: Any) -> None:
    """One JSON line."""
    print(json.dumps({key: float(f"{x:.4g}") if isinstance(x, float) else x for key, x in row.items()}), flush=True)
