"""A validation split taken from the training rows, class by class."""

from __future__ import annotations

from hub.datasets.formats.rows import Row
from pst.plan.holdout import held_out


def split_off(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(training rows, validation rows), both in the file's order; see :func:`pst.plan.holdout.held_out`."""
    single = all(isinstance(row.label, str) and row.classes for row in rows)
    chosen = held_out(
        [(row.text, row.text_pair) for row in rows], [row.classes for row in rows], share, seed, single=single
    )
    train = [row for index, row in enumerate(rows) if index not in chosen]
    return train, [row for index, row in enumerate(rows) if index in chosen]
