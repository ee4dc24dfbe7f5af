"""Merge: ``W' = M * (W + beta U V)``, in the dtype in which it will be stored.

After it the model has the shape, the names and the class of the original. A weight that the mask removed must be
+0.0 afterwards, bit for bit: checked for every matrix after the cast, because that is what is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pst.formats import bits
from pst.inject import Site, eject
from pst.masks import mask_of


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
def merge(model: nn.Module, sites: Sequence[Site], storage: torch.dtype) -> list[MergedMatrix]:
    """Replace every site by an ordinary Linear, in place, its weight rounded to ``storage`` and checked.

    All other floating-point tensors of the model are rounded too, so that the model predicts as the stored file will;
    computing stays in the dtype it had. Raises :class:`MergeError`.
    """
    weights: dict[str, Tensor] = {}
    report = []
    for site in sites:
        stored = site.layer.masked().to(storage)
        check_pruned(site.name, stored, mask_of(site.layer.scores(), site.layer.selection))
        nonzeros = int((bits(stored) != 0).sum())
        shape = tuple(stored.shape)
        report.append(MergedMatrix(f"{site.name}.weight", shape, 1 - nonzeros / stored.numel(), nonzeros))
        weights[site.name] = stored.to(site.layer.weight.dtype)
    eject(model, sites, weights)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(storage))
    return report


def check_pruned(name: str, stored: Tensor, mask: Tensor) -> None:
    """Raise :class:`MergeError` unless every weight (n, k) outside ``mask`` is +0.0 in the stored dtype."""
    revived = int(((bits(stored) != 0) & ~mask).sum())
    if revived:
        raise MergeError(f"{name}: {revived} pruned weights are not zero in {stored.dtype}")
