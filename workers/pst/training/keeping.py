"""What a training keeps beside the weights that it changes: their average, and the best of them.

At the final sparsity the trained tensors are averaged, and what is evaluated and kept is their average (an exponential
moving one, as in Tarvainen and Valpola 2017, arXiv 1703.01780): near the threshold a mask changes with every step, and
small data make every step noisy. Full fine-tuning keeps none, which would be one more copy of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pst.sparsity.schedule import average_decay

Trained = Mapping[str, nn.Parameter]
Score = tuple[float, float]


@dataclass
class Average:
    """The average of the trained tensors. ``AveragedModel`` would copy the frozen weights too: of torch only the
    formula is taken."""

    decay: float
    values: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def add(self, trained: Trained, done: int) -> None:
        """Take in a step before which ``done`` were at the final sparsity; before that (``done`` < 0) there is none."""
        if not self.decay or done < 0:
            return
        present = [parameter.detach() for parameter in trained.values()]
        if self.values:
            average: Any = get_ema_multi_avg_fn(average_decay(done, self.decay))  # type: ignore[no-untyped-call]
            average(self.values, present, 0)
        else:
            self.values = [tensor.clone() for tensor in present]

    @contextmanager
    def in_place(self, trained: Trained) -> Iterator[None]:
        """Within, the trained tensors are their average, where there is one."""
        self._swap(trained)
        try:
            yield
        finally:
            self._swap(trained)

    def _swap(self, trained: Trained) -> None:
        if self.values:
            for parameter, tensor in zip(trained.values(), self.values, strict=True):
                parameter.data, tensor.data = tensor.data, parameter.data


@dataclass
class Best:
    """The trained tensors that scored best at the final sparsity, and how many evaluations have been worse since."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    score: Score | None = None
    step: int = 0
    worse: int = 0

    def offer(self, score: Score, step: int, trained: Trained) -> None:
        if self.score is None or score > self.score:
            self.score, self.step, self.worse = score, step, 0
            self.tensors = {name: parameter.detach().clone() for name, parameter in trained.items()}
        else:
            self.worse += 1

    @torch.no_grad()
    def put_back(self, trained: Trained) -> None:
        for name, tensor in self.tensors.items():
            trained[name].copy_(tensor)
