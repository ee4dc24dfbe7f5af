"""What every phase of a run reads: what was asked for, and the clock that announces the phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pst.config import Phase, TrainSettings
from pst.files.shards import Tensors
from pst.report.carbon import Carbon
from pst.spec import Spec
from pst.training.parallel import ALONE, Peers

STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Emit = Callable[[dict[str, Any]], None]


class Clock:
    """Announces each phase, and adds its time to what earlier attempts spent in it."""

    def __init__(self, phases: Sequence[Phase], emit: Emit) -> None:
        self.phases, self.emit = phases, emit
        self._seconds: dict[str, float] = {}
        self._begun = phases[0], time.monotonic()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        self.emit({"type": "phase", "phase": name, "index": self.phases.index(name), "of": len(self.phases)})
        self._begun = name, time.monotonic()
        yield
        self._seconds = self.seconds()

    def seconds(self) -> dict[str, float]:
        """Seconds by phase up to now."""
        name, begin = self._begun
        return {**self._seconds, name: self._seconds.get(name, 0.0) + time.monotonic() - begin}

    def ended(self) -> dict[str, float]:
        """Seconds of the phases that have ended."""
        return dict(self._seconds)

    def go_on(self, seconds: Mapping[str, float]) -> None:
        """Count from what an earlier attempt had spent."""
        self._seconds = dict(seconds)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One call of :func:`pst.pipeline.run`. Of several ``peers`` only the first emits and writes.

    ``quick`` leaves out the verifier and all that only the report measures. ``weights`` are the base model's where its
    folder has but config and tokenizer.
    """

    folder: Path
    spec: Spec
    emit: Emit
    should_stop: Callable[[], bool]
    carbon: Carbon
    clock: Clock
    quick: bool = False
    peers: Peers = ALONE
    weights: Tensors | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def settings(self) -> TrainSettings:
        return self.spec.settings

    @property
    def storage(self) -> torch.dtype:
        return STORAGE[self.settings.storage_dtype]

    @property
    def compares(self) -> bool:
        """Whether the run fine-tunes a dense model to compare with."""
        return self.settings.method != "dense" and self.settings.compare_dense

    def log(self, level: str, message: str) -> None:
        self.emit({"type": "log", "level": level, "message": message})


def phases_of(settings: TrainSettings, quick: bool) -> list[Phase]:
    """The phases of a run with these settings, in order."""
    left_out = {Phase.PUBLISH}
    if settings.method == "dense" or not settings.compare_dense:
        left_out.add(Phase.DENSE)
    if quick:
        left_out.add(Phase.VERIFY)
    return [phase for phase in Phase if phase not in left_out]
