"""Every family with every task that it can learn, at the settings that a user gets: trained, exported, loaded, asked.

The cases are made from the family table itself. A few steps on a tiny model are enough: what fails here fails at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pst import pipeline
from pst.config import TrainSettings
from pst.model.data import Row
from pst.native import inference
from pst.plan.families import FAMILIES
from tests.pst.conftest import QUICK, write_rows
from tests.pst.texts import WORDS, write_base

AMOUNTS = {"epochs": 1, "dense_epochs": 1, "batch_size": 8, "evaluations": 2, "max_target_length": 8}
"""How much is trained is all that differs from a user's default."""
CASES = [(family, task) for family, found in sorted(FAMILIES.items()) for task in found.tasks]
LABELS = ["low", "middle", "high"]
ROWS = 11


def row(task: str, index: int) -> dict[str, Any]:
    text = " ".join(WORDS[(index * step) % len(WORDS)] for step in range(1, 3 + index % 5))
    if task == "generation":
        return {"source": text, "target": " ".join(reversed(text.split()))}
    label = index % len(LABELS)
    answers: dict[str, Any] = {
        "classification": LABELS[label],
        "regression": index / ROWS,
        "multilabel": LABELS[label:],
    }
    return {"text": text, "label": answers[task]}


@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_family_learns_a_task_at_default_settings(tmp_path: Path, family: str, task: str) -> None:
    base, folder = write_base(tmp_path / "base", family, task), tmp_path / "job"
    write_rows(folder / "train.jsonl", [row(task, index) for index in range(ROWS)])
    write_rows(folder / "validation.jsonl", [row(task, index) for index in range(5, 9)])
    spec = {
        "base_model": str(base),
        "task": task,
        "labels": LABELS if task in ("classification", "multilabel") else [],
        "train": "train.jsonl",
        "validation": "validation.jsonl",
        "settings": AMOUNTS,
        "target": {"sparsity": 0.6},
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    texts = [str(row(task, index).get("text") or row(task, index)["source"]) for index in range(5)]
    trained: list[Any] = []

    def ask(model: Any, of: Any) -> None:
        rows = [{"text": text, "source": text, "target": "red", "label": row(task, 0).get("label")} for text in texts]
        write_rows(tmp_path / "asked.jsonl", rows)
        trained.extend(of.answer(model, of.encode(of.read(tmp_path / "asked.jsonl"))))

    report = pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False, quick=True, merged=ask)
    assert report["sparsity"]["reached"] == pytest.approx(0.6, abs=0.01)
    export = folder / "export"
    for loaded in (inference.on_torch(export, torch.device("cpu"), packs=False), inference.open_folder(export)):
        served = loaded.answers([Row(text, None) for text in texts])
        if task == "generation":
            assert served == trained
        else:
            torch.testing.assert_close(torch.tensor(served), torch.tensor(trained), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shared", [AMOUNTS, QUICK])
def test_shared_settings_change_amounts_and_no_kind(shared: dict[str, Any]) -> None:
    """What every user gets must be what every test gets: only a test of its own may switch something off."""
    numbers = {"epochs", "dense_epochs", "batch_size", "evaluations", "max_target_length", "update_rank", "score_rank"}
    rates = {name for name in TrainSettings.__dataclass_fields__ if name.endswith("learning_rate")}
    assert set(shared) <= numbers | rates
    assert all(value > 0 for value in shared.values())
