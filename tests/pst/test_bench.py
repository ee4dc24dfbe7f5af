"""``pst bench``: every engine that is here, on the same tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pst.__main__ import main
from pst.native.model import int8
from pst.report import timing
from tests.pst.runs import run_unchecked
from tests.pst.test_hf import exported
from tests.pst.test_report import Finished


@pytest.fixture(scope="module")
def done(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(*run_unchecked(tmp_path_factory.mktemp("bench") / "job", base, epochs=1, dense_epochs=1))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BUDGET_SECONDS", 0.0)


def found(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> dict[str, Any]:
    assert main(["bench", str(folder), "--json", "--threads", "1", *options]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_an_encoder_runs_on_torch_and_on_the_sparse_engine(done: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    said = found(capsys, done.folder / "export", "--rows", "1", "2", "--tokens", "8")
    names = ["torch float32", "torch bfloat16", "sparse float32"] + ["sparse int8"] * int8()
    assert list(said["engines"]) == names
    assert next(name for name, engine in said["engines"].items() if engine["serves"]).startswith("sparse")
    sizes = [said["engines"][name]["bytes"] for name in names[:3]]
    assert (
        sizes[0] == 4 * done.report["measures"]["size"]["parameters"]["sparse"] == 2 * sizes[1] and sizes[2] < sizes[0]
    )
    assert [(shape["rows"], shape["tokens"]) for shape in said["shapes"]] == [(1, 8), (2, 8)]
    for shape in said["shapes"]:
        assert list(shape["engines"]) == names and shape["engines"]["torch float32"]["difference"] == 0
        assert shape["engines"]["sparse float32"]["difference"] < 1e-4
        assert all(0 < engine["p50_ms"] <= engine["p95_ms"] for engine in shape["engines"].values())


def test_of_a_generator_the_sparse_maps_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path, "llama", "generation", sparsity=0.9)
    engines = found(capsys, tmp_path / "export", "--rows", "1", "--tokens", "8")["engines"]
    assert [name for name, engine in engines.items() if engine["serves"]] == ["torch, sparse maps"]
    assert engines["torch, sparse maps"]["bytes"] < engines["torch float32"]["bytes"]


def test_the_table_says_what_a_node_runs(done: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(done.folder / "export"), "--rows", "1", "--tokens", "8"]) == 0
    shown = capsys.readouterr().out
    assert "ms, 1 x 8" in shown and "MB of weights" in shown and "what a serving node runs" in shown


def test_what_can_t_be_measured_is_said(done: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(done.folder / "export"), "--tokens", "4096"]) == 1
    assert "tokens at most, not 4096" in capsys.readouterr().err
    assert main(["bench", str(tmp_path)]) == 1
    assert "There is no base model in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", str(tmp_path), "--rows", "0"])
    assert "must be from 1 to" in capsys.readouterr().err
