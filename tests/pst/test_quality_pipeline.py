"""The quality benchmark's runs of the product's own pipeline."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

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


class _Threads(ThreadPoolExecutor):
    def __init__(self, count: int, mp_context: object, initializer: Callable[[Any], None], initargs: Any) -> None:
        super().__init__(count, initializer=initializer, initargs=initargs)


def test_what_teaches_and_what_is_searched_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Case] = []

    def fake(case: Case, *arguments: object) -> dict[str, Any]:
        ran.append(case)
        if case.method == "published" and case.rate == 5e-4:
            raise RuntimeError("out of memory")
        return {**asdict(case), "validation": case.rate, "test": 0.5, "seconds": 1.0}

    monkeypatch.setattr(pipeline, "run_case", fake)
    monkeypatch.setattr(pipeline, "ProcessPoolExecutor", _Threads)
    target = tmp_path / "results.jsonl"
    bases = {"e5": tmp_path}
    pipeline.run(bases, tmp_path, tmp_path, target, tasks=["ocnli", "eprstmt"], methods=["pst", "published"])
    found = [(case.task, case.method, case.sparsity, case.rate) for case in ran]
    assert found == [
        ("ocnli", "pst", 0.9, 1e-3),
        ("ocnli", "published", 0.9, 5e-4),
        ("ocnli", "published", 0.9, 1e-3),
        ("ocnli", "pst", 0.9, 2e-3),
        ("ocnli", "pst", 0.5, 2e-3),
        ("ocnli", "pst", 0.99, 2e-3),
        ("eprstmt", "pst", 0.9, 1e-3),
        ("eprstmt", "published", 0.9, 5e-4),
        ("eprstmt", "published", 0.9, 1e-3),
        ("eprstmt", "pst", 0.9, 2e-3),
        ("eprstmt", "pst", 0.5, 2e-3),
        ("eprstmt", "pst", 0.99, 2e-3),
    ]
    assert len(target.read_text().splitlines()) == len(ran) - 2

    ran.clear()
    pipeline.run(bases, tmp_path, tmp_path, target, tasks=["ocnli"], methods=["pst", "published"])
    assert [case.method for case in ran] == ["published"]  # what failed
    ran.clear()
    pipeline.run(bases, tmp_path, tmp_path, target, tasks=["eprstmt"], seconds=0.0)
    assert not ran
