"""Checkpoints of a run, and the answers of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedModel

from pst.files.packing import Like
from pst.pipeline.context import Run
from pst.pipeline.prepared import Prepared, Resumed, Rows
from pst.tasks import Answers
from pst.training import checkpoint, teacher
from pst.training.trainer import Hooks, Trainer


@dataclass(frozen=True)
class Saver:
    """Writes checkpoints, which hold the dense model's ``answers``; called without a trainer, one of those alone."""

    run: Run
    prepared: Prepared
    resumed: Resumed
    answers: Mapping[str, Answers]
    origin: Like

    def hooks(self) -> Hooks:
        return Hooks(self.run.emit, self.run.should_stop, self if self.run.peers.is_main else None)

    def __call__(self, trainer: Trainer | None) -> None:
        run, prepared = self.run, self.prepared
        tensors = {f"dense.{name}": tensor for name, tensor in teacher.flatten(self.answers).items()}
        state = {
            "fingerprint": self.resumed.key,
            "phase": "train" if trainer is None else trainer.phase,
            "step": 0 if trainer is None else trainer.step,
            "seconds": run.clock.seconds(),
            "trainer": None if trainer is None else trainer.state(),
        }
        more = {} if trainer is None else trainer.tensors()
        path = checkpoint.save(run.folder, tensors | more, state, self.origin)
        asked = teacher.teaches_live(prepared.task, run.settings) or not prepared.answered(self.answers)
        needed = state["phase"] == "train" and run.compares and asked
        run.emit(
            {
                "type": "checkpoint",
                "path": path.relative_to(run.folder).as_posix(),
                "step": state["step"],
                "phase": state["phase"],
                "bytes": path.stat().st_size,
                "needs": [f"{teacher.FOLDER}/{teacher.WEIGHTS}"] if needed else [],
            }
        )


def answers_of(model: PreTrainedModel, prepared: Prepared, rows: Rows) -> dict[str, Answers]:
    """Answers to all of ``rows`` but the training rows."""
    task, encoded = prepared.task, prepared.encoded
    return {
        name: task.predict(model, encoded[name] if name in encoded else task.encode(found))
        for name, found in rows.items()
        if name != "train"
    }
