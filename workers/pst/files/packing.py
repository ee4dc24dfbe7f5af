"""Tensors in a safetensors file that takes no more room than their bits need, without losing one.

A tensor is stored as what distinguishes it from one that is known already: the bits of both, one XOR the other. Its
bytes are put together by their place in a number (all first bytes, all second ones, ...), and each such plane is
deflated where that pays. What has not changed, as the rows of an embedding that no text names, is then nothing; of what
has changed a little, sign, exponent and the first bits of the mantissa are; and of moments the exponents are few.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

MIN_PACKED_BYTES = 4096  # of a tensor that is packed
PAYING_BITS = 7.4  # entropy of a byte, above which deflating it is not worth its time

Like = Callable[[str], Tensor | None]
"""The tensor that another one, of this name, is like: known to who writes and to who reads."""


def nothing(name: str) -> None:
    """Nothing is known."""


def _bytes(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    found: np.ndarray[Any, np.dtype[np.uint8]] = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return found


def _fits(known: Tensor | None, tensor: Tensor) -> bool:
    return known is not None and known.shape == tensor.shape and known.dtype == tensor.dtype


def _deflated(plane: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """Deflated if that makes it smaller, else as it is."""
    counts = np.bincount(plane, minlength=256)
    shares = counts[counts > 0] / plane.size
    if float(-(shares * np.log2(shares)).sum()) < PAYING_BITS:
        packer = zlib.compressobj(1, zlib.DEFLATED, strategy=zlib.Z_RLE)
        packed = packer.compress(plane.data) + packer.flush()
        if len(packed) < plane.size:
            return packed
    return plane.tobytes()


def _packed(tensor: Tensor, known: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
    item, content = tensor.element_size(), _bytes(tensor)
    if known is not None:
        content = content ^ _bytes(known)
    planes = [_deflated(np.ascontiguousarray(content[place::item])) for place in range(item)]
    layout = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "planes": [len(plane) for plane in planes],
        "like": known is not None,
    }
    return torch.frombuffer(bytearray(b"".join(planes)), dtype=torch.uint8), layout


def _unpacked(stored: Tensor, layout: Mapping[str, Any], known: Tensor | None) -> Tensor:
    dtype: torch.dtype = getattr(torch, layout["dtype"])
    result = torch.empty(layout["shape"], dtype=dtype)
    content, raw, at = _bytes(result), stored.numpy(), 0
    for place, size in enumerate(layout["planes"]):
        plane = raw[at : at + size]
        if size < result.numel():
            plane = np.frombuffer(zlib.decompress(plane.data), dtype=np.uint8)
        content[place :: dtype.itemsize] = plane
        at += size
    if layout["like"]:
        if known is None or not _fits(known, result):
            raise ValueError("what it is like is not there")
        content ^= _bytes(known)
    return result


@dataclass(frozen=True)
class Packed:
    """A file's ``state``, and its tensors, of which those in ``layouts`` are still packed."""

    stored: dict[str, Tensor]
    layouts: dict[str, dict[str, Any]]
    state: dict[str, Any]

    def tensor(self, name: str, known: Tensor | None) -> Tensor:
        """Raises ValueError or zlib.error where it is damaged, or not like ``known``."""
        if name not in self.layouts:
            return self.stored[name]
        return _unpacked(self.stored[name], self.layouts[name], known)


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], like: Like = nothing) -> None:
    """Write a file whole or not at all. What ``like`` knows must have the tensor's dtype and shape to be of use."""

    def pack(name: str) -> tuple[Tensor, dict[str, Any] | None]:
        tensor = tensors[name]
        if not tensor.is_floating_point() or tensor.numel() * tensor.element_size() < MIN_PACKED_BYTES:
            return tensor.contiguous(), None
        known = like(name)
        return _packed(tensor, known if _fits(known, tensor) else None)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(tensors, pool.map(pack, tensors), strict=True))
    layouts = {name: layout for name, (_, layout) in found.items() if layout is not None}
    partial = path.with_suffix(".partial")
    content = {name: stored for name, (stored, _) in found.items()}
    save_file(content, partial, {"state": json.dumps(state), "packed": json.dumps(layouts)})
    partial.replace(path)


def load(path: Path) -> Packed:
    """Raises OSError, KeyError, ValueError or SafetensorError where there is no such file, or it is damaged."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return Packed(stored, json.loads(metadata["packed"]), json.loads(metadata["state"]))


def read_state(path: Path) -> dict[str, Any]:
    """The state alone. Raises as :func:`load`."""
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads((file.metadata() or {})["state"])
    return found
