"""A job on several GPUs: how its processes are started, and what is said when one of them dies."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pst_client import hardware
from pst_worker.child import Child, command
from pst_worker.distributed import concluded, first_to_end, torchrun_arguments
from pst_worker.run import DIED, REFUSED, STOPPED, describe, outcome_name
from tests.workers.conftest import ROOT, eventually

TABLE = """0, GPU-aaaa-1, NVIDIA H200, 143771, 1024, 7
1, GPU-abbb-2, NVIDIA H200, 143771, 2048, 100
2, GPU-cccc-3, NVIDIA GB10, [N/A], [N/A], [N/A]
"""


def test_the_command_line_of_one_gpu_and_of_several(tmp_path: Path) -> None:
    me = str(os.getpid())
    alone = [sys.executable, "-m", "pst_worker.run", str(tmp_path), "--events", "7", "--parent", me]
    assert command(tmp_path, 7, 1) == alone
    assert command(tmp_path, 7, 4) == [*alone, "--processes", "4"]
    assert torchrun_arguments(tmp_path, 7, 4, 99) == [
        *("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "4"),
        *("-m", "pst_worker.run", str(tmp_path), "--events", "7", "--parent", "99"),
    ]


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [
        (None, "012"),
        ("0,2", "02"),
        ("2, 1", "21"),
        ("", ""),
        ("-1", ""),
        ("0,9,1", "0"),
        ("GPU-abb", "1"),
        ("GPU-a", ""),  # of which there are two
        ("1,1", "1"),
        ("MIG-aaaa", ""),
    ],
)
def test_only_visible_gpus_count(wanted: str | None, indices: str) -> None:
    assert "".join(gpu["index"] for gpu in hardware.visible(TABLE, wanted)) == indices


def test_the_load_of_each_gpu_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{TABLE}END\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    assert hardware.gpus() == [
        {"name": "NVIDIA H200", "memory_bytes": 143771 * 2**20},
        {"name": "NVIDIA GB10", "memory_bytes": None},
    ]
    load = hardware.load()
    assert load["gpus"][0] == {
        "name": "NVIDIA H200",
        "memory_bytes": 143771 * 2**20,
        "memory_used_bytes": 2048 * 2**20,
        "utilisation": 1.0,
    }
    assert load["gpus"][1]["utilisation"] is None and load["gpus"][1]["memory_used_bytes"] is None
    assert 0 < load["memory_available_bytes"] <= hardware.describe()["memory_bytes"]
    assert load["cpu_load"] >= 0


def write(folder: Path, rank: int, outcome: str, error: str = "") -> None:
    (folder / outcome_name(rank)).write_text(json.dumps({"outcome": outcome, "error": error}), "utf-8")


def test_the_first_speaks_for_all_unless_another_knows_why(tmp_path: Path) -> None:
    write(tmp_path, 0, "stopped")
    assert concluded(tmp_path, 3, 0, 0)[0] == STOPPED
    write(tmp_path, 0, "died", "Another process of this run has ended")
    code, outcome = concluded(tmp_path, 3, 2, -9)
    assert (code, outcome["outcome"]) == (DIED, "died")
    assert outcome["error"].startswith("Process 3 of 3 ended. The training process was killed (signal 9)")
    write(tmp_path, 2, "refused", "Not even one row fits")
    assert concluded(tmp_path, 3, 2, 65) == (REFUSED, {"outcome": "refused", "error": "Not even one row fits"})


def test_a_lost_process_is_a_death_and_no_fault_of_the_user() -> None:
    from pst.errors import ProcessLost

    assert describe(ProcessLost("gone"))["outcome"] == "died"


@pytest.mark.parametrize("script", ["peers", "peer dies"])
def test_two_processes_under_torchrun(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"train": "spec.json", "base_model": "."}))
    (tmp_path / "config.json").touch()
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/workers/scripted"))
    monkeypatch.setenv("SCRIPT", script)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    events: list[dict[str, Any]] = []
    child = Child(tmp_path, events.append, processes=2)
    if script == "peers":
        eventually(lambda: len(events) > 5, seconds=60)
        child.stop()
    assert child.wait(60)
    outcome = child.outcome()
    steps = [event["step"] for event in events if event["type"] == "progress"]
    assert steps == list(range(1, len(steps) + 1))  # one process tells
    if script == "peers":
        assert outcome["outcome"] == "stopped"
    else:
        assert outcome["outcome"] == "died"
        assert outcome["error"].startswith("Process 2 of 2 ended. The training process was killed (signal 9)")


def test_a_process_that_aborts_because_its_peer_is_gone_is_not_the_one_that_is_named() -> None:
    assert first_to_end({0: (-signal.SIGABRT, 1.0), 1: (-signal.SIGKILL, 1.1)}) == (1, -signal.SIGKILL)
    assert first_to_end({0: (1, 2.0), 1: (-signal.SIGKILL, 1.0)}) == (1, -signal.SIGKILL)
    assert first_to_end({0: (-signal.SIGABRT, 2.0), 1: (-signal.SIGABRT, 1.0)}) == (1, -signal.SIGABRT)


def test_a_full_disk_is_said_in_one_sentence() -> None:
    from safetensors import SafetensorError

    wrapped = RuntimeError("writing failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "" })'),
        wrapped,
    ):
        outcome = describe(error)
        assert outcome["outcome"] == "broken" and outcome["error"].startswith("The worker's disk is full")
    assert "program failed" in describe(OSError(errno.EIO, "broken"))["error"]
