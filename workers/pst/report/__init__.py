"""The report of a run: ``report.json``, its card for a terminal, and its page (:mod:`pst.report.page`).

What the entries mean is in docs/guides/report.md; :data:`SCHEMA` is the JSON Schema that every report fits. This module
and the page need no torch; what measures (:mod:`pst.report.measures` and those it imports) does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pst.errors import PSTError
from pst.messages import Message

FORMAT, VERSION = "sparsewright-report", 2
REPORT_FILE = "report.json"
SCHEMA = Path(__file__).with_name("schema.json")

SHARES = {"accuracy", "macro_f1", "micro_f1", "f1", "subset_accuracy"}
"""Metrics that people read in percent."""

_NUMBER_LIST = re.compile(r"\[\s+((?:-?[\d.eE+-]+,\s+)*-?[\d.eE+-]+)\s+\]")


def write(report: dict[str, Any], path: Path) -> None:
    """Write ``report`` as JSON; NaN is refused, since no browser reads it."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(_NUMBER_LIST.sub(_on_one_line, text) + "\n", "utf-8")


def _on_one_line(found: re.Match[str]) -> str:
    """A list of numbers, which would take a line for each."""
    return f"[{' '.join(found[1].split())}]"


def read(folder: Path) -> dict[str, Any]:
    """``folder/report.json``. Raises :class:`PSTError` when there is none."""
    try:
        report = json.loads((folder / REPORT_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PSTError(f"There is no report in {folder}: run train first ({error}).") from error
    if not isinstance(report, dict):
        raise PSTError(Message("{name} must hold a JSON object.", name=folder / REPORT_FILE))
    return report


def spoken(name: str, value: float) -> str:
    """A metric's value as people read it."""
    return f"{value:.2%}" if name in SHARES else f"{value:.4g}"


def span(name: str, interval: list[float]) -> str:
    """An interval as people read it."""
    return f"{spoken(name, interval[0])} to {spoken(name, interval[1])}"


def metrics_of(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The metrics among the entries of a split, by name."""
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, value


def card(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Lines of (measure, dense, this model) for people."""
    lines = []
    primary = report.get("primary", "accuracy")
    for split in ("validation", "test"):
        ours, dense = report["metrics"][split], report["dense"][split]
        if ours is None:
            continue
        for name, value in metrics_of(ours):
            lines.append((f"{split} {name.replace('_', ' ')}", spoken(name, dense[name]), spoken(name, value)))
        words = f"{split} {primary.replace('_', ' ')}, 95 % interval"
        lines.append((words, span(primary, dense["interval"]), span(primary, ours["interval"])))
    regression = report.get("task") == "regression"
    same = "correlation with the dense model's answers" if regression else "same answer as the dense model"
    params, sizes, seconds = report["params"], report["bytes"], report["seconds"]
    lines += [
        ("sparsity of the pruned matrices", "0.00%", f"{report['sparsity']['reached']:.2%}"),
        ("parameters that are not zero", f"{params['total']:,}", f"{params['nonzero']:,}"),
        ("trained parameters", f"{params['total']:,}", f"{params['trainable']:,}"),
        ("bytes", f"{sizes['dense']:,}", f"{sizes['sparse']:,}"),
        (same, "", f"{report['agreement']:.2%}"),
        ("seconds", f"{seconds.get('dense', 0):.0f}", f"{seconds.get('train', 0):.0f}"),
    ]
    return lines + _measured(report.get("measures") or {})


def _measured(measures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    lines = []
    if flops := measures.get("flops"):
        shape = flops["shape"]
        words = f"FLOPs of {shape['rows']} x {shape['tokens']} tokens"
        lines.append((words, f"{flops['dense']['total']:.3g}", f"{flops['sparse']['total']:.3g}"))
    for shape in (measures.get("time") or {}).get("shapes", []):
        words = f"p50 ms, {shape['rows']} x {shape['tokens']} tokens"
        lines.append((words, f"{shape['dense']['p50_ms']:.2f}", f"{shape['sparse']['p50_ms']:.2f}"))
    if (loyalty := measures.get("loyalty")) and loyalty["closeness"] is not None:
        lines.append(("closeness of probabilities", "", f"{loyalty['closeness']:.2%}"))
    if robustness := measures.get("robustness"):
        name, drop = robustness["metric"], robustness["drop"]
        words = f"mean drop of {name.replace('_', ' ')}, perturbed"
        lines.append((words, spoken(name, drop["dense"]), spoken(name, drop["sparse"])))
    if (carbon := measures.get("carbon")) and carbon["kwh"] is not None:
        lines.append(("run: energy, emissions", "", f"{carbon['kwh']:.4g} kWh, {carbon['grams_co2e']:.3g} gCO2e"))
    return lines
