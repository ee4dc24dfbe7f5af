"""The tasks of the benchmark, tokenised and padded, in one file that travels to a machine without the data sets.

Every task has a training split of at most about 1,000 rows (Banking77 also 3,000), of which a fifth of each class is
held back for validation, and the data set's own test split. Which rows: a seeded shuffle, the same for every method.
"""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

MAX_LENGTH = 128
VALIDATION_SHARE = 0.2
SPLITS = ("train", "validation", "test")

Row = tuple[str, str | None, int]


@dataclass(frozen=True)
class Split:
    """``ids`` and ``types`` (rows, 128), padded with 0; ``lengths`` and ``labels`` (rows)."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


def _tab(path: Path, text: int, pair: int | None, label: int, names: dict[str, int] | None, skip: int) -> list[Row]:
    lines = [line.rstrip("\n").split("\t") for line in path.open(encoding="utf-8-sig")][skip:]
    number = int if names is None else names.__getitem__
    return [(cells[text], None if pair is None else cells[pair], number(cells[label])) for cells in lines]


def _trec(data: Path) -> tuple[list[Row], list[Row]]:
    return _tab(data / "trec/train.tsv", 1, None, 0, None, 0), _tab(data / "trec/test.tsv", 1, None, 0, None, 0)


def _sst2(data: Path) -> tuple[list[Row], list[Row]]:
    at = data / "glue-sst2"
    return _tab(at / "train.tsv", 0, None, 1, None, 1), _tab(at / "dev.tsv", 0, None, 1, None, 1)


def _mrpc(data: Path) -> tuple[list[Row], list[Row]]:
    at = data / "glue-mrpc"
    return _tab(at / "train.tsv", 3, 4, 0, None, 1), _tab(at / "dev.tsv", 3, 4, 0, None, 1)


def _rte(data: Path) -> tuple[list[Row], list[Row]]:
    at, names = data / "glue-rte", {"entailment": 0, "not_entailment": 1}
    return _tab(at / "train.tsv", 1, 2, 3, names, 1), _tab(at / "dev.tsv", 1, 2, 3, names, 1)


def _banking(data: Path) -> tuple[list[Row], list[Row]]:
    names = {name: index for index, name in enumerate(json.loads((data / "banking77/categories.json").read_text()))}

    def read(name: str) -> list[Row]:
        with (data / "banking77" / name).open(encoding="utf-8", newline="") as file:
            return [(row["text"], None, names[row["category"]]) for row in csv.DictReader(file)]

    return read("train.csv"), read("test.csv")


def _first(rows: list[Row], count: int) -> list[Row]:
    return rows[:count]


def _each(rows: list[Row], count: int) -> list[Row]:
    """``count`` rows of each class."""
    taken: dict[int, int] = defaultdict(int)
    kept = []
    for row in rows:
        taken[row[2]] += 1
        if taken[row[2]] <= count:
            kept.append(row)
    return kept


Reader = Callable[[Path], tuple[list[Row], list[Row]]]
TASKS: dict[str, tuple[Reader, Callable[[list[Row], int], list[Row]], int, int]] = {
    "trec": (_trec, _first, 1000, 14),
    "sst2": (_sst2, _each, 1000, 7),
    "banking10": (_banking, _each, 10, 18),
    "banking3000": (_banking, _first, 3000, 5),
    "mrpc": (_mrpc, _first, 1000, 14),
    "rte": (_rte, _first, 1000, 14),
}
"""Name: reader, how rows are chosen, how many, passes over them: about 350 steps of 32 rows for every task."""


def chosen_splits(task: str, data: Path) -> dict[str, list[Row]]:
    """The rows of each split of ``task``."""
    reader, choose, count, _ = TASKS[task]
    train, test = reader(data)
    random.Random(0).shuffle(train)
    by_label: dict[int, list[Row]] = defaultdict(list)
    for row in choose(train, count):
        by_label[row[2]].append(row)
    parts: dict[str, list[Row]] = {"train": [], "validation": [], "test": test}
    for label in sorted(by_label):
        held = round(len(by_label[label]) * VALIDATION_SHARE)
        parts["validation"] += by_label[label][:held]
        parts["train"] += by_label[label][held:]
    return parts


def prepare(data: Path, base: Path, target: Path) -> None:
    """Write ``target``: all tasks with a vocabulary of the tokens that occur, and the base model's weights in float16
    (the float32 of it would be too large a file to carry; every method starts from the same rounded weights)."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    found: dict[str, NDArray[np.int64]] = {}
    for name in TASKS:
        parts = chosen_splits(name, data)
        for split, rows in parts.items():
            found |= {f"{name}.{split}.{key}": value for key, value in _encode(tokenizer, rows).items()}
    ids = [key for key in found if key.endswith(".ids")]
    used = np.unique(np.concatenate([np.unique(found[key]) for key in ids] + [np.array([0])]))
    for key in ids:
        found[key] = np.searchsorted(used, found[key])
    weights = {f"base.{name}": value for name, value in load_file(base / "model.safetensors").items()}
    table = "base.embeddings.word_embeddings.weight"
    weights[table] = weights[table][used]
    floats = {name: value.astype(np.float16) for name, value in weights.items() if value.dtype == np.float32}
    save_file(floats | {key: value.astype(np.int16) for key, value in found.items()}, target)


def _encode(tokenizer: Tokenizer, rows: Iterable[Row]) -> dict[str, NDArray[np.int64]]:
    rows = list(rows)
    encoded = tokenizer.encode_batch([text if pair is None else (text, pair) for text, pair, _ in rows])
    ids, types = np.zeros((2, len(rows), MAX_LENGTH), np.int64)
    for row, one in enumerate(encoded):
        ids[row, : len(one.ids)], types[row, : len(one.ids)] = one.ids, one.type_ids
    lengths = np.array([len(one.ids) for one in encoded])
    return {"ids": ids, "types": types, "lengths": lengths, "labels": np.array([label for _, _, label in rows])}


def read(path: Path) -> tuple[dict[str, dict[str, Split]], dict[str, NDArray[np.float32]]]:
    """(task -> split name -> rows, the base model's tensors) of a prepared file."""
    held = load_file(path)
    splits: dict[str, dict[str, Split]] = defaultdict(dict)
    for task in TASKS:
        for split in SPLITS:
            fields = {
                key: held[f"{task}.{split}.{key}"].astype(np.int64) for key in ("ids", "types", "lengths", "labels")
            }
            splits[task][split] = Split(**fields)
    base = {name.removeprefix("base."): value for name, value in held.items() if name.startswith("base.")}
    return dict(splits), {name: value.astype(np.float32) for name, value in base.items()}
