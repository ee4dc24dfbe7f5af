"""Cores and memory within a container's limits, in both versions of Linux's control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from pst import machine

GIB = 2**30


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}.__getitem__)
    write(tmp_path / "proc/meminfo", f"MemTotal: {64 * 2**20} kB\nMemAvailable: {48 * 2**20} kB\n")
    return tmp_path


def v2(root: Path, own: str = "/", mounted: str = "/") -> Path:
    write(root / "proc/self/cgroup", f"0::{own}\n")
    write(root / "proc/self/mountinfo", f"31 23 0:26 {mounted} {root}/cg rw,nosuid - cgroup2 cgroup2 rw\n")
    return root / "cg"


def v1(root: Path, own: str, mounted: str) -> tuple[Path, Path]:
    write(root / "proc/self/cgroup", f"4:memory:{own}\n3:cpuset:/\n2:cpu,cpuacct:{own}\n0::/\n")
    lines = [f"32 31 0:29 {mounted} {root}/{name} ro - cgroup cgroup rw,{name}" for name in ("cpu,cpuacct", "memory")]
    write(root / "proc/self/mountinfo", "\n".join(lines) + "\n30 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    return root / "cpu,cpuacct", root / "memory"


def test_without_a_limit_it_is_the_machine(root: Path) -> None:
    group = v2(root)
    write(group / "cpu.max", "max 100000\n")
    write(group / "memory.max", "max\n")
    assert (machine.cpus(), machine.memory_bytes(), machine.available_bytes()) == (8, 64 * GIB, 48 * GIB)
    environ: dict[str, str] = {}
    machine.limit_threads(environ)
    assert environ == {}


@pytest.mark.parametrize(("limit", "cpus"), [("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)])
def test_a_container_of_version_2(root: Path, limit: str, cpus: int) -> None:
    group = v2(root)
    write(group / "cpu.max", f"{limit}\n")
    write(group / "memory.max", f"{4 * GIB}\n")
    write(group / "memory.current", f"{3 * GIB}\n")
    write(group / "memory.stat", f"anon 1\ninactive_file {GIB}\nactive_file 7\n")
    assert (machine.cpus(), machine.memory_bytes(), machine.available_bytes()) == (cpus, 4 * GIB, 2 * GIB)
    environ: dict[str, str] = {}
    machine.limit_threads(environ)
    assert environ == {machine.THREADS: str(cpus)}
    machine.limit_threads(chosen := {machine.THREADS: "5"})
    assert chosen == {machine.THREADS: "5"}, "what was set holds"


def test_a_limit_counts_wherever_it_stands_above_the_process(root: Path) -> None:
    group = v2(root, own="/slice/service")
    write(group / "slice/service/memory.max", "max\n")
    write(group / "slice/memory.max", f"{2 * GIB}\n")
    write(group / "slice/memory.current", f"{3 * GIB}\n")
    write(group / "slice/service/cpu.max", "400000 100000\n")
    write(group / "slice/cpu.max", "300000 100000\n")
    assert (machine.cpus(), machine.memory_bytes(), machine.available_bytes()) == (3, 2 * GIB, 0)


@pytest.mark.parametrize(("mounted", "inside"), [("/docker/abc", ""), ("/", "docker/abc"), ("/", "")])
def test_a_container_of_version_1(root: Path, mounted: str, inside: str) -> None:
    """Its own path is the host's, which the container sees whole, from its own group on, or not at all."""
    cpu, memory = v1(root, own="/docker/abc", mounted=mounted)
    write(cpu / inside / "cpu.cfs_quota_us", "150000\n")
    write(cpu / inside / "cpu.cfs_period_us", "100000\n")
    write(memory / inside / "memory.limit_in_bytes", f"{2 * GIB}\n")
    write(memory / inside / "memory.usage_in_bytes", f"{GIB}\n")
    write(memory / inside / "memory.stat", f"cache 1\ntotal_inactive_file {GIB // 2}\n")
    assert machine.cpus() == 1 and machine.quota() == 1.5
    assert (machine.memory_bytes(), machine.available_bytes()) == (2 * GIB, 2 * GIB - GIB // 2)


def test_version_1_without_a_limit(root: Path) -> None:
    cpu, memory = v1(root, own="/docker/abc", mounted="/docker/abc")
    write(cpu / "cpu.cfs_quota_us", "-1\n")
    write(cpu / "cpu.cfs_period_us", "100000\n")
    write(memory / "memory.limit_in_bytes", "9223372036854771712\n")
    write(memory / "memory.usage_in_bytes", f"{GIB}\n")
    assert machine.quota() == math.inf
    assert (machine.cpus(), machine.memory_bytes(), machine.available_bytes()) == (8, 64 * GIB, 48 * GIB)


def test_a_system_without_control_groups(root: Path) -> None:
    assert machine.cpus() == 8 and machine.memory_bytes() == 64 * GIB
