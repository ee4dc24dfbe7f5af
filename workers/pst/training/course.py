"""What each step of a training does, as functions of the step alone: rows, sparsity, rate, selection, evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pst.config import TrainSettings
from pst.model.data import epoch_batches, steps_per_epoch
from pst.plan.methods import METHODS, MethodSpec
from pst.sparsity.schedule import cooldown_start, cubic_sparsity, linear_rate


@dataclass(frozen=True)
class Course:
    """The steps of ``epochs`` passes over rows of these ``lengths``. ``final`` is each group's sparsity at the end;
    empty where no layer is pruned."""

    settings: TrainSettings
    lengths: Sequence[int]
    epochs: float
    final: Mapping[str, float]
    _batches: dict[int, list[list[int]]] = field(default_factory=dict)  # of the present epoch

    @cached_property
    def per_epoch(self) -> int:
        return steps_per_epoch(len(self.lengths), self.settings.batch_size)

    @cached_property
    def total(self) -> int:
        """How many steps there are."""
        return max(1, math.ceil(self.epochs * self.per_epoch))

    @cached_property
    def evaluations(self) -> frozenset[int]:
        """The steps after which the validation split is scored."""
        most = self.settings.evaluations
        count = most if self.final else min(most, math.ceil(self.epochs))
        return frozenset(math.ceil((i + 1) * self.total / count) for i in range(count))

    @property
    def method(self) -> MethodSpec:
        return METHODS[self.settings.method]

    @property
    def steady(self) -> bool:
        """Whether the masks are those of the first step."""
        return not self.method.prunes or self.method.one_shot

    def sparsities(self, step: int) -> Mapping[str, float]:
        """Scheduled sparsity of each group at ``step``."""
        if self.method.one_shot:
            return self.final
        s = self.settings
        return {
            group: cubic_sparsity(
                step,
                self.total,
                initial=min(s.initial_sparsity, final),
                final=final,
                warmup_fraction=s.warmup_fraction,
                cooldown_fraction=s.cooldown_fraction,
            )
            for group, final in self.final.items()
        }

    @cached_property
    def first_final(self) -> int:
        """The first step that runs at the final sparsity."""
        if not self.final or self.steady:
            return 0
        return cooldown_start(self.total, self.settings.cooldown_fraction)

    def is_final(self, step: int) -> bool:
        """Whether ``step`` runs at the final sparsity."""
        return step >= self.first_final

    def renews(self, step: int) -> bool:
        """Whether ``step`` selects anew: every ``mask_every``-th does, and the first at the final sparsity."""
        return step % self.settings.mask_every == 0 or (self.is_final(step) and not self.is_final(step - 1))

    def rate(self, step: int) -> float:
        """Factor on the peak learning rates."""
        s = self.settings
        return linear_rate(step, self.total, warmup_ratio=s.warmup_ratio, hold_ratio=s.hold_ratio)

    def rows(self, step: int) -> list[int]:
        """Row numbers of the batch of ``step``."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch not in self._batches:
            self._batches.clear()
            s = self.settings
            self._batches[epoch] = epoch_batches(self.lengths, s.batch_size, s.seed, epoch)
        return self._batches[epoch][place]
