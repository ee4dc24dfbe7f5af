"""Checkpoints: one safetensors file each, tensors plus a JSON state in the file's metadata. Never pickle.

Only what was trained is stored (for PST a few percent of the model), and of that what the base model and the tensors
beside it do not say already (:mod:`pst.files.packing`). A file appears whole or not at all. The dense phase comes
before the train phase, and counts its own steps; what it ends with is kept beside the checkpoints
(:mod:`pst.training.teacher`), which name that file among those that they need.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from pst.config import Phase
from pst.errors import PSTError
from pst.files import packing
from pst.files.packing import Like, Packed, nothing
from pst.messages import Message

FOLDER = "checkpoints"
RESUME = "resume.safetensors"
KEEP = 2
PHASES = (Phase.DENSE, Phase.TRAIN)  # those that checkpoints are of
UNREADABLE = (OSError, KeyError, ValueError, SafetensorError)
LIKE_TRAINED = ("best", "average")  # kinds of tensors that are like the trained ones of the same name


@dataclass(frozen=True)
class Checkpoint:
    """A JSON-ready ``state`` that holds at least ``phase`` (of PHASES) and ``step``, and the file's tensors."""

    path: Path
    packed: Packed

    @property
    def state(self) -> dict[str, Any]:
        return self.packed.state

    def tensors(self, origin: Like = nothing, prefix: str = "") -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``; ``origin`` is that of :func:`save`. Raises
        :class:`PSTError` when one is damaged."""
        result: dict[str, Tensor] = {}
        names = [name for name in self.packed.stored if name.startswith(prefix)]
        like = _like(result, origin)
        for name in sorted(names, key=lambda name: name.startswith(LIKE_TRAINED)):
            try:
                result[name] = self.packed.tensor(name, like(name))
            except (ValueError, KeyError, zlib.error) as error:
                raise _damaged(self.path, error) from error
        return result


def place(state: Mapping[str, Any]) -> tuple[int, int]:
    """By which checkpoints of a run are in order: how far they came, whenever they were written."""
    return PHASES.index(state["phase"]), int(state["step"])


def _like(tensors: Mapping[str, Tensor], origin: Like) -> Like:
    def like(name: str) -> Tensor | None:
        kind, _, rest = name.partition(".")
        if kind in LIKE_TRAINED:
            return tensors[f"trained.{rest}"]
        return origin(rest) if kind == "trained" else None

    return like


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], origin: Like = nothing) -> Path:
    """Write ``folder/checkpoints/<phase>-<step>.safetensors`` and drop what it replaces: all but the last two of its
    phase, and those of an earlier phase. Returns its path. ``origin`` gives what a trained tensor was before."""
    target = folder / FOLDER / f"{state['phase']}-{state['step']:06d}.safetensors"
    target.parent.mkdir(exist_ok=True)
    packing.save(target, tensors, state, _like(tensors, origin))
    own = _written(folder, state["phase"])
    earlier = [path for phase in PHASES[: PHASES.index(state["phase"])] for path in _written(folder, phase)]
    for old in [*earlier, *own[:-KEEP]]:
        old.unlink()
    return target


def newest(folder: Path, phase: str | None = None) -> Checkpoint | None:
    """The checkpoint that came furthest among ``checkpoints/`` and ``resume.safetensors``, of one phase or of all; or
    None.

    Raises :class:`PSTError` when a file is damaged.
    """
    paths = [path for name in PHASES for path in _written(folder, name)[-1:]]
    if (folder / RESUME).is_file():
        paths.append(folder / RESUME)
    found: list[tuple[tuple[int, int], Path]] = []
    for path in paths:
        try:
            state = packing.read_state(path)
        except UNREADABLE as error:
            raise _damaged(path, error) from error
        if phase in (None, state["phase"]):
            found.append((place(state), path))
    return load(max(found)[1]) if found else None


def load(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises :class:`PSTError` when the file is damaged."""
    try:
        return Checkpoint(path, packing.load(path))
    except UNREADABLE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> PSTError:
    return PSTError(
        Message("The checkpoint {path} can't be read ({error}); remove it to start over.", path=path, error=error)
    )


def _written(folder: Path, phase: str) -> list[Path]:
    """From the oldest to the newest."""
    return sorted((folder / FOLDER).glob(f"{phase}-*.safetensors"), key=lambda path: int(path.stem.partition("-")[2]))
