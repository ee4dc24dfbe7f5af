"""The header of a safetensors file, read without torch and without the tensors: names, number formats, shapes, offsets.

Layout: 8 bytes little-endian N, then N bytes of JSON ``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``, then
the data. Offsets count from the end of the header; together the tensors cover the data without gap or overlap.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import IO, Any

from hub.core.errors import UserError
from pst.messages import Message

MAX_HEADER_BYTES = 4_000_000
"""Of all files of a model together: a hundred bytes each for many more tensors than the largest family has. Reading a
header takes about a second for each of these millions."""
MAX_DIMENSIONS = 32
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}
FLOATS = {name for name in BITS if "F" in name}


@dataclass(frozen=True)
class Weights:
    """``parameters`` counts the elements of floating-point tensors; counters and masks are no parameters."""

    tensors: int
    parameters: int
    dtypes: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    header_bytes: int
    places: dict[str, tuple[int, int, str]]
    """Where each tensor's data begins and ends, and its number format."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(Message("a name stands in the header twice"))
    return found


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _span(name: str, entry: Any) -> tuple[int, int, int, str]:
    """(begin, end, elements, dtype) of one tensor. Raises ValueError saying what is wrong."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(
            Message("tensor {name} must have dtype, shape and data_offsets, and nothing else", name=repr(name))
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(
            Message("tensor {name} has the unknown number format {dtype}", name=repr(name), dtype=repr(dtype))
        )
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_whole, shape)):
        raise ValueError(Message("tensor {name} has no valid shape", name=repr(name)))
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_whole, offsets)):
        raise ValueError(Message("tensor {name} has no valid data_offsets", name=repr(name)))
    elements = math.prod(shape)
    begin, end = offsets
    if end - begin != elements * BITS[dtype] // 8:
        raise ValueError(
            Message(
                "tensor {name} takes {size} bytes, but its shape and format need another number",
                name=repr(name),
                size=end - begin,
            )
        )
    return begin, end, elements, dtype


def read_header(stream: IO[bytes], *, size: int, name: str, most: int = MAX_HEADER_BYTES) -> Weights:
    """Check the header, of at most ``most`` bytes, of a file of ``size`` bytes. Raises UserError naming the file and
    what is wrong in it."""
    try:
        return _read(stream, size, most)
    except (ValueError, RecursionError) as error:
        message = Message("{name} is not a valid safetensors file: {error}.", name=name, error=error)
        raise UserError(message, code="bad_weights", details=[{"file": name, "message": str(error)}]) from None


def _read(stream: IO[bytes], size: int, most: int) -> Weights:
    prefix = stream.read(8)
    if len(prefix) < 8:
        raise ValueError(Message("it is shorter than its header"))
    (length,) = struct.unpack("<Q", prefix)
    if 8 + length > size:
        raise ValueError(Message("its header would have {length} bytes", length=length))
    if length > most:
        raise ValueError(Message("its header would have {length} bytes; {most} may be read", length=length, most=most))
    header = json.loads(stream.read(length).decode("utf-8"), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError(Message("its header is no JSON object"))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(Message("__metadata__ must map texts to texts"))
    if not header:
        raise ValueError(Message("it holds no tensor"))
    spans = sorted(_span(name, entry) for name, entry in header.items())
    at = 0
    for begin, end, _, _ in spans:
        if begin != at:
            raise ValueError(
                Message("its tensors leave a gap or overlap at byte {place} of the data", place=min(begin, at))
            )
        at = end
    if at != size - 8 - length:
        raise ValueError(
            Message("its tensors take {at} bytes, but {size} follow the header", at=at, size=size - 8 - length)
        )
    return Weights(
        tensors=len(spans),
        parameters=sum(elements for _, _, elements, dtype in spans if dtype in FLOATS),
        dtypes=tuple(sorted({dtype for _, _, _, dtype in spans})),
        shapes={name: tuple(entry["shape"]) for name, entry in header.items()},
        header_bytes=length,
        places={name: (*entry["data_offsets"], entry["dtype"]) for name, entry in header.items()},
    )
