"""Parameter-efficient sparse fine-tuning: train, merge, export, run. Importing this package does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pst.native.inference import Published


def load(model: str | Path, *, revision: str | None = None) -> Published:
    """The published model in a folder, or of a repository of a Hub: see :func:`pst.native.inference.load`."""
    from pst.native import inference

    return inference.load(model, revision=revision)
