"""Two processes on the CPU train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from pst.errors import PSTError
from pst.sparsity.masks import Selection
from pst.training.parallel import ALONE, Peers, checksum, joined
from tests.pst.conftest import write_job
from tests.pst.two_processes import CASES, case

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def both(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of :mod:`tests.pst.two_processes` under torchrun."""
    folder = tmp_path_factory.mktemp("both")
    write_job(folder / "job", base, epochs=2, dense_epochs=1, evaluations=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    path = os.pathsep.join([str(ROOT / "workers"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", "-m", "tests.pst.two_processes", str(folder), str(base)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr, "utf-8")
    return folder


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, json.loads(file.metadata()["state"])


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(base: Path, both: Path, name: str) -> None:
    alone = case(name, base)
    (first, state), (second, _) = read(both / f"{name}-0.safetensors"), read(both / f"{name}-1.safetensors")
    assert state["step"] == alone.course.total >= 8
    assert state["metric"] == alone.metric
    for key, parameter in alone.trained.items():
        assert torch.equal(first[f"trained.{key}"], second[f"trained.{key}"]), key
        torch.testing.assert_close(first[f"trained.{key}"], parameter.detach(), rtol=1e-5, atol=1e-5, msg=key)


def test_a_run_of_two_resumes_bit_equal(both: Path) -> None:
    for rank in (0, 1):
        (whole, state), (again, resumed) = (
            read(both / f"whole-{rank}.safetensors"),
            read(both / f"resumed-{rank}.safetensors"),
        )
        assert state == resumed
        assert whole.keys() == again.keys()
        assert all(torch.equal(tensor, again[key]) for key, tensor in whole.items())
        assert any(key.startswith("selection.") for key in whole)


def test_the_command_line_trains_with_two(both: Path) -> None:
    job, said = both / "job", (both / "stderr").read_text("utf-8")
    report = json.loads((job / "report.json").read_text("utf-8"))
    assert 0.9 <= report["sparsity"]["reached"] < 0.91  # whole neurons went with their last weight
    assert (job / "export" / "model.safetensors").is_file() or (job / "export" / "sparse").is_dir()
    assert said.count("prepare") == said.count("report") == 1  # one process tells


def test_a_batch_is_shared_out() -> None:
    rows = list(range(10, 17))
    shares = [Peers(rank, 3).shard(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows
    assert {len(share) for share in shares} == {2, 3}
    assert all(sorted([*Peers(rank, 3).others(rows), *shares[rank]]) == rows for rank in range(3))
    assert Peers(2, 3).shard(rows[:2]) == []


def test_alone_nothing_is_communicated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as peers:
        assert peers is ALONE
    parameter = nn.Parameter(torch.zeros(2))
    loss = torch.tensor(1.5)
    assert ALONE.all_reduce([parameter], loss) is loss and parameter.grad is None
    assert (ALONE.all_reduce_min(3), ALONE.all_reduce_max(3, -4), ALONE.broadcast((0.5, 0.25))) == (
        3,
        [3, -4],
        (0.5, 0.25),
    )
    before = torch.get_rng_state()
    ALONE.seed(1, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {"a": torch.arange(4.0)}
    chosen = [Selection(torch.tensor(0.5), 3)]
    known = checksum(trained, chosen)
    assert checksum({"a": torch.arange(4.0)}, chosen) == known
    assert checksum({"a": torch.arange(4.0).add(1e-6)}, chosen) != known
    assert checksum(trained, [Selection(torch.tensor(0.5), 2)]) != known
    peers = Peers(0, 2)
    monkeypatch.setattr(
        Peers, "all_reduce_max", lambda self, *values: [max(one, two) for one, two in zip(values, (7, -7), strict=True)]
    )
    with pytest.raises(PSTError, match="no longer hold the same weights and masks"):
        peers.check_equal(trained, lambda: chosen)


def test_random_numbers_differ_between_processes_and_steps() -> None:
    def drawn(rank: int, step: int) -> float:
        Peers(rank, 2).seed(42, step)
        return float(torch.rand(()))

    assert drawn(0, 5) == drawn(0, 5)
    assert len({drawn(rank, step) for rank in range(2) for step in range(4)}) == 8
