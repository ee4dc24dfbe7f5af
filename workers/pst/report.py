"""The report of a run: ``report.json`` and its card for a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pst.errors import PSTError

REPORT_FILE = "report.json"


def write(report: dict[str, Any], path: Path) -> None:
    """Write ``report`` as JSON; NaN is refused, since no browser reads it."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read(folder: Path) -> dict[str, Any]:
    """``folder/report.json``. Raises :class:`PSTError` when there is none."""
    try:
        report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PSTError(f"There is no report in {folder}: run train first ({error}).") from error
    return report


def card(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Lines of (measure, dense, this model) for people."""
    lines = []
    for split in ("validation", "test"):
        ours, dense = report["metrics"][split], report["dense"][split]
        if ours is None:
            continue
        for name in ("accuracy", "macro_f1"):
            lines.append((f"{split} {name.replace('_', ' ')}", f"{dense[name]:.2%}", f"{ours[name]:.2%}"))
        low, high = ours["interval"]
        lines.append((f"{split} accuracy, 95 % interval", _interval(dense["interval"]), _interval([low, high])))
    params, sizes = report["params"], report["bytes"]
    lines += [
        ("sparsity of the pruned matrices", "0.00%", f"{report['sparsity']['reached']:.2%}"),
        ("parameters that are not zero", f"{params['total']:,}", f"{params['nonzero']:,}"),
        ("trained parameters", f"{params['total']:,}", f"{params['trainable']:,}"),
        ("bytes", f"{sizes['dense']:,}", f"{sizes['sparse']:,}"),
        ("same label as the dense model", "", f"{report['agreement']:.2%}"),
        ("seconds", f"{report['seconds'].get('dense', 0):.0f}", f"{report['seconds'].get('train', 0):.0f}"),
    ]
    return lines


def _interval(interval: list[float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"
