"""Public corpora as they are distributed, where SPARSEWRIGHT_DATA names their folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hub.datasets.formats.problems import Limits, Options
from hub.datasets.formats.validation import Outcome, validate

DATA = Path(os.environ.get("SPARSEWRIGHT_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="SPARSEWRIGHT_DATA does not name the shared data folder")


def corpus(train: str, test: str | None = None, **options: Any) -> Outcome:
    files = {"train": (Path(train).name, (DATA / train).read_bytes())}
    if test:
        files["test"] = (Path(test).name, (DATA / test).read_bytes())
    outcome = validate(files, Options(**options), Limits(200_000, 200, 20_000, 1_000))
    assert not outcome.problems, outcome.problems.listed()
    return outcome


@real
def test_trec() -> None:
    outcome = corpus("trec/train.tsv", "trec/test.tsv", text_column="column_2", label_column="column_1")
    assert outcome.labels == ["0", "1", "2", "3", "4", "5"] and outcome.found["header"] is False
    assert {split: len(rows) for split, rows in outcome.splits.items()} == {
        "train": 4362,
        "validation": 1090,
        "test": 500,
    }
    assert corpus("trec/train.tsv").found["text_column"] == "column_2"


@real
def test_fewclue_eprstmt() -> None:
    outcome = corpus("fewclue-eprstmt/train_few_all.json", "fewclue-eprstmt/test_public.json")
    assert outcome.found["format"] == "jsonl" and outcome.labels == ["Negative", "Positive"]
    assert (
        len(outcome.splits["train"]) + len(outcome.splits["validation"]) == 160 and len(outcome.splits["test"]) == 610
    )


@real
def test_mrpc() -> None:
    outcome = corpus(
        "glue-mrpc/train.tsv", "glue-mrpc/dev.tsv",
        text_column="#1 String", text_pair_column="#2 String", label_column="Quality",
    )  # fmt: skip
    assert outcome.found["encoding"] == "utf-8-sig" and outcome.found["quotes"] is False and outcome.text_pair
    with (DATA / "glue-mrpc/train.tsv").open(encoding="utf-8-sig") as file:
        assert len(outcome.splits["train"]) + len(outcome.splits["validation"]) == sum(1 for _ in file) - 1


@real
def test_ocnli() -> None:
    outcome = corpus("ocnli/train.3k.json", "ocnli/dev.json")
    assert (outcome.found["text_column"], outcome.found["text_pair_column"]) == ("sentence1", "sentence2")
    assert {"contradiction", "entailment", "neutral"} <= set(outcome.labels)
