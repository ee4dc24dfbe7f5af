"""Paging through a split's canonical rows without reading them all into memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any

from hub.core.storage import open_blob
from hub.datasets.formats.rows import from_line, label_end
from hub.datasets.models import DatasetSplit


class RowPages:
    """The rows of a split, numbered from 1, as the sequence that a paginator slices; ``label`` keeps one class."""

    def __init__(self, split: DatasetSplit, label: str | None = None) -> None:
        self.split = split
        self.end = None if label is None else label_end(label)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with open_blob(self.split.sha256) as blob:
            for number, line in enumerate(blob, start=1):
                if self.end is None or line.endswith(self.end):
                    yield number, line

    @cached_property
    def _count(self) -> int:
        return self.split.rows if self.end is None else sum(1 for _ in self._lines())

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, wanted: slice) -> list[dict[str, Any]]:
        return [
            {"row": number, "text_pair": None} | from_line(line)
            for number, line in islice(self._lines(), wanted.start, wanted.stop)
        ]
