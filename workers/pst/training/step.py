"""One optimiser step: batches in micro-batches that fit, losses that add up to the whole batch's mean.

A micro-batch's loss is its rows' part of the batch's mean (the task divides by the whole batch's denominators), so the
gradients of the micro-batches add up to those of the unsplit batch; and so do those of several processes
(:mod:`pst.training.parallel`), of which each takes its share of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pst import machine
from pst.config import TrainSettings
from pst.errors import PSTError
from pst.messages import Message
from pst.model import memory
from pst.tasks import Length, Task
from pst.training.distill import Teacher, hidden_distance, token_counts, token_masks
from pst.training.parallel import ALONE, Peers

WHOLE = 2**62  # more rows than any batch has: no micro-batches


@dataclass(frozen=True)
class Batch:
    """A micro-batch on the device, of which the first ``rows`` rows are real. ``norm`` and ``tokens`` are those of the
    whole batch."""

    inputs: dict[str, Tensor]
    gold: Tensor
    norm: Tensor
    tokens: Tensor
    teacher: Tensor | None
    rows: Tensor  # 0-dim

    def tensors(self) -> list[Tensor]:
        every = [*self.inputs.values(), self.gold, self.norm, self.tokens, self.rows]
        return every if self.teacher is None else [*every, self.teacher]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32: instructions of its own, no emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch can't tell
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def autocast(device: torch.device, settings: TrainSettings, *, training: bool = True) -> AbstractContextManager[Any]:
    """The number format of activations. In training bfloat16 when asked for, or on a device that computes with it; and
    wherever frozen weights have fewer bits than float32.

    Nothing is cached: a cached 16-bit weight would outlive the step that a CUDA graph captures.
    """
    asked = settings.precision == "bfloat16" or (settings.precision == "auto" and computes_bfloat16(device))
    wanted = (asked and training) or settings.frozen_weights != "float32"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted, cache_enabled=False)


class TrainStep:
    """Computes gradients of batches of ``task.train`` and applies them."""

    def __init__(
        self,
        model: nn.Module,
        trained: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        task: Task,
        settings: TrainSettings,
        teacher: Teacher,
        log: Callable[[str, str], None],
        peers: Peers = ALONE,
    ) -> None:
        self.model, self.trained, self.optimizer = model, trained, optimizer
        self.task, self.settings, self.teacher, self.log = task, settings, teacher, log
        self.peers = peers
        if teacher.model is not None:
            teacher.model.eval()
        self.device = next(model.parameters()).device
        self.micro_batch = settings.micro_batch_size
        self.checkpointing = False
        self._row = 0  # bytes kept for the longest row, nothing recomputed
        self.hidden = settings.distill_hidden_weight if teacher.model is not None else 0.0

    # batches

    def micro_batches(self, rows: Sequence[int]) -> list[Batch]:
        """This process's share of the rows of one optimiser step, at most ``micro_batch`` at once."""
        mine = self.peers.shard(rows)
        size = self.micro_batch or max(1, len(mine))
        return self._batches([mine[at : at + size] for at in range(0, len(mine), size)], self.peers.others(rows))

    def padded(self, rows: Sequence[int], length: Length, count: int) -> Batch:
        """All rows in one, padded to a length and a number of rows."""
        return self._batches([rows], length=length, count=count)[0]

    def _batches(self, parts: Sequence[Sequence[int]], others: Sequence[int] = (), **pad: Any) -> list[Batch]:
        """Of ``parts``, which with the ``others`` are the whole batch."""
        if not parts:
            return []
        collated = [self.task.collate([self.task.train[row] for row in part], **pad) for part in parts]
        counted = [(*both, len(part)) for both, part in zip(collated, parts, strict=True)]
        if others:
            counted.append((*self.task.collate([self.task.train[row] for row in others]), len(others)))
        norm = torch.stack([self.task.norm(gold) for _, gold, _ in counted]).sum(0)
        tokens = torch.stack([token_counts(inputs, gold, count) for inputs, gold, count in counted]).sum(0)
        return [
            self._moved(Batch(inputs, gold, norm, tokens, self._logits(part, len(gold)), torch.tensor(len(part))))
            for (inputs, gold), part in zip(collated, parts, strict=True)
        ]

    def _logits(self, rows: Sequence[int], count: int) -> Tensor | None:
        if self.teacher.logits is None or self.teacher.model is not None:
            return None
        kept = self.teacher.logits[list(rows)]
        return torch.cat([kept, kept.new_zeros(count - len(kept), *kept.shape[1:])]) if count > len(kept) else kept

    def _moved(self, batch: Batch) -> Batch:
        if self.device.type == "cpu":
            return batch

        def move(tensor: Tensor) -> Tensor:  # from pinned memory, a copy does not wait for the device
            return tensor.pin_memory().to(self.device, non_blocking=True)

        return Batch(
            {name: move(tensor) for name, tensor in batch.inputs.items()},
            move(batch.gold),
            move(batch.norm),
            move(batch.tokens),
            None if batch.teacher is None else move(batch.teacher),
            move(batch.rows),
        )

    # gradients

    def loss(self, batch: Batch) -> Tensor:
        """The micro-batch's part of the batch's loss, 0-dim."""
        more = {"output_hidden_states": True} if self.hidden else {}
        with autocast(self.device, self.settings):
            wanted = None
            if self.teacher.model is not None:
                with torch.no_grad():
                    wanted = self.teacher.model(**batch.inputs, **more)
            outputs = self.model(**batch.inputs, **more)
        logits = batch.teacher if wanted is None else wanted.logits if self.settings.distill else None
        loss = self.task.loss(outputs, batch.gold, logits, batch.norm)
        if self.hidden:
            masks = token_masks(batch.inputs, batch.gold, batch.rows, outputs)
            loss = loss + self.hidden * hidden_distance(outputs, wanted, masks, batch.tokens)
        return loss

    def backward(self, batch: Batch) -> Tensor:
        """Adds the micro-batch's gradients; returns its part of the loss."""
        loss = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def apply(self) -> None:
        """Clip the gradients and let the optimiser use them."""
        nn.utils.clip_grad_norm_(list(self.trained.values()), self.settings.max_grad_norm)
        self.optimizer.step()

    def step(self, rows: Sequence[int], begin: Callable[[], None], note: Callable[[Tensor], None]) -> None:
        """One optimiser step, whose loss ``note`` gets before the weights change. Where memory runs out, the
        micro-batch is halved and the step done again, ``begin`` included.

        Raises :class:`PSTError` when not even one row fits.
        """
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                begin()
                losses = [self.backward(batch) for batch in self.micro_batches(rows)]
                break
            except RuntimeError as error:
                if not memory.is_out_of_memory(error):
                    raise
                shortage = str(error).splitlines()[0]
            self.optimizer.zero_grad(set_to_none=True)
            memory.release()
            self._shrink(len(self.peers.shard(rows)), shortage)
        loss = losses[0] if len(losses) == 1 else torch.stack(losses or [torch.zeros((), device=self.device)]).sum()
        note(self.peers.all_reduce(self.trained.values(), loss))
        self.apply()

    def _shrink(self, rows: int, shortage: str) -> None:
        size = min(self.micro_batch or rows, rows)
        if size <= memory.ROUTINE and self.settings.gradient_checkpointing == "auto" and self.checkpoint():
            self.log("warning", f"Memory ran out ({shortage}); activations are recomputed from now on.")
            return
        if size == 1:
            raise PSTError(
                Message(
                    "Not even one row fits the memory of the device ({shortage}); lower max_length.", shortage=shortage
                )
            )
        self.micro_batch = size // 2
        self.log("warning", f"Memory ran out ({shortage}); {self.micro_batch} rows at once from now on.")

    # preflight

    def checkpoint(self) -> bool:
        """Recompute activations in backward from now on; False where the model can't, or does so already."""
        able = getattr(self.model, "supports_gradient_checkpointing", False)
        if self.checkpointing or not able:
            return False
        # transformers renamed it, and warns of the old name.
        enable: Any = getattr(self.model, "activation_checkpointing_enable", None)
        enable = enable or self.model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        self.checkpointing = True
        return True

    def restore(self, micro_batch: int, checkpointing: bool) -> None:
        """What a checkpointed run, or another process, found to fit: another split would round differently."""
        self.micro_batch = micro_batch
        if checkpointing:
            self.checkpoint()

    @property
    def splits(self) -> bool:
        """Whether a step is more than one pass over its batch."""
        return 0 < self.micro_batch < self.settings.batch_size or self.checkpointing

    def agrees(self, asked: bool) -> bool:
        """Whether any process is asked to stop. Where memory ran out in one, all go on as that one does: a checkpoint
        says it for all."""
        if self.peers.size == 1:
            return asked
        stop, again, least = self.peers.all_reduce_max(
            int(asked), int(self.checkpointing), -(self.micro_batch or WHOLE)
        )
        self.restore(0 if -least == WHOLE else -least, bool(again))
        return bool(stop)

    def preflight(self) -> None:
        """Choose micro-batch and checkpointing. Leaves no trace in random numbers and gradients.

        Raises :class:`PSTError` when nothing fits.
        """
        asked = self.settings.gradient_checkpointing
        if asked == "on" and not self.checkpoint():
            raise PSTError(Message("gradient_checkpointing is on, but this model can't recompute its activations."))
        if self.settings.micro_batch_size:
            return
        most = -(-min(self.settings.batch_size, len(self.task.train)) // self.peers.size)
        fitting = self.peers.all_reduce_min(self._fitting(most))
        if fitting < min(memory.ROUTINE, most) and asked == "auto" and self.checkpoint():
            fitting = max(fitting, self.peers.all_reduce_min(self._fitting(most)))
        if not fitting:
            raise PSTError(Message("Not even one row fits the memory of the device; lower max_length."))
        if fitting < most or self.checkpointing:
            note = ", activations are recomputed" if self.checkpointing else ""
            self.log("info", f"{fitting} of {most} rows of a batch are computed at once{note}.")
        self.micro_batch = 0 if fitting == most else fitting

    def _fitting(self, most: int) -> int:
        lengths = [total(self.task.length(row)) for row in self.task.train]
        longest = memory.longest(lengths, most)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            if self.device.type == "cuda":
                return memory.rows_by_trial(lambda rows: self._trial(longest[:rows]), most)
            batch = self._batches([longest[:1]])[0]
            row = memory.kept_bytes(lambda: self.loss(batch), self.model)
            if self.checkpointing:
                row += self._row // max(1, getattr(self.model.config, "num_hidden_layers", 1))  # of one block at a time
            else:
                self._row = row
            fixed = memory.fixed_bytes(self.trained, self.model)
            return memory.rows_that_fit(machine.available_bytes() // self.peers.size, fixed, row, most)

    def _trial(self, rows: Sequence[int]) -> None:
        """Forward and backward, with room for the optimiser's two moments."""
        moments = (
            [torch.empty_like(p) for p in self.trained.values() for _ in range(2)] if not self.optimizer.state else []
        )
        try:
            self.backward(self._batches([rows])[0])
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        del moments


def total(length: Length) -> int:
    """Tokens of a row, of source and target together."""
    return length if isinstance(length, int) else sum(length)
