"""The one terminal progress: of a run here, and of a job elsewhere."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from pst.terminal import Bars
from pst_client.contract import JobState, LogData, PhaseData, ProgressData, StateData, event
from pst_client.show import JobBars

STEP: dict[str, Any] = {"phase": "train", "step": 3, "total_steps": 9, "loss": 0.5, "sparsity": 0.4, "metric": 0.91}
METRIC = {"phase": "train", "step": 3, "name": "accuracy", "value": 0.9123}


def said(bars: Bars) -> str:
    assert isinstance(bars.console.file, io.StringIO)
    return bars.console.file.getvalue()


def test_without_a_terminal_there_are_lines_alone() -> None:
    with Bars(Console(file=io.StringIO())) as bars:
        bars.show("phase", {"phase": "train", "index": 2, "of": 7})
        bars.show("progress", STEP)
        bars.show("metric", METRIC)
        bars.show("log", {"level": "info", "message": "Going on from [step 3]."})
    assert said(bars).splitlines() == [
        "phase 3 of 7: train",
        "train step 3: accuracy 0.912",
        "info: Going on from [step 3].",
    ]


def test_on_a_terminal_each_phase_has_its_bar() -> None:
    with Bars(Console(file=io.StringIO(), force_terminal=True, width=120)) as bars:
        bars.show("progress", {"phase": "dense", "part": "calibration", "step": 1, "total_steps": 2})
        bars.show("progress", STEP)
        bars.show("metric", METRIC)
    assert "calibration" in said(bars) and "3/9  loss 0.500  sparsity 40.0%  validation 0.91" in said(bars)
    assert "accuracy" not in said(bars)


def test_a_job_s_events_are_shown_the_same_way() -> None:
    data = [
        StateData(state=JobState.RUNNING),
        PhaseData(phase="train", index=2, of=7),
        ProgressData(**STEP),
        LogData(level="warning", message="Slow."),
    ]
    with JobBars(Console(file=io.StringIO())) as bars:
        for seq, each in enumerate(data, 1):
            bars.take(event(seq=seq, at=datetime.now(UTC), data=each).model_dump(mode="json"))
        bars.take({"type": "of a newer version"})
    assert said(bars).splitlines() == ["job running", "phase 3 of 7: train", "warning: Slow."]
