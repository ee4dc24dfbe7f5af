"""How many rows fit on the device at once.

On a CUDA device a trial tells: forward and backward of the longest rows. On a CPU a trial of a whole batch would take
as long as a step and the operating system hides what it costs, so the bytes that autograd keeps for one row, the
longest, are counted by its hooks, and compared with what the machine has left:

    rows = (share * available - fixed) / bytes of a row      fixed: gradients, moments, best state, masks, M * D

Only a memory that is too small changes anything: where a whole batch fits, it is not split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pst import machine

SHARE = 0.8  # of the free memory that training may take
WORKING = 1.5  # backward needs room for gradients of activations beside what is kept
ROUTINE = 4  # rows below which recomputing activations is better than splitting further


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


def free_bytes(device: torch.device) -> int:
    """Memory of a device that this process can still take, and may: torch can hold it to a share of the device's."""
    if device.type != "cuda":
        return machine.available_bytes()
    free, total = torch.cuda.mem_get_info(device)
    taken, share = torch.cuda.memory_allocated(device), torch.cuda.get_per_process_memory_fraction(device)
    return min(free + torch.cuda.memory_reserved(device) - taken, int(share * total) - taken)


def kept_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that autograd keeps of a forward pass, without weights, what lies in their storage, and masks of them."""
    shapes = {tensor.shape for tensor in model.state_dict().values()}
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.state_dict(keep_vars=True).values()}
    seen: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        mask = tensor.dtype == torch.bool and tensor.shape in shapes
        if storage.data_ptr() not in weights and not mask:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(seen.values())


def fixed_bytes(trained: Mapping[str, nn.Parameter], model: nn.Module) -> int:
    """Gradients, moments and the best state of what is trained, a mask of the rest, and twice the largest matrix."""
    sizes = [parameter.numel() * parameter.element_size() for parameter in trained.values()]
    largest = max((p.numel() * p.element_size() for p in model.parameters()), default=0)
    masks = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return 4 * sum(sizes) + masks + 2 * largest


def rows_that_fit(available: int, fixed: int, row: int, most: int) -> int:
    """At most ``most`` rows, halved until they fit; 0 when not even one does."""
    rows = most
    while rows and fixed + WORKING * row * rows > SHARE * available:
        rows //= 2
    return rows


def rows_by_trial(trial: Callable[[int], None], most: int) -> int:
    """At most ``most`` rows, halved until ``trial(rows)`` runs without running out of memory; 0 when none does."""
    rows = most
    while rows:
        try:
            trial(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            return rows
        release()
        rows //= 2
    return 0


def release() -> None:
    """Give back to the device what a failed pass left behind."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def longest(lengths: Sequence[int], count: int) -> list[int]:
    """Numbers of the ``count`` longest rows."""
    return sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True)[:count]
