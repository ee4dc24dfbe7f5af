"""What a trainer tells while it runs, when it writes a checkpoint, and whether its losses are numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pst.errors import TrainingError
from pst.messages import Message

PROGRESS_SECONDS = 0.5
CHECKPOINT_SECONDS = 15.0
DENSE_CHECKPOINT_SECONDS = 60.0  # the dense model's checkpoints are large, and the phase is short
CHECKPOINT_SHARE = 0.05  # of the time that may go into writing checkpoints


@dataclass
class Progress:
    """Events of one phase. Progress is told twice a second at most."""

    emit: Callable[[dict[str, Any]], None]
    phase: str
    _told: float = -math.inf

    def due(self) -> bool:
        """Whether it is time to tell again; then the time counts anew."""
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS:
            return False
        self._told = now
        return True

    def begin(self) -> None:
        self._told = -math.inf

    def tell(self, step: int, total: int, **more: Any) -> None:
        self.emit({"type": "progress", "phase": self.phase, "step": step, "total_steps": total, **more})

    def metric(self, **values: Any) -> None:
        self.emit({"type": "metric", "phase": self.phase, "split": "validation", **values})

    def log(self, level: str, message: str) -> None:
        self.emit({"type": "log", "level": level, "message": message})


@dataclass
class CheckpointClock:
    """When the next checkpoint is due: writing them takes but a small share of the time."""

    phase: str
    step: int = 0
    """The step of the last one."""
    _written: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    def due(self, evaluated: bool) -> bool:
        waited, pause = time.monotonic() - self._written, self._cost / CHECKPOINT_SHARE
        if self.phase == "dense":
            return waited > max(pause, DENSE_CHECKPOINT_SECONDS)
        return waited > (pause if evaluated else max(pause, CHECKPOINT_SECONDS))

    def write(self, save: Callable[[], None], step: int) -> None:
        begin = time.monotonic()
        save()
        self._written, self.step = time.monotonic(), step
        self._cost = self._written - begin


class Losses:
    """The last loss, and the first step whose loss was no number: remembered on a GPU, which is not waited for."""

    def __init__(self, device: torch.device) -> None:
        self.last = torch.zeros((), device=device)
        self._failed = torch.full((), -1, device=device)

    def note(self, loss: Tensor, step: int) -> None:
        self.last = loss
        new = ~torch.isfinite(loss) & (self._failed < 0)
        self._failed = torch.where(new, step, self._failed)

    def failed(self) -> int | None:
        """The step whose loss was no number. Waits for the device."""
        step = int(self._failed)
        return None if step < 0 else step

    def error(self, total: int, phase: str) -> TrainingError:
        """What to say of the step that failed."""
        return TrainingError(
            Message(
                "The loss became {loss} at step {step} of {total} ({phase}); lower the "
                "learning rates or raise warmup_ratio.",
                loss=float(self.last),
                step=int(self._failed) + 1,
                total=total,
                phase=phase,
            )
        )
