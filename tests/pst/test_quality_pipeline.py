"""The quality benchmark's runs of the product's own pipeline."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.benchmarks.quality import pipeline
from tests.benchmarks.quality.pipeline import Case, run_case
from tests.pst.conftest import WORDS, write_base


def test_a_case_is_one_run_of_the_product(tmp_path: Path) -> None:
    draw, at = random.Random(1), tmp_path / "rows/eprstmt"
    at.mkdir(parents=True)
    for split, count in (("train", 32), ("validation", 8), ("test", 8)):
        labels = [draw.choice(["animal", "tool"]) for _ in range(count)]
        rows = [{"text": f"my {draw.choice(WORDS[label])} is here", "label": label} for label in labels]
        (at / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    about = {"task": "classification", "labels": ["animal", "tool"], "rows": 32}
    (at / "task.json").write_text(json.dumps(about), "utf-8")
    base, work = write_base(tmp_path / "base"), tmp_path / "work"

    lines = [
        run_case(Case("e5", "eprstmt", method, sparsity, 1e-3), base, tmp_path / "rows", work, 4)
        for method, sparsity in (("dense", 0.0), ("pst", 0.9), ("pst", 0.5), ("published", 0.9))
    ]

    assert [line["steps"] for line in lines] == [4] * 4
    assert [line["reached"] for line in lines] == pytest.approx([0.0, 0.9, 0.5, 0.9], abs=0.01)
    assert len([path for path in work.iterdir() if path.is_dir()]) == 1  # one dense model taught both runs of pst
    shown = pipeline.table(lines)
    assert f"| pst | 90% | {100 * lines[1]['test']:.1f} |" in shown
    assert shown.count("\n") == 6
