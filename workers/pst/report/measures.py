"""All eight measures of a finished run, put together. What each entry means: docs/guides/report.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from pst.data import Encoded
from pst.report import FORMAT, VERSION, cost
from pst.report.answers import Compared, loyalty, quality, robustness


def complete(
    report: dict[str, Any],
    *,
    compared: Compared,
    rows: Sequence[Encoded],
    export: Path,
    dense: PreTrainedModel,
    sparse: PreTrainedModel,
    pictures: dict[str, Any],
    carbon: dict[str, Any],
) -> dict[str, Any]:
    """``report`` with format, version, measures and pictures.

    ``dense`` and ``sparse`` are on the CPU: a model of the dense shape, and the one that was loaded from ``export``;
    ``rows`` give the tokens with which they are timed.
    """
    task, params = compared.task, report["params"]
    measures = {
        "quality": quality(compared, report["metrics"], report["dense"]),
        "flops": cost.operations(task, rows, dense, sparse),
        "time": cost.times(task, rows, dense, sparse, compared.seed),
        "trainable": cost.trainable(params["trainable"], params["total"]),
        "size": cost.size(export, dense, sparse),
        "carbon": carbon,
        "loyalty": loyalty(compared),
        "robustness": robustness(compared),
    }
    return {"format": FORMAT, "version": VERSION} | report | {"measures": measures, "pictures": pictures}
