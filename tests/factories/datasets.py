"""Data sets, uploaded and validated by the product's own services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.accounts.actor import actor_of_user
from hub.datasets.models import Dataset, Split
from hub.datasets.services import datasets
from tests.factories.accounts import Person

ROWS = [
    (f"please {verb} order {number}", label) for number in range(6) for verb, label in (("send", "a"), ("stop", "b"))
]


def csv_of(rows: Sequence[Sequence[str]], columns: Sequence[str] = ("text", "label")) -> bytes:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [columns, *rows]]
    return ("\n".join(quoted) + "\n").encode()


def uploaded(person: Person, files: Mapping[str, bytes] | None = None, **options: Any) -> Dataset:
    """A data set that waits for validation. ``files`` maps splits to the content of CSV files."""
    contents = files or {"train": csv_of(ROWS)}
    return datasets.create_dataset(
        actor=actor_of_user(person.user),
        workspace=person.workspace,
        name="orders",
        files={Split(split): datasets.Upload(f"{split}.csv", [content]) for split, content in contents.items()},
        options=options,
    )


def validated(person: Person, files: Mapping[str, bytes] | None = None, **options: Any) -> Dataset:
    """A data set that has been validated: ready, or invalid if the files are."""
    dataset = uploaded(person, files, **options)
    datasets.validate_dataset(dataset_id=dataset.id)
    dataset.refresh_from_db()
    return dataset
