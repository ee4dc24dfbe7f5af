"""The compact sparse format: ``model.sparse.safetensors`` and ``index.json`` in one folder.

Every tensor of a model is stored in the smallest of the encodings of :mod:`pst.plan.sizes` (matrices with 2 dimensions;
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
(row-major, little-endian). A model larger than a shard is in several files (:mod:`pst.files.shards`), each tensor with
all its parts in one, whose number the index gives. The whole format for readers in other languages:
docs/guides/sparse-format.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pst.errors import FormatError
from pst.files.encodings import bits, decode, encode
from pst.files.shards import INDEX_SUFFIX, SHARD_BYTES, Files, ShardWriter, write_shards
from pst.messages import Message

SPARSE_FILE = "model.sparse.safetensors"
INDEX_FILE = "index.json"
SPARSE_FOLDER = "sparse"
DENSE_FILE = "model.safetensors"
FORMAT = "sparsewright-sparse"
VERSIONS = (1, 2, 3)
"""Version 1 has no blocks, no 2:4, and holds values in the tensor's own dtype; 3 has more than one file. A file says
the least version that it needs."""
ENCODINGS_1 = ("dense", "bitmask", "csr16")
HASHERS = 4  # threads that compute sha256 while the next tensors are encoded

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


@dataclass(frozen=True)
class Storing:
    """How the compact file holds a matrix, where not simply by its elements.

    ``dtype``: of what is stored in its place, int8 with ``scales`` (float32, one for each row) or bfloat16.
    ``values``: these int8 values where the matrix does not tell them, see :func:`narrowed`; :func:`widened` of them
    must be the matrix, bit for bit. ``transposed``: the model has the matrix as (k, n), and both the file and
    ``values`` have it as (n, k).
    """

    dtype: torch.dtype | None = None
    scales: Tensor | None = None
    values: Tensor | None = None
    transposed: bool = False


def narrowed(matrix: Tensor, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Stored values (n, k) of ``dtype`` from a ``matrix`` (n, k) that :func:`widened` gave, of int8 with ``scales`` (n)
    float32. A product with a scale is rounded to 8 bits of precision at least, which leaves the whole number in
    -127..127 the nearest, unless a number is too small for the matrix's own dtype."""
    if scales is None:
        return matrix.to(dtype)
    divisor = torch.where(scales > 0, scales, torch.ones_like(scales)).unsqueeze(1)
    return (matrix.float() / divisor).round_().to(dtype)


def widened(values: Tensor, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The matrix (n, k) in ``dtype`` from its stored ``values`` (n, k), of int8 ones with ``scales`` (n) float32:
    rounded once, after the product in float32.

    >>> widened(torch.tensor([[127, 0]], dtype=torch.int8), torch.tensor([0.5]), torch.float32)
    tensor([[63.5000,  0.0000]])
    """
    return (values if scales is None else values.float() * scales.unsqueeze(1)).to(dtype)


def digest(tensor: Tensor) -> str:
    """sha256 of the tensor's bytes, row-major."""
    return hashlib.sha256(bits(tensor).cpu().reshape(-1).numpy().data).hexdigest()


def write_sparse(
    state: Mapping[str, Tensor],
    folder: Path,
    storing: Mapping[str, Storing] | None = None,
    *,
    limit: int = SHARD_BYTES,
) -> int:
    """Write the compact model of ``state``, tensors of any shape, into the existing ``folder``:
    ``model.sparse.safetensors`` and ``index.json``. ``storing`` says by name what is held in fewer bits; a file has at
    most ``limit`` bytes. Returns the bytes of the safetensors files.

    Tensors are taken one at a time, encoded where they lie and then copied to the CPU.

    >>> import tempfile
    >>> weight = torch.zeros(8, 8)
    >>> weight[0, 3] = 1.5
    >>> with tempfile.TemporaryDirectory() as name:
    ...     _ = write_sparse({"layer.weight": weight}, Path(name))
    ...     compact = Compact(Path(name))
    ...     print(list(compact), bool((compact["layer.weight"] == weight).all()))
    ['layer.weight'] True
    """
    writer = ShardWriter(folder, SPARSE_FILE, limit)
    index: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}  # a part of each tensor
    hashes: deque[tuple[str, Future[str]]] = deque()

    def settle(most: int) -> None:
        while len(hashes) > most:
            name, found = hashes.popleft()
            index[name]["sha256"] = found.result()

    with ThreadPoolExecutor(HASHERS) as pool:
        for name in sorted(state):
            tensor = state[name].detach().contiguous()
            index[name], parts = _entry(name, tensor, (storing or {}).get(name, Storing()))
            writer.add(parts)
            first[name] = next(iter(parts))
            hashes.append((name, pool.submit(digest, tensor.cpu())))
            settle(HASHERS)
        settle(0)
    files = writer.close()
    old = all(
        entry["encoding"] in ENCODINGS_1 and not entry.keys() & {"stored", "transposed"} for entry in index.values()
    )
    content: dict[str, Any] = {"format": FORMAT, "version": 1 if old else 2, "file": SPARSE_FILE}
    if len(files) > 1:
        content = {"format": FORMAT, "version": 3, "files": [file.name for file in files]}
        for name, entry in index.items():
            entry["file"] = writer.files[first[name]]
    (folder / INDEX_FILE).write_text(json.dumps(content | {"tensors": index}, indent=1) + "\n", "utf-8")
    return sum(file.stat().st_size for file in files)


def _entry(name: str, tensor: Tensor, how: Storing) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The index's entry of a tensor, its sha256 left out, and the tensors that hold it."""
    matrix = tensor.T if how.transposed else tensor
    if how.values is not None:
        values = how.values
    else:
        values = matrix if how.dtype is None else narrowed(matrix, how.scales, how.dtype)
    values = values.detach().contiguous()
    encoding, found = encode(values) if tensor.dim() == 2 and tensor.numel() else ("dense", {})
    parts = {f"{name}.{part}": held for part, held in found.items()}
    transposed = how.transposed
    if encoding == "dense":
        if how.dtype is None:
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
        "sha256": "",
    }
    if values.dtype != tensor.dtype:
        entry["stored"] = _name(values.dtype)
    if transposed:
        entry["transposed"] = True
    return entry, parts


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Compact(Mapping[str, Tensor]):
    """The dense tensors of the compact model in ``folder`` (the one with ``index.json``), bit for bit as they were
    written, each expanded when it is asked for: a mapping of names to tensors on the CPU.

    Raises :class:`FormatError` when a file is missing or damaged; with ``check`` every tensor's sha256 is compared.
    """

    def __init__(self, folder: Path, *, check: bool = True) -> None:
        self.folder, self.check = folder, check
        try:
            index = json.loads((folder / INDEX_FILE).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(
                Message("The compact model in {folder} can't be read: {error}", folder=folder, error=error)
            ) from error
        known = isinstance(index, dict) and index.get("format") == FORMAT and index.get("version") in VERSIONS
        if not known:
            words = ", ".join(map(str, VERSIONS))
            raise FormatError(
                Message(
                    "{path} describes none of the versions {versions} of the compact format.",
                    path=folder / INDEX_FILE,
                    versions=words,
                )
            )
        self._entries: dict[str, dict[str, Any]] = index["tensors"]
        names = index["files"] if index["version"] == 3 else [SPARSE_FILE]
        if any(Path(name).name != name for name in names):
            raise FormatError(Message("{path} names a file in another folder.", path=folder / INDEX_FILE))
        self._files = [Files(folder / name) for name in names]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def in_parts(self) -> list[str]:
        """The tensors that the file does not hold as they are, under their own names."""
        return [name for name, entry in self._entries.items() if entry["encoding"] != "dense" or "stored" in entry]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._entries:
            raise KeyError(name)
        return self.tensor(name, torch.device("cpu"))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._entries[name]["shape"])

    def tensor(self, name: str, device: torch.device) -> Tensor:
        """The tensor in its own shape and dtype, expanded on ``device``. Raises :class:`FormatError`."""
        tensor = _whole(self._entries[name], *self.stored(name, device))
        if self.check and digest(tensor) != self._entries[name]["sha256"]:
            raise FormatError(
                Message(
                    "The tensor {name} in {folder} does not have the recorded sha256.", name=name, folder=self.folder
                )
            )
        return tensor

    def stored(self, name: str, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The tensor's values as the file holds them, zeros filled in, and int8 values' scales of its rows. A
        transposed matrix (k, n) comes as (n, k)."""
        entry = self._entries[name]
        try:
            return _decode(name, entry, self._files[entry.get("file", 0)], device)
        except (KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            raise FormatError(
                Message("The tensor {name} in {folder} is damaged: {error}", name=name, folder=self.folder, error=error)
            ) from error


def read_sparse(folder: Path, *, verify: bool = True) -> dict[str, Tensor]:
    """All tensors of the :class:`Compact` in ``folder`` at once, on the CPU, in their own dtypes. Raises
    :class:`FormatError`; with ``verify`` also for a tensor whose sha256 is another."""
    return dict(Compact(folder, check=verify))


def _decode(name: str, entry: Mapping[str, Any], files: Files, device: torch.device) -> tuple[Tensor, Tensor | None]:
    shape, scales = entry["shape"], None
    if entry.get("transposed", False):
        shape = shape[::-1]
    if entry.get("stored") == "int8":
        scales = files.tensor(f"{name}.scales", device)
        if scales.shape != (shape[0],):
            raise ValueError("there must be a scale for each row")
    stored = _DTYPES[entry.get("stored", entry["dtype"])]
    values = files.tensor(name if entry["encoding"] == "dense" and scales is None else f"{name}.values", device)
    if values.dtype != stored:
        raise ValueError("the values' dtype differs from the index")
    if entry["encoding"] != "dense":
        others = [part for part in ("places", "bitmask", "columns", "offsets") if f"{name}.{part}" in files]
        parts = {"values": values} | {part: files.tensor(f"{name}.{part}", device) for part in others}
        n, k = shape
        values = decode(entry["encoding"], n, k, parts)
    elif list(values.shape) != shape:
        raise ValueError("the shape differs from the index")
    return values, scales


def _whole(entry: Mapping[str, Any], values: Tensor, scales: Tensor | None) -> Tensor:
    tensor = widened(values, scales, _DTYPES[entry["dtype"]])
    return tensor.T.contiguous() if entry.get("transposed", False) else tensor


def expand(folder: Path) -> Path:
    """Rebuild ``folder/model.safetensors`` from ``folder/sparse``, byte for byte, or its shards where the model is
    larger than one. Returns its path, or that of the shards' index."""
    work = folder / f"{DENSE_FILE}.partial"
    shutil.rmtree(work, ignore_errors=True)
    write_shards(Compact(folder / SPARSE_FOLDER), work / DENSE_FILE)
    for path in work.iterdir():
        path.replace(folder / path.name)
    work.rmdir()
    whole = folder / DENSE_FILE
    return whole if whole.is_file() else whole.with_name(whole.name + INDEX_SUFFIX)
