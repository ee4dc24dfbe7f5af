"""Errors of the library. Standard library only."""

from __future__ import annotations

import errno

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PSTError(ValueError):
    """Something the user can put right: the message is one plain sentence."""


class BudgetError(PSTError):
    """A target that can't be planned. ``field`` names the part of the target, ``message`` says why, and ``remedy``
    what structured pruning would bring, where that is more."""

    def __init__(self, field: str, message: str, remedy: str | None = None) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
        self.remedy = remedy


class BudgetMet(BudgetError):
    """A budget that the dense model meets already."""


class TrainingError(PSTError):
    """Training produced a loss that is not a number."""


class ProcessLost(PSTError):
    """Another process of a run of several has ended: another attempt may go on."""


class FormatError(PSTError):
    """A file of the compact format, or an exported folder, is damaged or incomplete."""


def disk_is_full(error: BaseException) -> bool:
    """safetensors tells the number of an error of the system in its text alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_FULL
    text = str(error)
    return any(f"os error {number}" in text or f"code: {number}" in text for number in DISK_FULL)
