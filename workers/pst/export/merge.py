"""Merge: ``W' = M * (W + beta U V)``.

After it the model has the shape, the names and the class of the original. A weight that the mask removed must be
+0.0 afterwards, bit for bit: checked for every matrix as cast to the stored dtype, because that is what is published.
The rounding itself comes later, once and for the whole model: :mod:`pst.export.quantize`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pst.files.encodings import bits
from pst.layers.inject import TargetModule, eject
from pst.messages import Message
from pst.sparsity.masks import mask_of


@dataclass(frozen=True)
class MergedMatrix:
    """What the merge left of one matrix."""

    name: str
    shape: tuple[int, ...]
    sparsity: float
    nonzeros: int


class MergeError(RuntimeError):
    """A merged matrix does not fit its mask: a fault of this library, never of the user."""


@torch.no_grad()
def merge(model: nn.Module, modules: Sequence[TargetModule], storage: torch.dtype) -> list[MergedMatrix]:
    """Replace every module by an ordinary layer, in place and one after the other, its weight checked as it will be
    stored. What a module's layer held is gone then, but for its shape: there is never a second model.

    Raises :class:`MergeError`.
    """
    report = []
    for module in modules:
        merged = module.layer.masked()
        stored = merged.to(storage)
        check_pruned(module.name, stored, mask_of(module.layer.scores(), module.layer.selection))
        report.append(_measured(f"{module.name}.weight", tuple(merged.shape), stored))
        eject(model, module, merged)
        module.layer.release(merged)
    return report


def recount(matrices: Sequence[MergedMatrix], model: nn.Module) -> list[MergedMatrix]:
    """The same matrices as ``model`` holds them now, smaller or rounded; shares are of the original shapes.

    Raises :class:`MergeError` where a matrix has more weights than before.
    """
    state = model.state_dict()
    result = [_measured(matrix.name, matrix.shape, state[matrix.name]) for matrix in matrices]
    for before, after in zip(matrices, result, strict=True):
        if after.nonzeros > before.nonzeros:
            raise MergeError(
                Message(
                    "{name}: {count} weights came back after the merge",
                    name=after.name,
                    count=after.nonzeros - before.nonzeros,
                )
            )
    return result


def _measured(name: str, shape: tuple[int, ...], values: Tensor) -> MergedMatrix:
    nonzeros = int((bits(values) != 0).sum())
    return MergedMatrix(name, shape, 1 - nonzeros / math.prod(shape), nonzeros)


def check_pruned(name: str, stored: Tensor, mask: Tensor) -> None:
    """Raise :class:`MergeError` unless every weight (n, k) outside ``mask`` is +0.0 in the stored dtype."""
    revived = int(((bits(stored) != 0) & ~mask).sum())
    if revived:
        raise MergeError(
            Message(
                "{name}: {count} pruned weights are not zero in {dtype}",
                name=name,
                count=revived,
                dtype=stored.dtype,
            )
        )
