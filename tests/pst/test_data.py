from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pst.errors import PSTError
from pst.model.data import Row, epoch_batches, length_sorted_batches, read_objects, split_off


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 5))
def test_every_row_is_seen_once_a_pass(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = epoch_batches(lengths, batch_size, 3, epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert max(map(len, batches)) <= batch_size
    assert batches == epoch_batches(lengths, batch_size, 3, epoch)


def test_order_depends_on_seed_and_epoch() -> None:
    lengths = [1] * 100
    orders = [epoch_batches(lengths, 10, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(one != other for index, one in enumerate(orders) for other in orders[:index])


def test_rows_of_like_length_lie_together() -> None:
    lengths = torch.randint(1, 100, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = epoch_batches(lengths, 20, 0, 0)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.15 * sum(lengths)


def test_evaluation_batches_cover_all_rows() -> None:
    assert length_sorted_batches([3, 1, 2, 1], 3) == [[1, 3, 2], [0]]


def test_split_is_stratified_and_keeps_every_row() -> None:
    rows = [Row(f"r{i}", None, i % 3 if i < 90 else 3) for i in range(92)]
    classes = [(int(row.label),) for row in rows]  # type: ignore[arg-type]
    train, validation = split_off(rows, classes, 0.2, 5, single=True)
    assert Counter(row.label for row in validation) == {0: 6, 1: 6, 2: 6, 3: 1}
    assert sorted(row.text for row in train + validation) == sorted(row.text for row in rows)
    assert (train, validation) == split_off(rows, classes, 0.2, 5, single=True)
    assert split_off(rows, classes, 0.2, 6, single=True)[1] != validation


def test_too_few_rows_to_split() -> None:
    with pytest.raises(PSTError, match="too few rows"):
        split_off([Row("a", None, 0), Row("b", None, 1)], [(0,), (1,)], 0.2, 0, single=True)


def test_a_split_keeps_rows_of_one_source_together() -> None:
    rows = [Row(f"source {i // 3}", None, references=(f"r{i}",)) for i in range(30)]
    none: list[tuple[int, ...]] = [() for _ in rows]
    train, validation = split_off(rows, none, 0.2, 5, single=False)
    assert len(validation) == 6
    assert not {row.text for row in train} & {row.text for row in validation}
    assert (train, validation) == split_off(rows, none, 0.2, 5, single=False)
    with pytest.raises(PSTError, match="too few rows"):
        split_off(rows[:3], none[:3], 0.2, 5, single=False)


def test_unusual_line_separators_stay_inside_a_text(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two\x85three"}, ensure_ascii=False) + "\n", "utf-8")
    assert list(read_objects(path)) == [("train.jsonl, line 1", {"text": "one\u2028two\x85three"})]


def test_files_that_hold_no_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "caf\xe9"}')
    for name, words in (("empty", "no rows"), ("none", "does not exist"), ("latin", "not UTF-8 text")):
        with pytest.raises(PSTError, match=words):
            list(read_objects(tmp_path / f"{name}.jsonl"))


def test_rows_are_named_by_the_users_own_file_and_line(tmp_path: Path) -> None:
    at = tmp_path / "train.jsonl"
    at.write_text('{"text": "a"}\n\n{"text": "b"}\n[]\n')
    (tmp_path / "train.lines.json").write_text(json.dumps({"file": "my data.csv", "lines": [3, 18, 21]}))
    with pytest.raises(PSTError, match=r"^my data\.csv, line 21: a row must be a JSON object"):
        list(read_objects(at))
    rows = read_objects(at)
    assert [next(rows)[0], next(rows)[0]] == ["my data.csv, line 3", "my data.csv, line 18"]
    (tmp_path / "train.lines.json").write_text("[]")
    with pytest.raises(PSTError, match=r'train\.lines\.json must hold \{"file"'):
        next(read_objects(at))
