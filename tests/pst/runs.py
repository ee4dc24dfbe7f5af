"""Whole tiny runs for tests of what comes after a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pst import pipeline
from pst.export import verify
from tests.pst.conftest import write_job

PASSED = {"ok": True, "message": "not checked", "rows": 0}


def run_unchecked(
    folder: Path, base: Path, *, write: Callable[..., Path] = write_job, **settings: Any
) -> tuple[Path, dict[str, Any]]:
    """A run of a toy task in ``folder``, without its verifier, which takes seconds and has tests of its own."""
    torch.set_num_threads(1)
    write(folder, base, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "elsewhere", lambda *arguments: PASSED)
        return folder, pipeline.run(folder, emit=lambda event: None, should_stop=lambda: False)
