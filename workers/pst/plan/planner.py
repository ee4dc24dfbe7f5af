"""The planner: what a sparsity or a deployment budget means for a base model, before anything is trained.

Reads ``config.json`` only (no weights). Standard library only: the web tier imports this module.

Each group of matrices gets a share of its weights to lose. The compact file then holds every matrix in the smallest
encoding that fits its structure (:mod:`pst.plan.sizes`); ``structured`` makes the matrices themselves smaller, which
the family table says (:mod:`pst.plan.families`): neurons always, heads only where the config can say fewer.
The serving engine of today expands the file and computes in float32: its memory depends on shapes, not on sparsity.
How long it takes is predicted from what a serving node measured of itself (:mod:`pst.plan.latency`).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from pst.config import TrainSettings
from pst.errors import BudgetError, BudgetMet
from pst.messages import Message
from pst.plan import engine
from pst.plan.families import ModelDescription, TensorSpec, sizes_kept
from pst.plan.latency import Profile, Timing
from pst.plan.methods import METHODS, trainable_total
from pst.plan.sizes import (
    BLOCKS,
    DTYPE_NAMES,
    STRUCTURE_BLOCKS,
    container_bytes,
    grid,
    kept_count,
    kept_weights,
    matrix_bytes,
    parts,
    pick,
    predicted_units,
)
from pst.plan.target import MAX_SPARSITY, MIN_SPARSITY, TIMES, Target, amount, check
from pst.plan.training_memory import training_memory

__all__ = [
    "MAX_SPARSITY",
    "METHODS",
    "MIN_SPARSITY",
    "BudgetError",
    "BudgetMet",
    "GroupPlan",
    "Plan",
    "Profile",
    "Target",
    "Timing",
    "plan",
]

GRID = 10_000  # budgets are answered in steps of 0.01 %
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
HALF = 0.5  # what 2:4 removes, always
KINDS: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str, "list": list, "PlannedTime": dict}
"""What a field of a plan may hold in JSON, by the first word of its annotation."""
_POOLED = {"unstructured": (1, 1), **STRUCTURE_BLOCKS}  # structures whose parts may compete over a whole group

Record = TypeVar("Record")


@dataclass(frozen=True)
class GroupPlan:
    """One group of matrices. ``shapes`` lists the distinct shapes (n, k) of the dense model, ``sparsity`` the share
    that training prunes to, ``nonzeros`` and ``bytes`` what the compact file then holds."""

    name: str
    matrices: int
    shapes: list[tuple[int, int]]
    weights: int
    sparsity: float
    nonzeros: int
    bytes: int


@dataclass(frozen=True)
class PlannedTime:
    """One forward pass of ``rows`` texts of ``tokens`` tokens, as predicted for the node that was measured."""

    rows: int
    tokens: int
    latency_ms: float
    dense_latency_ms: float

    @property
    def speedup(self) -> float:
        return self.dense_latency_ms / self.latency_ms


@dataclass(frozen=True)
class Plan:
    """The planner's answer. Bytes are file or memory sizes; ``sparsity`` is the share of prunable weights removed.

    ``fixed_bytes`` is what the compact file holds beside the groups: what is not pruned, and its header;
    ``int8_embeddings_bytes`` the whole file with ``embedding_storage`` int8, None where it is so already.
    ``memory_bytes`` is what one replica of a serving node needs at most with the model loaded: on the sparse engine
    where that has the model or its maps (:mod:`pst.plan.engine`), else expanded. ``dense_memory_bytes`` is the same of
    the dense model, expanded.
    ``dense_bytes`` is the size of the dense model's file, ``training_memory_bytes`` what one training process needs on
    a CPU for rows of the greatest length (:mod:`pst.plan.training_memory`), in the dense phase too where there is one,
    and ``training_gpu_bytes`` what it needs of a GPU's memory. ``reached`` is False only for a method that prunes
    nothing whatever the target. ``notes`` are sentences about what the plan can't do or know. ``time`` is None without
    a :class:`Timing`.
    """

    groups: list[GroupPlan]
    sparsity: float
    prunable_params: int
    fixed_params: int
    nonzero_params: int
    total_params: int
    dense_bytes: int
    sparse_bytes: int
    fixed_bytes: int
    memory_bytes: int
    dense_memory_bytes: int
    trainable_params: int
    training_memory_bytes: int
    training_gpu_bytes: int
    binding: str
    reached: bool
    notes: list[str] = field(default_factory=list)
    time: PlannedTime | None = None
    int8_embeddings_bytes: int | None = None

    def weights(self) -> dict[str, int]:
        """Weights by group, and of all the rest by "": whose plan it is."""
        return {**{group.name: group.weights for group in self.groups}, "": self.fixed_params}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, with shapes as lists."""
        result: dict[str, Any] = asdict(self)
        for group in result["groups"]:
            group["shapes"] = [list(shape) for shape in group["shapes"]]
        if self.time is not None:
            result["time"]["speedup"] = self.time.speedup
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that :meth:`to_dict` gave; more than that is passed over. Raises :class:`ValueError` naming what is
        missing or of another kind."""
        found, time = _record(cls, data, ""), data.get("time")
        return replace(
            found,
            groups=[_record(GroupPlan, group, f"groups {place}") for place, group in enumerate(found.groups)],
            time=None if time is None else _record(PlannedTime, time, "time"),
        )

    def sparsities(self) -> dict[str, float]:
        """Sparsity by group name."""
        return {group.name: group.sparsity for group in self.groups}


def _record(kind: type[Record], data: Any, where: str) -> Record:
    """A record from JSON. Raises :class:`ValueError` with the path of the entry that is missing or of another kind."""
    if not isinstance(data, dict):
        raise ValueError(where)
    values = {}
    for item in fields(cast(Any, kind)):
        if item.name not in data and (item.default is not MISSING or item.default_factory is not MISSING):
            continue
        value, name = data.get(item.name), str(item.type)
        right = isinstance(value, KINDS[name.partition("[")[0].partition(" ")[0]]) or (value is None and "None" in name)
        if not right or (isinstance(value, bool) and name != "bool"):
            raise ValueError(f"{where} {item.name}".strip())
        values[item.name] = value
    return kind(**values)


def plan(
    model: ModelDescription,
    target: Target,
    *,
    storage_dtype: str = "float32",
    settings: TrainSettings | None = None,
    timing: Timing | None = None,
) -> Plan:
    """Turn ``target`` into a sparsity per group with its predicted sizes.

    The least sparsity that keeps every limit is taken: where a limit needs more than ``target`` asks for, all groups
    that it prunes are raised together. ``storage_dtype`` is the dtype of the dense file: float32, bfloat16 or float16.
    ``timing`` is needed for targets in time, and adds the predicted time to any other. Raises :class:`BudgetMet` where
    the dense model meets all limits and nothing else is asked for, and :class:`BudgetError` for an unknown architecture
    or one that can't do the task, an invalid target, a structure that can't do it, or a budget that even 99 % sparsity
    does not meet (the message says what the least is).

    >>> config = {"model_type": "gpt2", "vocab_size": 99, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32}
    >>> model = ModelDescription(config, "generation")
    >>> found = plan(model, Target(sparsity=0.9))
    >>> found.sparsities(), found.nonzero_params, found.dense_bytes, found.sparse_bytes
    ({'attention': 0.9, 'ffn': 0.9}, 20007, 436552, 95768)
    >>> f"{plan(model, Target(max_bytes=100_000)).sparsity:.2f}"
    '0.89'
    """
    settings, task, num_labels = settings or TrainSettings(), model.task, model.labels
    if storage_dtype not in ITEM_BYTES:
        raise BudgetError(
            "storage_dtype",
            Message(
                "must be one of {choices}, not {value}",
                choices=", ".join(ITEM_BYTES),
                value=repr(storage_dtype),
            ),
        )
    if task == "classification" and num_labels < 2:
        raise BudgetError(
            "num_labels", Message("a classifier needs at least two labels, not {num_labels}", num_labels=num_labels)
        )
    if task == "multilabel" and num_labels < 1:
        raise BudgetError(
            "num_labels", Message("at least one label is needed, not {num_labels}", num_labels=num_labels)
        )
    if task == "regression" and num_labels != 1:
        raise BudgetError(
            "num_labels", Message("regression has one score, not {num_labels} labels", num_labels=num_labels)
        )
    planner = _Planner(model, storage_dtype, settings, timing)
    check(target, timed=timing is not None)
    wanted = planner.wanted(target)
    if not METHODS[settings.method].prunes:
        dense = planner.at({}, 0.0, "method")
        return replace(dense, reached=_holds(dense, target))
    base = "groups" if target.groups is not None else "sparsity"
    raised = {}
    for limit in _MEASURES:
        if getattr(target, limit) is not None:
            raised[limit] = planner.least(wanted, limit, target)
    binding = max(raised, key=lambda name: raised[name], default=base)
    level = raised.get(binding, 0.0)
    asked = target.sparsity is not None or target.groups is not None
    found = planner.at(wanted, level, base if asked and level == 0 else binding)
    if not asked and not any(group.sparsity for group in found.groups):
        raise planner.met(binding, target, _MEASURES[binding](found))
    if settings.embedding_storage == "int8":
        return found
    small = planner.like(embedding_storage="int8").at(wanted, level, found.binding)
    return replace(found, int8_embeddings_bytes=small.sparse_bytes)


_MEASURES: dict[str, Callable[[Plan], float]] = {
    "max_nonzero_params": lambda plan: plan.nonzero_params,
    "max_bytes": lambda plan: plan.sparse_bytes,
    "max_memory_bytes": lambda plan: plan.memory_bytes,
    "max_latency_ms": lambda plan: plan.time.latency_ms if plan.time else math.inf,
    # Negative, since every limit is an upper one.
    "min_speedup": lambda plan: -plan.time.speedup if plan.time else math.inf,
}


def _holds(dense: Plan, target: Target) -> bool:
    bounds = {limit: _upper(limit, getattr(target, limit)) for limit in _MEASURES if getattr(target, limit) is not None}
    asked = target.sparsity is not None or target.groups is not None
    return not asked and all(_MEASURES[limit](dense) <= bound for limit, bound in bounds.items())


def _upper(limit: str, bound: float) -> float:
    return -bound if limit == "min_speedup" else bound


class _Planner:
    """One model, task and way of storing; the sparsity is what varies."""

    def __init__(
        self,
        model: ModelDescription,
        storage_dtype: str,
        settings: TrainSettings,
        timing: Timing | None,
    ) -> None:
        self.model, self.settings, self.timing, self.storage_dtype = model, settings, timing, storage_dtype
        self.item, self.code = ITEM_BYTES[storage_dtype], DTYPE_NAMES[storage_dtype]
        self.specs, self.names = model.tensors, model.groups
        self.structured = settings.structure == "structured"
        self.families = model.unit_families if self.structured else []
        self.able = {family.group for family in self.families} if self.structured else set(self.names)
        none = dict.fromkeys(self.names, 0.0)
        self.dense_seconds = 0.0 if timing is None else timing.forward(model, none)
        self.dense_bytes = container_bytes((spec.name, self.code, list(spec.shape)) for spec in self.specs)
        self.trainable = trainable_total(self.specs, settings)
        phases = [settings]
        if settings.compare_dense and settings.method != "dense":
            phases.append(replace(settings, method="dense", frozen_weights="float32"))
        self.training, self.training_gpu = (
            max(training_memory(model, phase, gpu=gpu).least for phase in phases) for gpu in (False, True)
        )
        self.levels = [0, round(HALF * GRID)] if settings.structure == "2:4" else range(round(MAX_SPARSITY * GRID) + 1)

    def wanted(self, target: Target) -> dict[str, float]:
        """The sparsity of each group that the target prunes; groups that are left out stay dense."""
        if METHODS[self.settings.method].prunes and self.settings.structure == "2:4":
            for name, share in [("sparsity", target.sparsity), *(target.groups or {}).items()]:
                if share not in (None, 0, HALF):
                    where = "sparsity" if target.groups is None else "groups"
                    raise BudgetError(
                        where,
                        Message(
                            "2:4 removes exactly half of the weights: {name} must be {half}, not {value}",
                            name=name,
                            half=HALF,
                            value=share,
                        ),
                    )
        if target.groups is None:
            return dict.fromkeys((name for name in self.names if name in self.able), target.sparsity or 0.0)
        result = {}
        for key, share in sorted(target.groups.items(), key=lambda item: len(item[0])):  # the more exact name wins
            found = [name for name in self.names if name == key or name.startswith(f"{key}.")]
            if not found:
                raise BudgetError(
                    "groups",
                    Message(
                        "{key} is no group of this model; its groups are {names}",
                        key=repr(key),
                        names=", ".join(self.names),
                    ),
                )
            if share and self.structured and not self.able.intersection(found):
                raise BudgetError(
                    "groups", Message("{why}; leave {group} out", why=self._why_dense(found), group=repr(key))
                )
            result.update(dict.fromkeys(found, share))
        return {name: share for name, share in result.items() if share > 0 and name in self.able}

    def like(self, **settings: Any) -> _Planner:
        """The planner of the same model with other settings."""
        changed = replace(self.settings, **settings)
        return _Planner(self.model, self.storage_dtype, changed, self.timing)

    def least(self, wanted: Mapping[str, float], limit: str, target: Target) -> float:
        """The least level to which the wanted groups must be raised for ``limit`` to hold; 0 where it holds anyway."""
        measure, asked = _MEASURES[limit], getattr(target, limit)
        bound = _upper(limit, asked)

        def value(step: int) -> float:
            return measure(self.at(wanted, step / GRID, limit))

        most = self.levels[-1]
        best = value(most)
        if best > bound:
            sentence = Message(
                "{asked} can't be met: the best is {best}, at {most:.0%} sparsity",
                asked=amount(limit, asked),
                best=amount(limit, best),
                most=most / GRID,
            )
            raise self._refusal(BudgetError, limit, target, sentence, best)
        place = bisect.bisect_left(self.levels, True, key=lambda step: value(step) <= bound)
        return self.levels[place] / GRID

    def met(self, limit: str, target: Target, dense: float) -> BudgetError:
        """The error for a budget that the dense model meets: no job is to prune nothing without a word."""
        sentence = Message(
            "nothing would be removed, since the dense model meets this already, with {dense}",
            dense=amount(limit, dense),
        )
        return self._refusal(BudgetMet, limit, target, sentence, dense)

    def _refusal(
        self, kind: type[BudgetError], limit: str, target: Target, sentence: Message, now: float
    ) -> BudgetError:
        """The error with what smaller matrices would bring, where those count and this structure has none."""
        if limit not in ("max_memory_bytes", *TIMES) or self.structured:
            return kind(limit, sentence)
        other = self.like(structure="structured")
        try:
            best = _MEASURES[limit](other.at(other.wanted(target), MAX_SPARSITY, limit))
        except BudgetError:  # it names groups that structured can't prune
            return kind(limit, sentence)
        if best >= now:
            return kind(limit, sentence)
        remedy = Message(
            "structure 'structured' makes the matrices themselves smaller: at best {best}", best=amount(limit, best)
        )
        return kind(limit, Message("{sentence}; {remedy}", sentence=sentence, remedy=remedy), remedy=remedy)

    def at(self, wanted: Mapping[str, float], level: float, binding: str) -> Plan:
        """The plan where every wanted group has its sparsity, and at least ``level``."""
        shares = {name: max(wanted[name], level) if name in wanted else 0.0 for name in self.names}
        model, structure, within = self.model, self.settings.structure, shares
        if self.structured:
            model = model.resized(sizes_kept(self.families, shares))
            structure, within = "unstructured", dict.fromkeys(self.names, 0.0)
        specs, kept = model.tensors, dict.fromkeys(self.names, 0)
        stored = dict.fromkeys(self.names, 0)
        compact: list[tuple[str, str, list[int]]] = []
        loaded = engine.OVERHEAD_BYTES
        for spec in specs:
            if spec.group is None:
                stored_as = self._fixed(spec)
                compact += stored_as
                loaded += engine.fixed_bytes(self.model, spec, stored_as[0][1])
                continue
            n, k = spec.map_shape
            weights = kept_weights(n, k, within[spec.group], structure)
            kept[spec.group] += weights
            loaded += engine.pruned_bytes(self.model, n, k, weights)
            units = predicted_units(n, k, within[spec.group], structure)
            item, code = (1, "I8") if self.settings.quantize else (self.item, self.code)
            encoding = pick(n, k, units, item)
            count, scaled = units.get(encoding, 0), self.settings.quantize
            stored[spec.group] += matrix_bytes(encoding, n, k, count, item, scaled=scaled)
            compact += parts(encoding, spec.name, n, k, count, code, scaled=scaled)
        if self.settings.threshold == "global" and self.settings.structure in _POOLED:
            kept = {name: self._pooled(name, within[name]) for name in self.names}
        planned = [self._group(name, shares[name], kept[name], stored[name]) for name in self.names]
        total, prunable = sum(spec.numel for spec in self.specs), sum(group.weights for group in planned)
        nonzeros = sum(group.nonzeros for group in planned)
        file_bytes = container_bytes(compact)
        return Plan(
            groups=planned,
            sparsity=1 - nonzeros / prunable,
            prunable_params=prunable,
            fixed_params=total - prunable,
            nonzero_params=nonzeros + sum(spec.numel for spec in specs if spec.group is None and not spec.zeros),
            total_params=total,
            dense_bytes=self.dense_bytes,
            sparse_bytes=file_bytes,
            fixed_bytes=file_bytes - sum(stored.values()),
            memory_bytes=loaded,
            dense_memory_bytes=engine.expanded_bytes(self.specs),
            trainable_params=self.trainable,
            training_memory_bytes=self.training,
            training_gpu_bytes=self.training_gpu,
            binding=binding,
            reached=True,
            notes=self._notes(wanted),
            time=self._time(model, within),
        )

    def _time(self, model: ModelDescription, within: Mapping[str, float]) -> PlannedTime | None:
        if self.timing is None:
            return None
        seconds = self.timing.served(model, within)
        return PlannedTime(
            rows=self.timing.rows,
            tokens=self.timing.tokens,
            latency_ms=seconds * 1000,
            dense_latency_ms=self.dense_seconds * 1000,
        )

    def _pooled(self, name: str, share: float) -> int:
        """Weights that a group keeps when its weights or blocks compete over all matrices, counted once for all."""
        block = _POOLED[self.settings.structure]
        shapes = [spec.map_shape for spec in self.specs if spec.group == name]
        cells = sum(math.prod(grid(n, k, block)) for n, k in shapes)
        return min(math.prod(block) * kept_count(cells, share), sum(n * k for n, k in shapes))

    def _group(self, name: str, share: float, kept: int, stored: int) -> GroupPlan:
        members = [spec for spec in self.specs if spec.group == name]
        return GroupPlan(
            name=name,
            matrices=len(members),
            shapes=sorted({spec.map_shape for spec in members}),
            weights=sum(spec.numel for spec in members),
            sparsity=share,
            nonzeros=kept,
            bytes=stored,
        )

    def _fixed(self, spec: TensorSpec) -> list[tuple[str, str, list[int]]]:
        """How the compact file holds a tensor that is not pruned."""
        storage = self.settings.embedding_storage if spec.embedding else "same"
        if storage == "int8":
            return parts("dense", spec.name, *spec.map_shape, 0, "I8", scaled=True)
        if spec.zeros:
            n, k = spec.map_shape
            return parts(pick(n, k, dict.fromkeys(BLOCKS, 0), self.item), spec.name, n, k, 0, self.code)
        code = "BF16" if storage == "bfloat16" and self.item == ITEM_BYTES["float32"] else self.code
        return [(spec.name, code, list(spec.shape))]

    def _notes(self, wanted: Mapping[str, float]) -> list[str]:
        if not wanted:
            return []
        notes: list[str] = []
        unable = [name for name in self.names if name not in self.able]
        if unable:
            notes.append(Message("{why}: it stays dense.", why=self._why_dense(unable)))
        if self.settings.threshold == "global" and self.settings.structure != "structured":
            notes.append(
                Message(
                    "With a global threshold the share of each matrix is known only after training: sizes may differ."
                )
            )
        if self.settings.trim_vocabulary:
            notes.append(
                Message(
                    "How many tokens a trimmed vocabulary loses depends on the rows: the file will be smaller still."
                )
            )
        return notes

    def _why_dense(self, names: Sequence[str]) -> Message:
        kind = self.model.config["model_type"]
        return Message(
            "structured can't prune {groups}, because the config of {kind} can't say fewer heads",
            groups=" and ".join(names),
            kind=kind,
        )
