"""All eight measures of a finished run, put together. What each entry means: docs/guides/report.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from pst.model.data import Encoded
from pst.report import FORMAT, VERSION, cost
from pst.report.answers import Compared, loyalty, quality, robustness


def complete(
    report: dict[str, Any],
    *,
    compared: Compared,
    rows: Sequence[Encoded],
    export: Path,
    models: tuple[PreTrainedModel, PreTrainedModel] | None,
    pictures: dict[str, Any],
    carbon: dict[str, Any],
) -> dict[str, Any]:
    """``report`` with format, version, measures and pictures.

    ``models`` are on the CPU: one of the dense shape, and the one that was loaded from ``export``; ``rows`` give the
    tokens with which they are timed. Without them, operations and time are None.
    """
    task, params = compared.task, report["params"]
    served = cost.served(export, task.name)
    measures = {
        "quality": quality(compared, report["metrics"], report["dense"]),
        "flops": None if models is None else cost.operations(task, rows, *models),
        "time": None if models is None else cost.times(task, rows, *models, served, compared.seed),
        "trainable": cost.trainable(params["trainable"], params["total"]),
        "size": cost.size(export, models, params, served),
        "carbon": carbon,
        "loyalty": loyalty(compared),
        "robustness": robustness(compared),
    }
    return {"format": FORMAT, "version": VERSION} | report | {"measures": measures, "pictures": pictures}
