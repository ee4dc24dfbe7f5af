"""Data sets: upload, validation, rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pst_client.api import API, UPLOAD_SECONDS, Json, given
from pst_client.errors import PlatformError

if TYPE_CHECKING:
    from pst_client.client import Http


class Datasets:
    def __init__(self, http: Http) -> None:
        self._http = http

    def create(
        self,
        file: Path,
        *,
        validation_file: Path | None = None,
        test_file: Path | None = None,
        **options: str | float | None,
    ) -> Json:
        """Upload files of rows. ``options``: name, workspace, task, format, encoding, delimiter, header, text_column,
        text_pair_column, label_column, references_column, label_separator, validation_share, seed.

        Validation goes on afterwards: see :meth:`wait`."""
        paths = given(file=file, validation_file=validation_file, test_file=test_file)
        with ExitStack() as stack:
            files = {field: (path.name, stack.enter_context(path.open("rb"))) for field, path in paths.items()}
            data = {name: str(value) for name, value in given(**options).items()}
            # Not sent twice: the open files have been read, and a second data set would be made.
            return self._http.mapping("POST", f"{API}/datasets", files=files, data=data, timeout=UPLOAD_SECONDS)

    def create_sample(self, *, workspace: str | None = None) -> Json:
        return self._http.mapping("POST", f"{API}/datasets/sample", json=given(workspace=workspace))

    def get(self, dataset_id: str) -> Json:
        return self._http.mapping("GET", f"{API}/datasets/{dataset_id}")

    def find(self, **filters: str | int | None) -> Json:
        return self._http.mapping("GET", f"{API}/datasets", params=given(**filters))

    def delete(self, dataset_id: str) -> None:
        self._http.json("DELETE", f"{API}/datasets/{dataset_id}")

    def rows(
        self, dataset_id: str, *, split: str = "train", label: str | None = None, page_size: int = 100
    ) -> Iterator[Json]:
        """Every row of a split, fetched page by page."""
        params = given(split=split, label=label, page_size=page_size)
        yield from self._http.pages(f"{API}/datasets/{dataset_id}/rows", params)

    def wait(self, dataset_id: str, *, seconds: float = 600.0, interval: float = 0.5) -> Json:
        """Return the data set once its validation has ended: ``state`` is ``ready`` or ``invalid``."""
        deadline = time.monotonic() + seconds
        while (found := self.get(dataset_id))["state"] == "validating":
            if time.monotonic() > deadline:
                raise PlatformError(
                    "timeout",
                    f"Data set {dataset_id} is not validated after {seconds:.0f} s: does the platform's worker run?",
                )
            time.sleep(interval)
        return found
