from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pst.base import load_tokenizer
from pst.data import Row, collate, encode, epoch_batches, length_sorted_batches, read_rows, stratified_split
from pst.errors import PSTError


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
    train, validation = stratified_split(rows, 0.2, 5)
    assert Counter(row.label for row in validation) == {0: 6, 1: 6, 2: 6}
    assert sorted(row.text for row in train + validation) == sorted(row.text for row in rows)
    assert (train, validation) == stratified_split(rows, 0.2, 5)
    assert stratified_split(rows, 0.2, 6)[1] != validation


def test_too_few_rows_to_split() -> None:
    with pytest.raises(PSTError, match="too few rows"):
        stratified_split([Row("a", None, 0), Row("b", None, 1)], 0.2, 0)


@pytest.mark.parametrize(
    "line,words",
    [
        ("{", "line 2: not valid JSON"),
        ('["a"]', 'line 2: a row needs a "text"'),
        ('{"text": 3, "label": "a"}', 'line 2: a row needs a "text"'),
        ('{"text": "x", "label": "c"}', "line 2: label 'c'"),
        ('{"text": "x"}', "line 2: label None"),
        ('{"text": "x", "label": "a", "text_pair": 1}', 'line 2: "text_pair"'),
    ],
)
def test_bad_rows_name_their_line(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "fine", "label": "a"}) + "\n" + line + "\n")
    with pytest.raises(PSTError, match=words):
        read_rows(path, ["a", "b"])


def test_unusual_line_separators_stay_inside_a_text(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two\x85three", "label": "b"}, ensure_ascii=False) + "\n", "utf-8")
    assert read_rows(path, ["a", "b"]) == [Row("one\u2028two\x85three", None, 1)]


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(PSTError, match="no rows"):
        read_rows(tmp_path / "empty.jsonl", ["a", "b"])
    with pytest.raises(PSTError, match="does not exist"):
        read_rows(tmp_path / "none.jsonl", ["a", "b"])


def test_pairs_are_cut_padded_and_typed(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    rows = [Row("the red dog", "a saw", 0), Row("red", None, 1), Row("the " * 50, "old", 2)]
    encoded = encode(tokenizer, rows, 10)
    assert [len(row.input_ids) for row in encoded] == [8, 4, 10]
    inputs, labels = collate(encoded, tokenizer.pad_token_id, torch.device("cpu"))
    assert inputs["input_ids"].shape == inputs["token_type_ids"].shape == (3, 10)
    assert inputs["attention_mask"].sum(1).tolist() == [8, 4, 10]
    assert inputs["token_type_ids"][0].tolist() == [0] * 5 + [1] * 3 + [0] * 2
    assert labels.tolist() == [0, 1, 2]
