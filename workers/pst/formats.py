"""The compact sparse format: ``model.sparse.safetensors`` and ``index.json`` in one folder.

Every tensor of a model is stored in the smallest of three encodings (matrices with 2 dimensions; others as they are):

    dense    <name>                               as it is
    bitmask  <name>.values  (nnz)                 the stored values, row by row
             <name>.bitmask (ceil(n k / 8)) u8    bit i % 8 (lowest first) of byte i // 8: element i is stored
    csr16    <name>.values  (nnz)                 the stored values, row by row
             <name>.columns (nnz) u16             the column of each
             <name>.offsets (n + 1) i32           row i owns values offsets[i] .. offsets[i + 1] - 1

An element is stored unless all its bits are zero: -0.0 and NaN survive, so reading gives back the tensors bit for bit.
``index.json`` gives for each tensor shape, dtype, encoding, nnz, bytes and the sha256 of the dense tensor's bytes
(row-major, little-endian). The whole format for readers in other languages: docs/guides/sparse-format.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pst.budget import pick_encoding
from pst.errors import FormatError

SPARSE_FILE = "model.sparse.safetensors"
INDEX_FILE = "index.json"
DENSE_FILE = "model.safetensors"
FORMAT = "sparsewright-sparse"
VERSION = 1
METADATA = {"format": "pt"}

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8)
}


def bits(tensor: Tensor) -> Tensor:
    """``tensor`` seen as whole numbers of its width."""
    return tensor.contiguous().view(_BITS[tensor.element_size()])


def digest(tensor: Tensor) -> str:
    """sha256 of the tensor's bytes, row-major."""
    return hashlib.sha256(bits(tensor).cpu().numpy().tobytes()).hexdigest()


def _encode(name: str, tensor: Tensor) -> tuple[str, int, dict[str, Tensor]]:
    """(encoding, number of stored values, the tensors that hold it)."""
    if tensor.dim() != 2 or tensor.numel() == 0:
        return "dense", tensor.numel(), {name: tensor}
    n, k = tensor.shape
    array = bits(tensor).numpy()
    present = array != 0
    nonzeros = int(np.count_nonzero(present))
    encoding = pick_encoding(n, k, nonzeros, tensor.element_size())
    if encoding == "dense":
        return encoding, tensor.numel(), {name: tensor}
    values = torch.from_numpy(array[present]).view(tensor.dtype)
    if encoding == "bitmask":
        packed = np.packbits(present.reshape(-1), bitorder="little")
        return encoding, nonzeros, {f"{name}.values": values, f"{name}.bitmask": torch.from_numpy(packed)}
    columns = np.nonzero(present)[1].astype(np.uint16)
    offsets = np.zeros(n + 1, dtype=np.int32)
    offsets[1:] = np.cumsum(np.count_nonzero(present, axis=1))
    held = {f"{name}.values": values, f"{name}.columns": torch.from_numpy(columns)}
    return encoding, nonzeros, {**held, f"{name}.offsets": torch.from_numpy(offsets)}


def write_sparse(state: Mapping[str, Tensor], folder: Path) -> int:
    """Write both files for ``state`` (tensors on the CPU) into ``folder``. Returns the size of the safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    held: dict[str, Tensor] = {}
    index: dict[str, Any] = {}
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        encoding, stored, parts = _encode(name, tensor)
        if held.keys() & parts.keys():
            raise FormatError(f"The tensor name {name} clashes with a part of another tensor.")
        held |= parts
        index[name] = {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "encoding": encoding,
            "nnz": stored,
            "bytes": sum(part.numel() * part.element_size() for part in parts.values()),
            "dense_bytes": tensor.numel() * tensor.element_size(),
            "sha256": digest(tensor),
        }
    save_file(held, folder / SPARSE_FILE, metadata=METADATA)
    content = {"format": FORMAT, "version": VERSION, "file": SPARSE_FILE, "tensors": index}
    (folder / INDEX_FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return (folder / SPARSE_FILE).stat().st_size


def read_sparse(folder: Path, *, verify: bool = True) -> dict[str, Tensor]:
    """The dense tensors, bit for bit as they were written.

    Raises :class:`FormatError` when a file is missing or damaged; with ``verify`` every tensor's sha256 is checked.
    """
    try:
        index = json.loads((folder / INDEX_FILE).read_text("utf-8"))
        held = load_file(folder / SPARSE_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise FormatError(f"The compact model in {folder} can't be read: {error}") from error
    if not isinstance(index, dict) or (index.get("format"), index.get("version")) != (FORMAT, VERSION):
        raise FormatError(f"{folder / INDEX_FILE} does not describe version {VERSION} of the compact format.")
    state = {}
    for name, entry in index["tensors"].items():
        try:
            tensor = _decode(name, entry, held)
        except (KeyError, ValueError, IndexError, RuntimeError) as error:
            raise FormatError(f"The tensor {name} in {folder} is damaged: {error}") from error
        if verify and digest(tensor) != entry["sha256"]:
            raise FormatError(f"The tensor {name} in {folder} does not have the recorded sha256.")
        state[name] = tensor
    return state


def _decode(name: str, entry: Mapping[str, Any], held: Mapping[str, Tensor]) -> Tensor:
    shape, dtype = entry["shape"], _DTYPES[entry["dtype"]]
    if entry["encoding"] == "dense":
        if list(held[name].shape) != shape or held[name].dtype != dtype:
            raise ValueError("shape or dtype differs from the index")
        return held[name]
    n, k = shape
    values = held[f"{name}.values"]
    array = np.zeros(math.prod(shape), dtype=bits(values).numpy().dtype)
    if entry["encoding"] == "bitmask":
        packed = held[f"{name}.bitmask"].numpy()
        places = np.flatnonzero(np.unpackbits(packed, count=array.size, bitorder="little"))
    elif entry["encoding"] == "csr16":
        counts = np.diff(held[f"{name}.offsets"].numpy())
        places = np.repeat(np.arange(n) * k, counts) + held[f"{name}.columns"].numpy()
    else:
        raise ValueError(f"unknown encoding {entry['encoding']!r}")
    if values.dtype != dtype or len(places) != len(values):
        raise ValueError("values do not fit the index")
    array[places] = bits(values).numpy()
    return torch.from_numpy(array).view(dtype).reshape(shape)


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
