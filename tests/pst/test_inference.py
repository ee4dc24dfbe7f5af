"""``pst.load``: a published model from a folder or a Hub, asked as a serving node is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import pst
from pst.config import TrainSettings
from pst.errors import PSTError
from pst.files.formats import SPARSE_FOLDER
from pst.native import inference
from pst.native.modules import SparseLinear
from tests.pst.runs import run_unchecked
from tests.pst.test_export import published
from tests.pst.test_hf import exported
from tests.pst.test_report import Finished
from tests.pst.texts import write_base


@pytest.fixture(scope="module")
def done(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(*run_unchecked(tmp_path_factory.mktemp("load") / "job", base, epochs=1, dense_epochs=1))


def test_a_folder_answers_as_a_node_does(done: Finished) -> None:
    model = pst.load(done.folder / "export")
    assert model.task == "classification" and model.engine.startswith("the sparse engine")
    one, pair = model.predict(["red green", ("red", "green blue")], top_k=1)
    assert one["label"] in model.labels and 0 < one["score"] <= 1
    assert list(one["probabilities"]) == [one["label"]] and pair["label"] in model.labels
    assert model.predict([]) == []
    with pytest.raises(PSTError, match="writes no texts"):
        model.generate(["red"])


def generator(folder: Path, sparsity: float) -> Path:
    chosen = TrainSettings(method="magnitude")
    published(write_base(folder / "base", "llama", "generation"), folder / "export", "generation", chosen, sparsity)
    return folder / "export"


def test_the_sparse_maps_of_a_generator_write_what_dense_ones_do(tmp_path: Path) -> None:
    folder, cpu = generator(tmp_path, sparsity=0.9), torch.device("cpu")
    sparse, dense = inference.on_torch(folder, cpu, packs=True), inference.on_torch(folder, cpu, packs=False)
    assert sparse.engine == "torch, with 14 sparse maps" and dense.engine == "torch, expanded"
    assert sparse.generate(["red green", "blue"]) == dense.generate(["red green", "blue"])
    assert pst.load(folder).engine == sparse.engine
    held: Any = sparse
    modules = [module for module in held._model.modules() if isinstance(module, SparseLinear)]
    assert sum(module.packed.bytes for module in modules) < 0.3 * sum(
        4 * module.in_features * module.out_features for module in modules
    )


def test_maps_that_keep_many_weights_are_expanded(tmp_path: Path) -> None:
    assert pst.load(generator(tmp_path, sparsity=0.5)).engine == "torch, expanded"


def test_a_file_that_does_not_fit_its_config_is_refused(tmp_path: Path) -> None:
    exported(tmp_path, "gpt2", "classification")
    path = tmp_path / "export" / SPARSE_FOLDER / "index.json"
    index = json.loads(path.read_text())
    index["tensors"]["transformer.ln_f.other"] = index["tensors"].pop("transformer.ln_f.weight")
    path.write_text(json.dumps(index))
    with pytest.raises(PSTError, match=r"the tensor transformer\.ln_f\.\w+ is missing"):
        pst.load(tmp_path / "export")


def test_what_can_t_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PSTError, match="There is no folder nobody/nothing-at-all, and no such model can be fetched"):
        pst.load("nobody/nothing-at-all")
    with pytest.raises(PSTError, match="which has no revisions"):
        pst.load(tmp_path, revision="v1")
    with pytest.raises(PSTError, match="There is no base model in"):
        pst.load(tmp_path)


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, pst, pst.native.inference; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
