"""Small models on a CUDA device: a whole optimiser step as one captured graph.

A small step keeps a GPU busy for less time than Python needs to launch its kernels; with PST, which launches dozens a
matrix, so does one of a model with 100 or 200 small matrices. So batches are padded to a few lengths, the step is
captured once for each, and then replayed: selection, forward, loss, backward, clipping, AdamW. What changes from step
to step lies in tensors that the graph reads: batch, learning rates, counts of kept weights. Nothing waits for the
device.

All graphs share one pool of memory, so the longest batch's step needs it, not their sum. Where it does not suffice, as
for whatever else can't be captured, the steps are run without graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pst.layers.batched import Selector
from pst.layers.inject import TargetModule
from pst.sparsity.masks import kept_count
from pst.tasks import Length
from pst.training.step import Batch, TrainStep

SMALL = 250_000_000  # weights: matrices of up to about 1024 x 4096, whose kernels take no longer than their launches
MULTIPLE = 16  # of which every padded length is one
FINENESS = 4  # a long length is padded by at most one part of so many
MAX_SHAPES = 24


@dataclass(frozen=True)
class Captured:
    """A graph and the batch that it reads."""

    graph: torch.cuda.CUDAGraph
    batch: Batch


class GraphedSteps:
    """Does a :class:`pst.training.step.TrainStep`'s steps by replay. ``sparsity(step)`` gives each group's,
    ``rate(step)`` the factor on the peak learning rates.

    The optimiser's groups hold their rate as a tensor on the device, and its state has been made.
    """

    def __init__(
        self,
        train_step: TrainStep,
        modules: Sequence[TargetModule],
        total: int,
        sparsity: Callable[[int], Mapping[str, float]],
        rate: Callable[[int], float],
    ) -> None:
        self.train_step, self.total = train_step, total
        self.device = train_step.device
        self.selector = Selector(modules, train_step.settings.threshold) if modules else None
        factors = torch.tensor([rate(step) for step in range(total)], dtype=torch.float32)
        self._factors = factors.to(self.device)
        self._counts = self._table(modules, sparsity).to(self.device) if modules else None
        self.factor = torch.zeros((), device=self.device)
        self.kept = torch.zeros(
            0 if self._counts is None else self._counts.shape[1], dtype=torch.int64, device=self.device
        )
        self.loss = torch.zeros((), device=self.device)
        self._longest = _padded([train_step.task.length(row) for row in train_step.task.train])
        self._captured: dict[Hashable, Captured] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def _table(self, modules: Sequence[TargetModule], sparsity: Callable[[int], Mapping[str, float]]) -> Tensor:
        """Kept weights (steps, modules), or (steps, groups) where a group has one threshold."""
        sizes: list[tuple[str, int]] = [(module.group, module.layer.weight.numel()) for module in modules]
        if self.train_step.settings.threshold == "global":
            sizes = [(group, sum(n for g, n in sizes if g == group)) for group in dict.fromkeys(g for g, _ in sizes)]
        kinds = list(dict.fromkeys(sizes))
        place = torch.tensor([kinds.index(size) for size in sizes])
        rows = []
        for step in range(self.total):
            shares = sparsity(step)
            rows.append([kept_count(numel, shares[group]) for group, numel in kinds])
        return torch.tensor(rows)[:, place]

    def step(self, step: int, rows: Sequence[int], variant: Hashable = None) -> Tensor:
        """One optimiser step; returns its loss, 0-dim, which the next step overwrites. A graph serves one
        ``variant`` of the layers' own state."""
        task = self.train_step.task
        length = _padded([task.length(task.train[row]) for row in rows], self._longest)
        batch = self.train_step.padded(rows, length, self.train_step.settings.batch_size)
        self.factor.copy_(self._factors[step])
        if self._counts is not None:
            self.kept.copy_(self._counts[step])
        key = length, variant
        if key not in self._captured:
            if len(self._captured) >= MAX_SHAPES:
                raise RuntimeError(f"more than {MAX_SHAPES} shapes of batches")
            self._captured[key] = self._capture(batch)
        found = self._captured[key]
        for target, source in zip(found.batch.tensors(), batch.tensors(), strict=True):
            target.copy_(source)
        found.graph.replay()
        return self.loss

    def _capture(self, batch: Batch) -> Captured:
        static = replace(
            batch,
            inputs={name: tensor.clone() for name, tensor in batch.inputs.items()},
            gold=batch.gold.clone(),
            norm=batch.norm.clone(),
            tokens=batch.tokens.clone(),
            rows=batch.rows.clone(),
            teacher=None if batch.teacher is None else batch.teacher.clone(),
        )
        optimizer = self.train_step.optimizer
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        # Kernels are compiled and workspaces made before the capture, with random numbers that the step doesn't miss:
        # captured or not, it draws the same.
        with torch.random.fork_rng([self.device]), torch.cuda.stream(aside):
            self._backward(static)
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                for group in optimizer.param_groups:
                    group["lr"].copy_(self.factor * group["peak"])
                self.loss.copy_(self._backward(static))
                self.train_step.apply()
        finally:
            optimizer.zero_grad(set_to_none=True)
        return Captured(graph, static)

    def _backward(self, batch: Batch) -> Tensor:
        # A model may make tensors without saying where (MPNet its relative positions): a copy from the host, which
        # waits for the device, can't be captured.
        with nullcontext() if self.selector is None else self.selector.selected(self.kept), self.device:
            return self.train_step.backward(batch)


def _padded(lengths: Sequence[Length], longest: Length | None = None) -> Length:
    """The length that holds all, for source and target each: one of few, or the ``longest`` where that is less. Without
    ``longest`` just the length that holds all."""
    if isinstance(lengths[0], int):
        most = max(length for length in lengths if isinstance(length, int))
        return min(_up(most), longest) if isinstance(longest, int) else most
    both = [length for length in lengths if not isinstance(length, int)]
    source, target = max(length for length, _ in both), max(length for _, length in both)
    return (
        (min(_up(source), longest[0]), min(_up(target), longest[1])) if isinstance(longest, tuple) else (source, target)
    )


def _up(length: int) -> int:
    """The next multiple of MULTIPLE or, for a long one, of the largest power of two that is at most its 4th part."""
    step = max(MULTIPLE, 1 << max(0, (length // FINENESS).bit_length() - 1))
    return -(-length // step) * step


def can_capture(model: nn.Module, device: torch.device) -> bool:
    """Whether a step of this model is so small that a graph pays."""
    return device.type == "cuda" and sum(parameter.numel() for parameter in model.parameters()) < SMALL
