"""The compact sparse format: ``model.sparse.safetensors`` and ``index.json`` in one folder.

Every tensor of a model is stored in the smallest of the encodings of :mod:`pst.sizes` (matrices with 2 dimensions;
others as they are):

    dense    <name>                               as it is
    nm_2_4   <name>.values  (2 G)                 two values of each four of a row, G = n ceil(k / 4)
             <name>.places  (ceil(G / 2)) u8      four bits a group: the places of its two values
    bitmask  <name>.values  (stored units)        the stored values, row by row
             <name>.bitmask (ceil(N K / 8)) u8    bit i % 8 (lowest first) of byte i // 8: unit i is stored
    csr16    <name>.values  (stored units)        the stored values, row by row
             <name>.columns (stored units) u16    the column of each unit
             <name>.offsets (N + 1) i32           row i owns units offsets[i] .. offsets[i + 1] - 1

A unit is an element, or with the ending _1x4 or _4x1 a block of four. An element is stored unless all its bits are
zero: -0.0 and NaN survive, so reading gives back the tensors bit for bit. Values may be held as int8 with a float32
scale for each row, <name>.scales, or as bfloat16: :class:`Storing`.
``index.json`` gives for each tensor shape, dtype, encoding, nnz, bytes and the sha256 of the dense tensor's bytes
(row-major, little-endian). The whole format for readers in other languages: docs/guides/sparse-format.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pst.errors import FormatError
from pst.sizes import BLOCKS, filled, grid, pick

SPARSE_FILE = "model.sparse.safetensors"
INDEX_FILE = "index.json"
DENSE_FILE = "model.safetensors"
FORMAT = "sparsewright-sparse"
VERSIONS = (1, 2)
"""Version 1 has no blocks, no 2:4, and holds values in the tensor's own dtype; a file that needs no more says 1."""
ENCODINGS_1 = ("dense", "bitmask", "csr16")
METADATA = {"format": "pt"}

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.int64,
        torch.int32,
        torch.int8,
        torch.uint8,
    )
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Storing:
    """How the compact file holds a matrix, where not simply by its elements.

    ``values``: what to store in its place, int8 with ``scales`` (float32, one for each row) or bfloat16;
    :func:`widened` of it must be the matrix, bit for bit. ``transposed``: the model has the matrix as (k, n), and both
    the file and ``values`` have it as (n, k).
    """

    values: Tensor | None = None
    scales: Tensor | None = None
    transposed: bool = False


def widened(values: Tensor, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The matrix (n, k) in ``dtype`` from its stored ``values``: rounded once, after the product in float32."""
    return (values if scales is None else values.float() * scales.unsqueeze(1)).to(dtype)


def bits(tensor: Tensor) -> Tensor:
    """``tensor`` seen as whole numbers of its width."""
    return tensor.contiguous().view(_BITS[tensor.element_size()])


def digest(tensor: Tensor) -> str:
    """sha256 of the tensor's bytes, row-major."""
    return hashlib.sha256(bits(tensor).cpu().numpy().tobytes()).hexdigest()


def _encode(name: str, tensor: Tensor) -> tuple[str, dict[str, Tensor]]:
    """(encoding, the tensors that hold the matrix (n, k), which is no dense one where ``values`` is among them)."""
    array: Array = bits(tensor).numpy()
    n, k = array.shape
    present: dict[tuple[int, int], Array] = {}
    for block in set(BLOCKS.values()):
        present[block] = np.any(_cells(array, block), axis=-1)
    nonzeros = int(np.count_nonzero(present[1, 1]))
    units = {
        name: int(np.count_nonzero(present[block]))
        for name, block in BLOCKS.items()
        if filled(_covered(present[block], n, k, block), nonzeros)
    }
    fours = _cells(array, (1, 4))
    if np.count_nonzero(fours, axis=-1).max() <= 2:
        units["nm_2_4"] = n * fours.shape[1]
    encoding = pick(n, k, units, tensor.element_size())
    if encoding == "dense":
        return encoding, {}
    if encoding == "nm_2_4":
        values, places = _two_of_four(fours)
        return encoding, {f"{name}.values": _as(values, tensor), f"{name}.places": torch.from_numpy(places)}
    block = BLOCKS[encoding]
    stored = present[block]
    held = {f"{name}.values": _as(_cells(array, block)[stored].reshape(-1), tensor)}
    if encoding.startswith("bitmask"):
        packed = np.packbits(stored.reshape(-1), bitorder="little")
        return encoding, {**held, f"{name}.bitmask": torch.from_numpy(packed)}
    columns = np.nonzero(stored)[1].astype(np.uint16)
    offsets = np.zeros(len(stored) + 1, dtype=np.int32)
    offsets[1:] = np.cumsum(np.count_nonzero(stored, axis=1))
    return encoding, {
        **held,
        f"{name}.columns": torch.from_numpy(columns),
        f"{name}.offsets": torch.from_numpy(offsets),
    }


def _as(array: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(array).view(like.dtype)


def _cells(array: Array, block: tuple[int, int]) -> Array:
    """The blocks (N, K, elements) of a matrix, filled up with zeros at the edges."""
    n, k = array.shape
    down, across = grid(n, k, block)
    padded = np.pad(array, ((0, down * block[0] - n), (0, across * block[1] - k)))
    cells: Array = padded.reshape(down, block[0], across, block[1]).transpose(0, 2, 1, 3)
    return cells.reshape(down, across, block[0] * block[1])


def _covered(present: Array, n: int, k: int, block: tuple[int, int]) -> int:
    """Elements of the matrix within the ``present`` blocks (N, K); those at the edges have fewer."""
    sides = (np.minimum(block[axis], (n, k)[axis] - np.arange(0, (n, k)[axis], block[axis])) for axis in (0, 1))
    rows, columns = sides
    return int(rows @ present @ columns)


def _matrix(cells: Array, n: int, k: int, block: tuple[int, int]) -> Array:
    """The inverse of :func:`_cells`."""
    down, across = grid(n, k, block)
    wide: Array = cells.reshape(down, across, *block).transpose(0, 2, 1, 3).reshape(down * block[0], across * block[1])
    return np.ascontiguousarray(wide[:n, :k])


def _two_of_four(fours: Array) -> tuple[Array, Array]:
    """Values (2 G) and packed places of groups (n, K, 4) with at most two elements that are not zero."""
    groups = fours.reshape(-1, 4)
    # Stable: the elements first, in order, then zeros; of those two the lower place comes first.
    places = np.sort(np.argsort(groups == 0, axis=1, kind="stable")[:, :2], axis=1)
    values = np.take_along_axis(groups, places, axis=1).reshape(-1)
    nibbles = (places[:, 0] | places[:, 1] << 2).astype(np.uint8)
    nibbles = np.pad(nibbles, (0, len(nibbles) % 2))
    return values, nibbles[::2] | nibbles[1::2] << 4


def write_sparse(state: Mapping[str, Tensor], folder: Path, storing: Mapping[str, Storing] | None = None) -> int:
    """Write both files for ``state`` (tensors on the CPU) into ``folder``. Returns the size of the safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, Tensor] = {}
    index: dict[str, Any] = {}
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        entry, parts = _entry(name, tensor, (storing or {}).get(name, Storing()))
        if held.keys() & parts.keys():
            raise FormatError(f"The tensor name {name} clashes with a part of another tensor.")
        held |= parts
        index[name] = entry
    save_file(held, folder / SPARSE_FILE, metadata=METADATA)
    old = all(
        entry["encoding"] in ENCODINGS_1 and not entry.keys() & {"stored", "transposed"} for entry in index.values()
    )
    content = {"format": FORMAT, "version": VERSIONS[0 if old else 1], "file": SPARSE_FILE, "tensors": index}
    (folder / INDEX_FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return (folder / SPARSE_FILE).stat().st_size


def _entry(name: str, tensor: Tensor, how: Storing) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The index's entry of a tensor, and the tensors that hold it."""
    values = how.values if how.values is not None else tensor.T if how.transposed else tensor
    values = values.detach().contiguous()
    encoding, parts = _encode(name, values) if tensor.dim() == 2 and tensor.numel() else ("dense", {})
    transposed = how.transposed
    if encoding == "dense":
        if how.values is None:
            values, transposed = tensor, False
        parts = {name if how.scales is None else f"{name}.values": values}
    if how.scales is not None:
        parts[f"{name}.scales"] = how.scales.contiguous()
    entry = {
        "shape": list(tensor.shape),
        "dtype": _name(tensor.dtype),
        "encoding": encoding,
        "nnz": next(iter(parts.values())).numel(),
        "bytes": sum(part.numel() * part.element_size() for part in parts.values()),
        "dense_bytes": tensor.numel() * tensor.element_size(),
        "sha256": digest(tensor),
    }
    if values.dtype != tensor.dtype:
        entry["stored"] = _name(values.dtype)
    if transposed:
        entry["transposed"] = True
    return entry, parts


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def read_sparse(folder: Path, *, verify: bool = True) -> dict[str, Tensor]:
    """The dense tensors, bit for bit as they were written.

    Raises :class:`FormatError` when a file is missing or damaged; with ``verify`` every tensor's sha256 is checked.
    """
    try:
        index = json.loads((folder / INDEX_FILE).read_text("utf-8"))
        held = load_file(folder / SPARSE_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise FormatError(f"The compact model in {folder} can't be read: {error}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT or index.get("version") not in VERSIONS:
        words = " or ".join(map(str, VERSIONS))
        raise FormatError(f"{folder / INDEX_FILE} does not describe version {words} of the compact format.")
    state = {}
    for name, entry in index["tensors"].items():
        try:
            tensor = _decode(name, entry, held)
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            raise FormatError(f"The tensor {name} in {folder} is damaged: {error}") from error
        if verify and digest(tensor) != entry["sha256"]:
            raise FormatError(f"The tensor {name} in {folder} does not have the recorded sha256.")
        state[name] = tensor
    return state


def _decode(name: str, entry: Mapping[str, Any], held: Mapping[str, Tensor]) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    transposed, scales = entry.get("transposed", False), None
    if transposed:
        shape = shape[::-1]
    if entry.get("stored") == "int8":
        scales = held[f"{name}.scales"]
        if scales.shape != (shape[0],):
            raise ValueError("there must be a scale for each row")
    stored = _DTYPES[entry.get("stored", entry["dtype"])]
    values = held[name if entry["encoding"] == "dense" and scales is None else f"{name}.values"]
    if values.dtype != stored:
        raise ValueError("the values' dtype differs from the index")
    if entry["encoding"] != "dense":
        n, k = shape
        values = _as(_expanded(name, entry["encoding"], n, k, bits(values).numpy(), held), values).reshape(n, k)
    elif list(values.shape) != shape:
        raise ValueError("the shape differs from the index")
    tensor = widened(values, scales, dtype)
    return tensor.T.contiguous() if transposed else tensor


def _expanded(name: str, encoding: str, n: int, k: int, values: Array, held: Mapping[str, Tensor]) -> Array:
    """The matrix (n, k) from its stored values."""
    if encoding == "nm_2_4":
        packed = held[f"{name}.places"].numpy()
        cells = np.zeros((n * -(-k // 4), 4), dtype=values.dtype)
        nibbles = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[: len(cells)]
        places = np.stack([nibbles & 3, nibbles >> 2], axis=1)
        np.put_along_axis(cells, places, values.reshape(len(cells), 2), axis=1)
        return _matrix(cells, n, k, (1, 4))
    if encoding not in BLOCKS:
        raise ValueError(f"unknown encoding {encoding!r}")
    block = BLOCKS[encoding]
    down, across = grid(n, k, block)
    if encoding.startswith("bitmask"):
        packed = held[f"{name}.bitmask"].numpy()
        units = np.flatnonzero(np.unpackbits(packed, count=down * across, bitorder="little"))
    else:
        counts = np.diff(held[f"{name}.offsets"].numpy())
        units = np.repeat(np.arange(down) * across, counts) + held[f"{name}.columns"].numpy()
    cells = np.zeros((down * across, block[0] * block[1]), dtype=values.dtype)
    cells[units] = values.reshape(len(units), cells.shape[1])
    return _matrix(cells, n, k, block)


def write_dense(state: Mapping[str, Tensor], path: Path) -> int:
    """Write ``model.safetensors``: the same tensors always give the same bytes. Returns the size."""
    save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, path, metadata=METADATA)
    return path.stat().st_size


def expand(folder: Path) -> Path:
    """Rebuild ``folder/model.safetensors`` from ``folder/sparse``, byte for byte. Returns its path."""
    path = folder / DENSE_FILE
    partial = path.with_suffix(".partial")
    write_dense(read_sparse(folder / "sparse"), partial)
    partial.replace(path)
    return path
