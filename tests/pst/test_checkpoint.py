from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pst.errors import PSTError
from pst.training import checkpoint


def names(folder: Path) -> list[str]:
    return [path.name for path in sorted((folder / "checkpoints").iterdir())]


def test_two_files_are_kept_and_damage_is_a_plain_error(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        path = checkpoint.save(tmp_path, {"x": torch.ones(3)}, {"phase": "train", "step": step})
    assert names(tmp_path) == ["train-000020.safetensors", "train-000100.safetensors"]
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state["step"] == 100
    (tmp_path / "resume.safetensors").write_bytes(path.read_bytes()[:-4])
    with pytest.raises(PSTError, match="can't be read"):
        checkpoint.newest(tmp_path)


def test_the_train_phase_comes_after_the_dense_phase(tmp_path: Path) -> None:
    for phase, step in (("dense", 7), ("dense", 50), ("train", 0)):
        checkpoint.save(tmp_path, {"x": torch.ones(3)}, {"phase": phase, "step": step})
    assert names(tmp_path) == ["train-000000.safetensors"]
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state == {"phase": "train", "step": 0}


def test_resume_file_is_found(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {"x": torch.ones(3)}, {"phase": "dense", "step": 7})
    path.rename(tmp_path / "resume.safetensors")
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.state["step"] == 7
    assert checkpoint.newest(tmp_path / "checkpoints") is None
