"""A validation split taken from the training rows, class by class."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

from hub.datasets.formats.rows import Row


def split_off(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(training rows, validation rows), both in the file's order.

    Each class gives ``share`` of its rows, rounded, at least one and never all; a class with one row stays in training.
    Where rows have no class, or several, they all are one, and no row goes that is the last in training with one of its
    classes. Rows with the same texts stay together, so that repeated
    rows, or references of one source, do not leak into validation.
    """
    classes: dict[str, dict[tuple[str, str | None], list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(rows):
        single = row.classes if isinstance(row.label, str) else ()
        classes[single[0] if single else ""][row.text, row.text_pair].append(index)
    chosen: set[int] = set()
    for label in sorted(classes):
        groups = list(classes[label].values())
        if len(groups) < 2:
            continue
        wanted = max(1, round(share * sum(map(len, groups))))
        # One generator per class: adding a class changes nothing for the others.
        random.Random(f"{seed}:{label}").shuffle(groups)  # noqa: S311 (a split, not a secret)
        several = [{each for index in group for each in rows[index].classes} for group in groups] if not label else []
        left = Counter(each for found in several for each in found)
        taken: list[int] = []
        for number, group in enumerate(groups[:-1]):
            if len(taken) >= wanted:
                break
            if several and any(left[each] < 2 for each in several[number]):
                continue
            left.subtract(several[number] if several else ())
            taken += group
        chosen.update(taken)
    train = [row for index, row in enumerate(rows) if index not in chosen]
    return train, [row for index, row in enumerate(rows) if index in chosen]
