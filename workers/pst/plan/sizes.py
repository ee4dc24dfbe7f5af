"""Bytes of the compact format: which encodings there are, and what each costs. Standard library only.

The writer (:mod:`pst.files.formats`) and the planner (:mod:`pst.plan.planner`) share this module, so that a plan is
what the file will be. For a matrix (n, k), values of b bytes, u stored units (elements, or blocks that hold an
element):

    dense        n k b                                       as it is
    nm_2_4       2 G b + ceil(G / 2), G = n ceil(k / 4)      two values and their 2-bit places for each four of a row
    bitmask      u b + ceil(n k / 8)                         one bit an element
    csr16        u b + 2 u + 4 (n + 1)                       a 16-bit column a value, and row offsets
    bitmask_1x4, bitmask_4x1   4 u b + ceil(N K / 8)         the same over a grid (N, K) of blocks; a block
    csr16_1x4,   csr16_4x1     4 u b + 2 u + 4 (N + 1)       that hangs over the edge is filled up with zeros

Int8 values (b = 1) add a float32 scale for each row: 4 n bytes. CSR needs K <= 65536.
Two-bit places cost as much as a bitmask, four bits a group of four, so nm_2_4 never takes less; it wins ties because
its groups all have the same length: a reader finds any of them without counting bits. Blocks are used only for a
matrix that looks pruned in blocks: a quarter of them are empty, and three quarters of the elements in the others are
not zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

CSR_MAX_COLUMNS = 65536
SCALE_BYTES = 4
DTYPE_BYTES = {"I64": 8, "F64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U16": 2, "I8": 1, "U8": 1}
"""In the order in which safetensors writes them; tensors of one dtype are ordered by name."""
DTYPE_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "I8"}

BLOCKS = {
    "bitmask": (1, 1),
    "bitmask_1x4": (1, 4),
    "bitmask_4x1": (4, 1),
    "csr16": (1, 1),
    "csr16_1x4": (1, 4),
    "csr16_4x1": (4, 1),
}
"""Rows and columns of the unit that an encoding stores or leaves out."""

MIN_FILL = 0.75
"""Share of the elements in stored blocks that must not be zero, over a whole matrix."""

MAX_BLOCK_SHARE = 0.75
"""Share of blocks up to which they are stored as such: an embedding table with a row of zeros is not in blocks."""

ENCODINGS = ("dense", "nm_2_4", *BLOCKS)
"""In a tie the one named first is taken."""

STRUCTURE_BLOCKS = {"block_1x4": (1, 4), "block_4x1": (4, 1)}
"""Rows and columns of the block of a setting ``structure``."""


def pruned_count(numel: int, sparsity: float) -> int:
    """floor(numel * sparsity), immune to the last bit of the product (0.29 * 100 is 29, not 28)."""
    return math.floor(round(numel * sparsity, 6))


def kept_count(numel: int, sparsity: float) -> int:
    """Number of weights, blocks or neurons that stay of ``numel``."""
    return numel - pruned_count(numel, sparsity)


def grid(n: int, k: int, block: tuple[int, int]) -> tuple[int, int]:
    """Blocks down and across a matrix (n, k); those at the edges may hang over."""
    return -(-n // block[0]), -(-k // block[1])


def kept_2_4(k: int) -> int:
    """Weights that 2:4 leaves of a row of k: two of each four, and of the r that remain ceil(r / 2)."""
    return 2 * (k // 4) + (k % 4 + 1) // 2


def kept_weights(n: int, k: int, sparsity: float, structure: str) -> int:
    """Weights that one matrix (n, k) keeps at ``sparsity``; the most of them where blocks hang over the edge."""
    if structure == "2:4":
        return n * kept_2_4(k) if sparsity > 0 else n * k
    block = STRUCTURE_BLOCKS.get(structure)
    if block is None:
        return kept_count(n * k, sparsity)
    down, across = grid(n, k, block)
    return min(block[0] * block[1] * kept_count(down * across, sparsity), n * k)


def predicted_units(n: int, k: int, sparsity: float, structure: str) -> dict[str, int]:
    """For :func:`pick`: the units that each sensible encoding will store of a matrix pruned to ``structure``."""
    kept = kept_weights(n, k, sparsity, structure)
    units = {"bitmask": kept, "csr16": kept}
    block = STRUCTURE_BLOCKS.get(structure)
    if block is not None:
        down, across = grid(n, k, block)
        units |= {name: kept_count(down * across, sparsity) for name, size in BLOCKS.items() if size == block}
    if structure == "2:4" and sparsity > 0:
        units["nm_2_4"] = n * -(-k // 4)
    return units


def pick(n: int, k: int, units: Mapping[str, int], item_bytes: int) -> str:
    """The encoding of a matrix in the compact file: the smallest of ``dense`` and the keys of ``units``, which gives
    the stored units of each encoding that can hold the matrix."""
    sizes = {
        name: matrix_bytes(name, n, k, units.get(name, 0), item_bytes)
        for name in ENCODINGS
        if name == "dense" or (name in units and _fits(name, n, k, units[name]))
    }
    return min(sizes, key=lambda name: sizes[name])


def filled(covered: int, nonzeros: int) -> bool:
    """Whether a matrix with ``nonzeros`` elements that are not zero, in blocks that cover ``covered`` elements, may be
    stored in these blocks: only if it was pruned so, lest luck make a file differ from its plan."""
    return nonzeros >= MIN_FILL * covered


def _fits(encoding: str, n: int, k: int, units: int) -> bool:
    if encoding == "nm_2_4":
        return True
    down, across = grid(n, k, BLOCKS[encoding])
    if encoding.startswith("csr16") and across > CSR_MAX_COLUMNS:
        return False
    return BLOCKS[encoding] == (1, 1) or units <= MAX_BLOCK_SHARE * down * across


def matrix_bytes(encoding: str, n: int, k: int, units: int, item_bytes: int, *, scaled: bool = False) -> int:
    """Bytes of the data (without the file's header) of one matrix. ``units`` is ignored for ``dense`` and nm_2_4;
    ``scaled``: int8 values (item_bytes 1) with a scale for each row."""
    scales = SCALE_BYTES * n if scaled else 0
    if encoding == "dense":
        return n * k * item_bytes + scales
    if encoding == "nm_2_4":
        groups = n * -(-k // 4)
        return 2 * groups * item_bytes + (groups + 1) // 2 + scales
    block = BLOCKS[encoding]
    down, across = grid(n, k, block)
    places = (down * across + 7) // 8 if encoding.startswith("bitmask") else 2 * units + 4 * (down + 1)
    return units * block[0] * block[1] * item_bytes + places + scales


def parts(
    encoding: str, name: str, n: int, k: int, units: int, dtype: str, *, scaled: bool = False
) -> list[tuple[str, str, list[int]]]:
    """The tensors that hold one matrix in the compact file, as (name, safetensors dtype of the values, shape)."""
    scales = [(f"{name}.scales", "F32", [n])] if scaled else []
    if encoding == "dense":
        return [(f"{name}.values" if scaled else name, dtype, [n, k]), *scales]
    if encoding == "nm_2_4":
        groups = n * -(-k // 4)
        return [(f"{name}.values", dtype, [2 * groups]), (f"{name}.places", "U8", [(groups + 1) // 2]), *scales]
    block = BLOCKS[encoding]
    down, across = grid(n, k, block)
    values = (f"{name}.values", dtype, [units * block[0] * block[1]])
    if encoding.startswith("bitmask"):
        return [values, (f"{name}.bitmask", "U8", [(down * across + 7) // 8]), *scales]
    return [values, (f"{name}.columns", "U16", [units]), (f"{name}.offsets", "I32", [down + 1]), *scales]


def container_bytes(entries: Iterable[tuple[str, str, list[int]]]) -> int:
    """Size of a safetensors file with these tensors and the metadata ``{"format": "pt"}``."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    order = {dtype: place for place, dtype in enumerate(DTYPE_BYTES)}
    for name, dtype, shape in sorted(entries, key=lambda entry: (order[entry[1]], entry[0])):
        size = math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    length = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + (length + 7) // 8 * 8 + end
