"""Checkpoints: one safetensors file each, tensors plus a JSON state in the file's metadata. Never pickle.

Only what was trained is stored (for PST a few percent of the model), so a checkpoint is small enough to be sent away
every few seconds. A file appears whole or not at all. The dense phase comes before the train phase, and counts its own
steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pst.errors import PSTError
from pst.messages import Message

FOLDER = "checkpoints"
RESUME = "resume.safetensors"
KEEP = 2
PHASES = ("dense", "train")


@dataclass(frozen=True)
class Checkpoint:
    """``tensors`` by name and a JSON-ready ``state`` that holds at least ``phase`` (of PHASES) and ``step``."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        """By which checkpoints of a run are in order."""
        return PHASES.index(self.state["phase"]), int(self.state["step"])


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write ``folder/checkpoints/<phase>-<step>.safetensors`` and drop all but the last two. Returns its path."""
    target = folder / FOLDER / f"{state['phase']}-{state['step']:06d}.safetensors"
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"state": json.dumps(state)})
    partial.replace(target)
    for old in _written(folder)[:-KEEP]:
        old.unlink()
    return target


def newest(folder: Path) -> Checkpoint | None:
    """The latest checkpoint among ``checkpoints/`` and ``resume.safetensors``, or None.

    Raises :class:`PSTError` when a file is damaged.
    """
    paths = _written(folder)[-1:]
    if (folder / RESUME).is_file():
        paths.append(folder / RESUME)
    found = [load(path) for path in paths]
    return max(found, key=lambda checkpoint: checkpoint.place, default=None)


def load(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises :class:`PSTError` when the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise PSTError(
            Message("The checkpoint {path} can't be read ({error}); remove it to start over.", path=path, error=error)
        ) from error
    return Checkpoint(tensors, state)


def _written(folder: Path) -> list[Path]:
    """From the oldest to the newest."""

    def place(path: Path) -> tuple[int, int]:
        phase, _, step = path.stem.partition("-")
        return PHASES.index(phase), int(step)

    return sorted((folder / FOLDER).glob("*.safetensors"), key=place)
