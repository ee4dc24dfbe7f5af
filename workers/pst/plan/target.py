"""What a user asks a plan to reach (:mod:`pst.plan.planner`), and its amounts in words. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pst.config import setting
from pst.errors import BudgetError
from pst.messages import Message

MIN_SPARSITY = 0.5
MAX_SPARSITY = 0.99
TIMES = ("max_latency_ms", "min_speedup")
LIMITS = ("max_nonzero_params", "max_bytes", "max_memory_bytes", *TIMES)
GROUPS = (
    "Instead of sparsity: a share for each group of matrices, or for all whose names begin so "
    '("decoder"); groups that are left out stay dense.'
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the user asks for; every limit that is set must hold.

    ``sparsity`` is a share in 0.5..0.99 for all groups; ``groups`` instead gives a share in 0..0.99 by group, or by the
    beginning of groups' names up to a dot ("decoder"), and every other group stays dense. ``max_latency_ms`` and
    ``min_speedup`` (against the dense model) are of one forward pass, and need a :class:`Timing`. The platform's API
    adds on which node they are (:class:`pst_client.contract.Target`).
    """

    sparsity: float | None = setting(
        None, "Share of prunable weights that become zero.", ge=MIN_SPARSITY, le=MAX_SPARSITY
    )
    max_nonzero_params: int | None = setting(None, "Nonzero parameters of the whole model.", gt=0)
    max_bytes: int | None = setting(None, "Bytes of the compact file.", gt=0)
    max_memory_bytes: int | None = setting(None, "Bytes of the model loaded by a serving node.", gt=0)
    groups: Mapping[str, float] | None = setting(None, GROUPS)
    max_latency_ms: float | None = setting(None, "Milliseconds of one forward pass where `on` says.", gt=0, le=1e7)
    min_speedup: float | None = setting(None, "Times as fast as the dense model where `on` says.", gt=1, le=1e4)


def amount(limit: str, value: float) -> Message:
    """A limit's amount in the unit that forms ask for it in, rounded so that it can be met; of sizes, exactly too."""
    value = abs(value)  # a speed-up is held as a negative number
    if limit in TIMES:
        digits = 10 ** (2 - math.floor(math.log10(value)))
        if limit == "min_speedup":
            return Message("a speed-up of {times}", times=format(math.floor(value * digits) / digits, ",.10g"))
        return Message("{value} ms", value=format(math.ceil(value * digits) / digits, ",.10g"))
    values = {"millions": f"{math.ceil(value / 1000) / 1000:,}", "exact": f"{value:,}"}
    if limit == "max_nonzero_params":
        return Message("{millions} M parameters ({exact})", **values)
    if limit == "max_bytes":
        return Message("{millions} MB in the compact file ({exact} bytes)", **values)
    return Message("{millions} MB of memory ({exact} bytes)", **values)


def check(target: Target, *, timed: bool) -> None:
    """Raises BudgetError for a target that means nothing, whatever the model; times need ``timed``."""
    values = {name: getattr(target, name) for name in Target.__dataclass_fields__}
    if all(value is None for value in values.values()):
        raise BudgetError("target", Message("set at least one of {values}", values=", ".join(values)))
    share = target.sparsity
    if share is not None and not MIN_SPARSITY <= share <= MAX_SPARSITY:
        raise BudgetError(
            "sparsity",
            Message(
                "must be between {least} and {most}, not {value}",
                least=MIN_SPARSITY,
                most=MAX_SPARSITY,
                value=share,
            ),
        )
    for name in LIMITS:
        value = values[name]
        if value is None:
            continue
        if name not in TIMES:
            if value < 1:
                raise BudgetError(name, Message("must be at least 1, not {value}", value=value))
            continue
        least = 1 if name == "min_speedup" else 0
        if not least < value < math.inf:
            raise BudgetError(name, Message("must be above {least}, not {value}", least=least, value=value))
        if not timed:
            raise BudgetError(
                name, Message("needs what a serving node measured of itself: submit the job to a platform")
            )
    if target.groups is None:
        return
    if share is not None:
        raise BudgetError("groups", Message("give sparsity for all groups, or groups for some of them, not both"))
    for name, value in target.groups.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= MAX_SPARSITY:
            raise BudgetError(
                "groups",
                Message(
                    "{name} must be between 0 and {most}, not {value}",
                    name=name,
                    most=MAX_SPARSITY,
                    value=repr(value),
                ),
            )
    if not any(target.groups.values()):
        raise BudgetError("groups", Message("at least one group must have a sparsity above 0"))
