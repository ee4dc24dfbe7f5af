"""Several processes that train one model together, each on its own GPU or on a share of the CPU: data parallel.

    torchrun --nproc-per-node N -m pst train FOLDER

Every process holds the whole model and takes every N-th row of a batch. A loss part is divided by the denominators of
the whole batch (:mod:`pst.training.step`), so the gradients of the processes add up to those of one process:

    g = sum over processes of g_p          trained tensors only, one bucket, the loss with them

Then all processes clip and step alike, and stay equal bit for bit. What is drawn at random in a forward pass
(dropout) differs between them, and depends on seed, step and process only: nothing of it need be kept to go on.

Process 0 is the first: it alone evaluates, tells, writes and exports. All processes must see the same folders.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pst.errors import ProcessLost, PSTError
from pst.messages import Message
from pst.model import memory
from pst.sparsity.masks import Selection

LONGEST_WAIT = timedelta(days=2)  # the others wait while the first evaluates; the death of a process is noticed at once


@dataclass(frozen=True)
class Peers:
    """This process's place, ``rank`` of ``size``. Alone, nothing below communicates.

    Methods that communicate must be called by all processes, in the same order; they raise
    :class:`pst.errors.ProcessLost` when one has died.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def shard(self, rows: Sequence[int]) -> Sequence[int]:
        """This process's rows of a batch; none where there are fewer rows than processes."""
        return rows[self.rank :: self.size]

    def others(self, rows: Sequence[int]) -> Sequence[int]:
        """The rest of the batch."""
        return [row for place, row in enumerate(rows) if place % self.size != self.rank]

    def seed(self, seed: int, step: int) -> None:
        """Set the random numbers of a step. One process alone goes on drawing from where it stands."""
        if self.size > 1:
            torch.manual_seed((seed * 1_000_003 + step) * self.size + self.rank)

    def barrier(self) -> None:
        """Until all processes are here."""
        self.all_reduce_max(0)

    def all_reduce_max(self, *values: int) -> list[int]:
        """The greatest of each value over all processes."""
        tensor = torch.tensor(values, dtype=torch.int64)
        if self.size > 1:
            with _noticed():
                dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [int(value) for value in tensor]

    def all_reduce_min(self, value: int) -> int:
        """The least over all processes."""
        return -self.all_reduce_max(-value)[0]

    def broadcast(self, values: tuple[float, float] | None) -> tuple[float, float]:
        """The first's ``values``, which the others need not give."""
        tensor = torch.tensor(values or (0.0, 0.0), dtype=torch.float64)
        if self.size > 1:
            with _noticed():
                dist.broadcast(tensor, src=0)
        return float(tensor[0]), float(tensor[1])

    def all_reduce(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace each gradient by its sum over all processes (none counts as zeros); returns the sum of the losses."""
        if self.size == 1:
            return loss
        trained = list(parameters)
        dtype = reduce(torch.promote_types, (parameter.dtype for parameter in trained), loss.dtype)
        parts = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in trained]
        bucket = torch.cat([part.to(dtype) for part in (*parts, loss.reshape(1))])
        with _noticed():
            dist.all_reduce(bucket)
        *sums, total = torch.split(bucket, [*(part.numel() for part in parts), 1])
        for parameter, gradient in zip(trained, sums, strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
        return total.reshape(()).to(loss.dtype, copy=True)

    def check_equal(self, trained: Mapping[str, Tensor], chosen: Callable[[], Sequence[Selection]]) -> None:
        """Raise :class:`PSTError` unless all processes hold the same trained tensors and the same selections."""
        if self.size == 1:
            return
        found = checksum(trained, chosen())
        most, least = self.all_reduce_max(found, -found)
        if most != -least:
            raise PSTError(
                Message(
                    "The processes of this run no longer hold the same weights and masks: the "
                    "machine, or one of its GPUs, computes wrongly. The run can go on from its last "
                    "checkpoint elsewhere."
                )
            )


ALONE = Peers()


def checksum(trained: Mapping[str, Tensor], chosen: Sequence[Selection]) -> int:
    """Of all trained tensors and selections, as they stand; of a mask, its counts by row and column."""
    code = 0
    for tensor in trained.values():
        code = _add(tensor, code)
    for selection in chosen:
        if selection.mask is None:
            code = _add(torch.as_tensor(selection.cut), _add(selection.threshold, code))
        else:
            code = _add(selection.mask.sum(1), _add(selection.mask.sum(0), code))
    return code


def _add(tensor: Tensor, code: int) -> int:
    flat = tensor.detach().reshape(-1).cpu().contiguous()
    return zlib.crc32(flat.view(torch.uint8).numpy().data, code)


@contextmanager
def _noticed() -> Iterator[None]:
    """Turn what a broken connection raises into a plain sentence."""
    try:
        yield
    except RuntimeError as error:
        if memory.is_out_of_memory(error):
            raise
        raise ProcessLost(
            Message(
                "Another process of this run has ended, so that training can't go on; its own "
                "message, if it could give one, says why. The last checkpoint is kept."
            )
        ) from error


@contextmanager
def joined() -> Iterator[Peers]:
    """The processes that torchrun started, as its environment variables say; without them this one alone.

    Chooses this process's GPU. Raises :class:`PSTError` where there are fewer GPUs than processes.
    """
    size, rank, place = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
    if size == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        if place >= torch.cuda.device_count():
            raise PSTError(
                Message(
                    "There are {count} GPUs, too few for process {process} of this machine: "
                    "start as many processes as there are GPUs.",
                    count=torch.cuda.device_count(),
                    process=place + 1,
                )
            )
        torch.cuda.set_device(place)
    with _noticed():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=LONGEST_WAIT)
    yield Peers(rank, size)
    dist.destroy_process_group()  # not after an error: the others may be gone


_VARIABLES = ("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0")
