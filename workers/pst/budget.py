"""The planner: what a sparsity or a deployment budget means for a base model, before anything is trained.

Reads ``config.json`` only (no weights). Standard library only: the web tier imports this module.

Sizes, for a matrix (n, k) with z values kept and b bytes a value (the same formulas as :mod:`pst.formats`):

    dense    n k b
    bitmask  z b + ceil(n k / 8)
    csr16    z b + 2 z + 4 (n + 1)        only when k <= 65536

The compact file holds each pruned matrix in the smallest of the three and everything else as it is.
The serving engine of today expands the file and computes in float32: its memory does not depend on sparsity.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pst.config import TrainSettings
from pst.errors import BudgetError
from pst.families import GROUPS, TensorSpec, tensors

__all__ = [
    "GROUPS",
    "BudgetError",
    "GroupPlan",
    "Plan",
    "Target",
    "matrix_bytes",
    "pick_encoding",
    "plan",
    "pruned_count",
]

LEAST_SPARSITY = 0.5
MOST_SPARSITY = 0.99
GRID = 10_000  # budgets are answered in steps of 0.01 %
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ENGINE_ITEM_BYTES = 4
ENGINE_OVERHEAD_BYTES = 32 * 1024 * 1024  # activations and tokenizer tables of one replica, whatever the model
CSR_MAX_COLUMNS = 65536


@dataclass(frozen=True)
class Target:
    """What the user asks for; every limit that is set must hold. ``sparsity`` is a share in 0.5..0.99."""

    sparsity: float | None = None
    max_nonzero_params: int | None = None
    max_bytes: int | None = None
    max_memory_bytes: int | None = None


@dataclass(frozen=True)
class GroupPlan:
    """One group of matrices. ``shapes`` lists the distinct shapes, ``bytes`` the size in the compact file."""

    name: str
    matrices: int
    shapes: list[tuple[int, int]]
    weights: int
    sparsity: float
    nonzeros: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """The planner's answer. Bytes are file or memory sizes; ``sparsity`` is the share of prunable weights removed.

    ``reached`` is False only for a dense run, which prunes nothing whatever the target.
    """

    groups: list[GroupPlan]
    sparsity: float
    prunable_params: int
    fixed_params: int
    nonzero_params: int
    total_params: int
    dense_bytes: int
    sparse_bytes: int
    memory_bytes: int
    trainable_params: int
    binding: str
    reached: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, with shapes as lists."""
        result: dict[str, Any] = asdict(self)
        for group in result["groups"]:
            group["shapes"] = [list(shape) for shape in group["shapes"]]
        return result

    def sparsities(self) -> dict[str, float]:
        """Sparsity by group name: the ``plan`` entry of a job's spec."""
        return {group.name: group.sparsity for group in self.groups}


def pruned_count(numel: int, sparsity: float) -> int:
    """floor(numel * sparsity), immune to the last bit of the product (0.29 * 100 is 29, not 28)."""
    return math.floor(round(numel * sparsity, 6))


def pick_encoding(n: int, k: int, nonzeros: int, item_bytes: int) -> str:
    """The encoding of a matrix in the compact file: the smallest; in a tie the one named first below."""
    sizes = {name: matrix_bytes(name, n, k, nonzeros, item_bytes) for name in ("dense", "bitmask", "csr16")}
    if k > CSR_MAX_COLUMNS:
        del sizes["csr16"]
    return min(sizes, key=lambda name: sizes[name])


def matrix_bytes(encoding: str, n: int, k: int, nonzeros: int, item_bytes: int) -> int:
    """Bytes of the data (without the file's header) of one matrix in ``encoding``."""
    if encoding == "dense":
        return n * k * item_bytes
    if encoding == "bitmask":
        return nonzeros * item_bytes + (n * k + 7) // 8
    return nonzeros * (item_bytes + 2) + 4 * (n + 1)


def parts(encoding: str, name: str, n: int, k: int, nonzeros: int, dtype: str) -> list[tuple[str, str, list[int]]]:
    """The tensors that hold one matrix in the compact file, as (name, safetensors dtype, shape)."""
    if encoding == "dense":
        return [(name, dtype, [n, k])]
    values = (f"{name}.values", dtype, [nonzeros])
    if encoding == "bitmask":
        return [values, (f"{name}.bitmask", "U8", [(n * k + 7) // 8])]
    return [values, (f"{name}.columns", "U16", [nonzeros]), (f"{name}.offsets", "I32", [n + 1])]


DTYPE_BYTES = {"F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U16": 2, "U8": 1}
DTYPE_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def container_bytes(entries: Iterable[tuple[str, str, list[int]]]) -> int:
    """Size of a safetensors file with these tensors and the metadata ``{"format": "pt"}``."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape in sorted(entries, key=lambda entry: (-DTYPE_BYTES[entry[1]], entry[0])):
        size = math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    length = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + (length + 7) // 8 * 8 + end


def plan(
    config: Mapping[str, Any],
    target: Target,
    *,
    num_labels: int,
    storage_dtype: str = "float32",
    settings: TrainSettings | None = None,
) -> Plan:
    """Turn ``target`` into a sparsity per group with its predicted sizes.

    The least sparsity that keeps every limit is taken. Raises :class:`BudgetError` for an unknown architecture, an
    invalid target, or a budget that even 99 % sparsity does not meet (the message says what the least is).
    """
    settings = settings or TrainSettings()
    if storage_dtype not in ITEM_BYTES:
        raise BudgetError("storage_dtype", f"must be one of {', '.join(ITEM_BYTES)}, not {storage_dtype!r}")
    if num_labels < 2:
        raise BudgetError("num_labels", f"a classifier needs at least two labels, not {num_labels}")
    _check(target)
    specs = tensors(config, num_labels)
    if settings.method == "dense":
        dense = _at(specs, 0.0, storage_dtype, settings, "method")
        return replace(dense, reached=_holds(dense, target))

    shares = {} if target.sparsity is None else {"sparsity": target.sparsity}
    for limit in _MEASURES:
        bound = getattr(target, limit)
        if bound is not None:
            shares[limit] = _least_share(specs, limit, bound, storage_dtype, settings)
    binding = max(shares, key=lambda name: shares[name])
    return _at(specs, shares[binding], storage_dtype, settings, binding)


_MEASURES = {
    "max_nonzero_params": ("nonzero_params", "parameters are left"),
    "max_bytes": ("sparse_bytes", "bytes are left in the compact file"),
    "max_memory_bytes": ("memory_bytes", "bytes of memory are needed, since today's serving engine expands the model"),
}


def _check(target: Target) -> None:
    values = asdict(target)
    if all(value is None for value in values.values()):
        raise BudgetError("target", f"set at least one of {', '.join(values)}")
    share = target.sparsity
    if share is not None and not LEAST_SPARSITY <= share <= MOST_SPARSITY:
        raise BudgetError("sparsity", f"must be between {LEAST_SPARSITY} and {MOST_SPARSITY}, not {share}")
    for name in _MEASURES:
        if values[name] is not None and values[name] < 1:
            raise BudgetError(name, f"must be at least 1, not {values[name]}")


def _least_share(specs: list[TensorSpec], limit: str, bound: int, dtype: str, settings: TrainSettings) -> float:
    """The least sparsity, in steps of 1/GRID, at which ``limit`` holds."""
    attribute, words = _MEASURES[limit]

    def value(step: int) -> int:
        return int(getattr(_at(specs, step / GRID, dtype, settings, limit), attribute))

    high = round(MOST_SPARSITY * GRID)
    least = value(high)
    if least > bound:
        raise BudgetError(limit, f"{bound:,} can't be met: at {MOST_SPARSITY:.0%} sparsity {least:,} {words}")
    low = 0
    while low < high:
        middle = (low + high) // 2
        if value(middle) <= bound:
            high = middle
        else:
            low = middle + 1
    return high / GRID


def _at(specs: list[TensorSpec], sparsity: float, dtype: str, settings: TrainSettings, binding: str) -> Plan:
    """The plan with one sparsity for all groups."""
    item, code = ITEM_BYTES[dtype], DTYPE_NAMES[dtype]
    entries = [(spec.name, code, list(spec.shape)) for spec in specs]
    compact: list[tuple[str, str, list[int]]] = []
    kept: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for spec in specs:
        if spec.group is None:
            compact.append((spec.name, code, list(spec.shape)))
            continue
        n, k = spec.shape
        kept[spec.name] = spec.numel - pruned_count(spec.numel, sparsity)
        encoding = pick_encoding(n, k, kept[spec.name], item)
        sizes[spec.name] = matrix_bytes(encoding, n, k, kept[spec.name], item)
        compact += parts(encoding, spec.name, n, k, kept[spec.name], code)

    groups = []
    for name in GROUPS:
        members = [spec for spec in specs if spec.group == name]
        weights, nonzeros = sum(spec.numel for spec in members), sum(kept[spec.name] for spec in members)
        groups.append(
            GroupPlan(
                name=name,
                matrices=len(members),
                shapes=sorted({(spec.shape[0], spec.shape[1]) for spec in members}),
                weights=weights,
                sparsity=sparsity,
                nonzeros=nonzeros,
                bytes=sum(sizes[spec.name] for spec in members),
            )
        )
    total, prunable = sum(spec.numel for spec in specs), sum(group.weights for group in groups)
    nonzeros = sum(group.nonzeros for group in groups)
    return Plan(
        groups=groups,
        sparsity=1 - nonzeros / prunable,
        prunable_params=prunable,
        fixed_params=total - prunable,
        nonzero_params=total - prunable + nonzeros,
        total_params=total,
        dense_bytes=container_bytes(entries),
        sparse_bytes=container_bytes(compact),
        memory_bytes=total * ENGINE_ITEM_BYTES + ENGINE_OVERHEAD_BYTES,
        trainable_params=_trainable(specs, settings),
        binding=binding,
        reached=True,
    )


def _holds(dense: Plan, target: Target) -> bool:
    bounds = {attribute: getattr(target, limit) for limit, (attribute, _) in _MEASURES.items()}
    return target.sparsity is None and all(
        bound is None or getattr(dense, attribute) <= bound for attribute, bound in bounds.items()
    )


def _trainable(specs: list[TensorSpec], settings: TrainSettings) -> int:
    if settings.method != "pst":
        return sum(spec.numel for spec in specs)
    count = sum(spec.numel for spec in specs if spec.head)
    for spec in specs:
        if spec.group is not None:
            n, k = spec.shape
            ranks = min(settings.update_rank, n, k) + min(settings.score_rank, n, k)
            count += ranks * (n + k) + n + k
    return count
