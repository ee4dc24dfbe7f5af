"""How alike the masks of finished runs are, from their exports: an element stays if it is not zero."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pst import report
from pst.errors import PSTError
from pst.files.formats import read_sparse
from pst.report.pictures import overlap, place_of

EXPORT_FOLDER = "export"


def compare(folder: Path, other: Path) -> dict[str, Any]:
    """Overlap of each pruned matrix that two run folders share: ``folder``, ``method`` and ``matrices`` of the other.

    Raises :class:`PSTError` when one is not a finished run, or they have no matrix of one name and shape in common.
    """
    ours, theirs = _masks(folder), _masks(other)
    matrices = []
    for name in ours:
        if name in theirs and ours[name].shape == theirs[name].shape:
            stack, depth, kind = place_of(name)
            place = {"name": name, "stack": stack, "depth": depth, "kind": kind}
            matrices.append(place | overlap(ours[name], theirs[name]))
    if not matrices:
        raise PSTError(f"{folder} and {other} have no pruned matrix of the same name and shape in common.")
    return {"folder": str(other), "method": report.read(other)["method"], "matrices": matrices}


def _masks(folder: Path) -> dict[str, Tensor]:
    content = report.read(folder)
    try:
        names = [matrix["name"] for matrix in content["sparsity"]["matrices"]]
    except (KeyError, TypeError):
        raise PSTError(f"The report in {folder} does not list its pruned matrices.") from None
    state: Mapping[str, Tensor] = read_sparse(folder / EXPORT_FOLDER / "sparse", verify=False)
    return {name: state[name] != 0 for name in names if name in state}
