"""The units that can be removed as a whole: neurons of a feed-forward part, and attention heads.

A plain transformers config says one size for all layers. So the same number of units is removed from every part whose
size the same config entry says, and nothing is removed where no entry can say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pst.errors import BudgetError
from pst.messages import Message
from pst.plan.families.parts import Attention, Block, FeedForward
from pst.plan.sizes import kept_count


@dataclass(frozen=True)
class UnitFamily:
    """Units that stand side by side in the same matrices.

    ``members`` are the pruned matrices as (tensor name, axis), axis 0 or 1 of the map (n, k): unit j owns the j-th of
    ``count`` equal slices along the axis. ``layer`` is -1 where a unit runs through all layers of a stack.
    ``parts`` are the attentions or the one feed-forward part that the units belong to.
    """

    kind: Literal["ffn", "heads"]
    layer: int
    group: str
    members: tuple[tuple[str, int], ...]
    count: int
    config_keys: tuple[tuple[str, int], ...]
    config_fixed: tuple[tuple[str, int], ...]
    allowed: tuple[int, ...] | None
    parts: tuple[Block, ...]

    @property
    def name(self) -> str:
        """Unique within a model."""
        return self.members[0][0]

    def least(self, wanted: int) -> int:
        """The smallest number of units, at least ``wanted`` and one, that the config can say."""
        if self.allowed is None:
            return max(wanted, 1)
        return min((n for n in self.allowed if n >= wanted), default=self.count)

    def kept(self, sparsity: float) -> int:
        """How many units stay at ``sparsity``: at least one, and a number that the config can say."""
        return self.least(kept_count(self.count, sparsity))

    def changes(self, kept: int) -> dict[str, int]:
        """The config entries of a model with ``kept`` units."""
        return {key: each * kept for key, each in self.config_keys} | dict(self.config_fixed)


def unit_families(blocks: Iterable[Block]) -> list[UnitFamily]:
    """The units of a model that can be removed, in the order of its parts."""
    found: list[UnitFamily] = []
    shared: dict[str, list[Attention]] = {}
    for block in blocks:
        if isinstance(block, FeedForward):
            found.append(_neurons(block))
        elif block.config_keys and not block.position_bias:
            found.append(_heads([block]))
        elif block.config_keys:
            shared.setdefault(block.position_bias, []).append(block)
    return found + [_heads(attentions) for attentions in shared.values()]


def _neurons(part: FeedForward) -> UnitFamily:
    return UnitFamily(
        kind="ffn",
        layer=part.layer,
        group=part.group,
        members=(*((f"{name}.weight", 0) for name in part.inputs), (f"{part.output}.weight", 1)),
        count=part.inner,
        config_keys=((part.config_key, 1),),
        config_fixed=(),
        allowed=None,
        parts=(part,),
    )


def _heads(attentions: list[Attention]) -> UnitFamily:
    first = attentions[0]
    members: list[tuple[str, int]] = []
    for part in attentions:
        members += [(f"{name}.weight", 0) for name in (part.query, part.key, part.value)]
        members.append((f"{part.output}.weight", 1))
    return UnitFamily(
        kind="heads",
        layer=-1 if first.position_bias else first.layer,
        group=first.group,
        members=tuple(members),
        count=first.kv_heads,
        config_keys=first.config_keys,
        config_fixed=first.config_fixed,
        allowed=first.allowed,
        parts=tuple(attentions),
    )


def sizes_kept(families: Iterable[UnitFamily], sparsity: Mapping[str, float]) -> dict[str, Any]:
    """The config entries of the model that ``structured`` leaves at these sparsities by group.

    Raises :class:`BudgetError` where two groups whose size is one config entry have different sparsities.
    """
    changes: dict[str, Any] = {}
    groups: dict[str, str] = {}
    for family in families:
        for key, value in family.changes(family.kept(sparsity[family.group])).items():
            other = groups.setdefault(key, family.group)
            if changes.setdefault(key, value) != value:
                raise BudgetError(
                    "groups",
                    Message(
                        "structured can't prune {other} and {group} differently: the model's config has "
                        "one {key} for both; give them the same sparsity or choose another structure",
                        other=other,
                        group=family.group,
                        key=key,
                    ),
                )
    return changes
