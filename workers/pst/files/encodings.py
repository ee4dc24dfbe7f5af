"""The encodings of the compact format (:mod:`pst.plan.sizes`) for one matrix: to its parts and back, on any device.

Elements are seen as whole numbers of their width, so that -0.0 and NaN are elements as any other and only +0.0 is
none. The parts are described in :mod:`pst.files.formats`.

Legend: n, k rows and columns of the matrix; N, K of its grid of blocks; G groups of four along the rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pst.plan.sizes import BLOCKS, filled, grid, pick

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
LOW_16 = 0xFFFF


def bits(tensor: Tensor) -> Tensor:
    """``tensor`` seen as whole numbers of its width."""
    return tensor.contiguous().view(_BITS[tensor.element_size()])


def encode(tensor: Tensor) -> tuple[str, dict[str, Tensor]]:
    """The smallest encoding of a matrix (n, k) of any dtype of 1 to 8 bytes, and its parts by their last names, on its
    device; none for "dense".

    >>> weight = torch.zeros(4, 64)
    >>> weight[0, 5] = 2.0
    >>> name, parts = encode(weight)
    >>> name, {part: tuple(tensor.shape) for part, tensor in parts.items()}
    ('csr16', {'values': (1,), 'columns': (1,), 'offsets': (5,)})
    >>> bool((decode(name, 4, 64, parts) == weight).all())
    True
    """
    array = bits(tensor)
    n, k = array.shape
    present = array != 0
    nonzeros = int(present.sum())
    units = {}
    for name, block in BLOCKS.items():
        if not name.startswith("bitmask"):
            continue
        held = _blocks(present, block)
        count = int(held.sum())
        if filled(nonzeros if block == (1, 1) else _covered(held, n, k, block), nonzeros):
            units[name] = units[name.replace("bitmask", "csr16")] = count
    if _most_in_four(present) <= 2:
        units["nm_2_4"] = n * -(-k // 4)
    encoding = pick(n, k, units, tensor.element_size())
    if encoding == "dense":
        return encoding, {}
    if encoding == "nm_2_4":
        values, places = _two_of_four(_cells(array, (1, 4)))
        return encoding, {"values": values.view(tensor.dtype), "places": places}
    block = BLOCKS[encoding]
    stored = _blocks(present, block)
    values = (array if block == (1, 1) else _cells(array, block))[stored].reshape(-1)
    if encoding.startswith("bitmask"):
        return encoding, {"values": values.view(tensor.dtype), "bitmask": packed(stored.view(-1))}
    columns = stored.nonzero()[:, 1].to(torch.int32).to(torch.uint16)
    offsets = F.pad(stored.sum(1).cumsum(0), (1, 0)).to(torch.int32)
    return encoding, {"values": values.view(tensor.dtype), "columns": columns, "offsets": offsets}


def decode(encoding: str, n: int, k: int, parts: Mapping[str, Tensor]) -> Tensor:
    """The matrix (n, k) from its parts, in the dtype of its values. Raises ValueError for an unknown encoding, and
    RuntimeError, IndexError or KeyError where the parts do not fit."""
    values = bits(parts["values"])
    if encoding == "nm_2_4":
        nibbles = torch.stack([parts["places"] & 15, parts["places"] >> 4], 1).view(-1)[: n * -(-k // 4)]
        places = torch.stack([nibbles & 3, nibbles >> 2], 1).long()
        cells = values.new_zeros(len(nibbles), 4).scatter_(1, places, values.view(-1, 2))
        return _matrix(cells, n, k, (1, 4)).view(parts["values"].dtype)
    if encoding not in BLOCKS:
        raise ValueError(f"unknown encoding {encoding!r}")
    block = BLOCKS[encoding]
    down, across = grid(n, k, block)
    size = block[0] * block[1]
    cells = values.new_zeros(down * across, size)
    if encoding.startswith("bitmask"):
        stored = unpacked(parts["bitmask"], down * across)
        if int(stored.sum()) * size != len(values):
            raise ValueError("the bitmask does not count the values")
        cells[stored] = values.view(-1, size)
    else:
        counts = parts["offsets"].long().diff()
        rows = torch.arange(down, device=values.device).repeat_interleave(counts)
        columns = parts["columns"].view(torch.int16).long() & LOW_16
        cells[rows * across + columns] = values.view(-1, size)
    return _matrix(cells, n, k, block).view(parts["values"].dtype)


def packed(flags: Tensor) -> Tensor:
    """Eight booleans a byte, the first in its lowest bit."""
    eights = F.pad(flags, (0, -len(flags) % 8)).view(-1, 8)
    result = torch.zeros(len(eights), dtype=torch.uint8, device=flags.device)
    for place in range(8):
        result |= eights[:, place].to(torch.uint8) << place
    return result


def unpacked(bytes_: Tensor, count: int) -> Tensor:
    """The first ``count`` booleans of what :func:`packed` gave."""
    result = torch.empty(len(bytes_), 8, dtype=torch.bool, device=bytes_.device)
    for place in range(8):
        result[:, place] = (bytes_ >> place) & 1
    return result.view(-1)[:count]


def _padded(array: Tensor, block: tuple[int, int]) -> Tensor:
    """The blocks (N, height, K, width) of a matrix, filled up with zeros at the edges."""
    n, k = array.shape
    down, across = grid(n, k, block)
    padded = F.pad(array, (0, across * block[1] - k, 0, down * block[0] - n))
    return padded.view(down, block[0], across, block[1])


def _cells(array: Tensor, block: tuple[int, int]) -> Tensor:
    """The blocks (N, K, elements) of a matrix."""
    return _padded(array, block).transpose(1, 2).flatten(2)


def _blocks(present: Tensor, block: tuple[int, int]) -> Tensor:
    """Which blocks (N, K) hold an element."""
    if block == (1, 1):
        return present
    cells = _padded(present, block)
    parts = [cells[:, down, :, across] for down in range(block[0]) for across in range(block[1])]
    result = parts[0] | parts[1]
    for part in parts[2:]:
        result |= part
    return result


def _covered(held: Tensor, n: int, k: int, block: tuple[int, int]) -> int:
    """Elements of the matrix within the blocks ``held`` (N, K); those at the edges have fewer."""
    edge = [-size % length for size, length in zip((n, k), block, strict=True)]  # beyond the matrix
    last_row, last_column = int(held[-1].sum()), int(held[:, -1].sum())
    corner = int(held[-1, -1])
    covered = int(held.sum()) * block[0] * block[1] - last_row * edge[0] * block[1] - last_column * edge[1] * block[0]
    return covered + corner * edge[0] * edge[1]


def _most_in_four(present: Tensor) -> int:
    """The most elements in a group of four along a row."""
    fours = _padded(present.view(torch.uint8), (1, 4))[:, 0]
    count = fours[..., 0] + fours[..., 1]
    for place in (2, 3):
        count += fours[..., place]
    return int(count.max())


def _matrix(cells: Tensor, n: int, k: int, block: tuple[int, int]) -> Tensor:
    """The inverse of :func:`_cells`."""
    if block == (1, 1):
        return cells.view(n, k)
    down, across = grid(n, k, block)
    wide = cells.view(down, across, *block).transpose(1, 2).reshape(down * block[0], across * block[1])
    return wide[:n, :k].contiguous()


def _two_of_four(fours: Tensor) -> tuple[Tensor, Tensor]:
    """Values (2 G) and packed places of groups (n, K, 4) with at most two elements."""
    groups = fours.reshape(-1, 4)
    # Stable: the elements first, in order, then zeros; of those two the lower place comes first.
    order = (groups == 0).to(torch.uint8).argsort(dim=1, stable=True)
    places = order[:, :2].sort(dim=1).values
    values = groups.gather(1, places).view(-1)
    nibbles = (places[:, 0] | places[:, 1] << 2).to(torch.uint8)
    nibbles = F.pad(nibbles, (0, len(nibbles) % 2))
    return values, nibbles[::2] | nibbles[1::2] << 4
