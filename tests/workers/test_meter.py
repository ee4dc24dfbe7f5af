"""What a worker tells of its machine while a job runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from pst_client import hardware
from pst_client.contract import EventData, Resources
from pst_worker import meter
from pst_worker.meter import Meter
from pst_worker.stream import JobStream

HOLDS = 64 * 2**20


class Heard:
    """A stream that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[EventData] = []

    def add(self, data: EventData) -> None:
        self.events.append(data)


def test_the_machine_is_read_at_once_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "SECONDS", 0.02)
    heard = Heard()
    code = f"import time; held = b'x' * {HOLDS}; print('ready', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    try:
        with Meter(cast(JobStream, heard), child.pid):
            while len(heard.events) < 3:
                time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    count = len(heard.events)
    time.sleep(0.1)
    assert len(heard.events) == count, "it went on after the job's end"
    found = heard.events[-1]
    assert isinstance(found, Resources)
    assert found.processor and found.cpus == len(os.sched_getaffinity(0))
    assert found.job_memory_bytes is not None and HOLDS < found.job_memory_bytes < 4 * HOLDS
    assert found.memory_bytes is not None and found.memory_available_bytes is not None
    assert 0 < found.memory_available_bytes < found.memory_bytes


def test_a_session_that_ended_has_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    child.wait()
    assert hardware.session_bytes(child.pid) is None


def test_a_system_without_proc_tells_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "PROC", tmp_path)
    assert hardware.session_bytes(os.getsid(0)) is None
    assert hardware.processor()
    assert hardware.load()["memory_available_bytes"] > 0


def test_a_process_may_have_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "PROC", tmp_path)
    numbers = " ".join(str(n) for n in range(7, 25))
    for pid, session in ((5, 4), (6, 4), (9, 8)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) S 1 (b c) S 1 {pid} {session} {numbers}")
    (tmp_path / "10").mkdir()  # it ended between the list and the reading
    page = os.sysconf("SC_PAGE_SIZE")
    assert hardware.session_bytes(4) == 2 * 24 * page
    assert hardware.session_bytes(8) == 24 * page


def test_a_sessions_processor_time_counts_what_it_waited_for() -> None:
    code = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'sum(range(20_000_000))'])\n"
    code += "print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert hardware.session_seconds(process.pid) > 0.1
        process.kill()
    assert hardware.session_seconds(process.pid) == 0
