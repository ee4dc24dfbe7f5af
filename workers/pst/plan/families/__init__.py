"""Model families: which tensors a checkpoint holds, which of them are pruned, and which units can be removed, read from
``config.json`` alone.

Standard library only: the planner (:mod:`pst.plan.planner`), the injection (:mod:`pst.layers.inject`) and the removal
of units (:mod:`pst.export.structured`) share this one table.
"""

from __future__ import annotations

from pst.errors import BudgetError
from pst.messages import Message
from pst.plan.families import decoders, encoders, seq2seq
from pst.plan.families.parts import TASKS, Architecture, Attention, Block, Config, FeedForward, TensorSpec
from pst.plan.families.units import UnitFamily, sizes_kept
from pst.plan.families.units import unit_families as _unit_families

__all__ = [
    "FAMILIES",
    "TASKS",
    "Attention",
    "FeedForward",
    "TensorSpec",
    "UnitFamily",
    "architecture",
    "blocks",
    "groups",
    "max_tokens",
    "sizes_kept",
    "source_room",
    "tensors",
    "tied",
    "unit_families",
]

FAMILIES: dict[str, Architecture] = {
    "bart": seq2seq.BART,
    "bert": encoders.BERT,
    "camembert": encoders.ROBERTA,
    "distilbert": encoders.DISTILBERT,
    "electra": encoders.ELECTRA,
    "gpt2": decoders.GPT2,
    "llama": decoders.LLAMA,
    "mbart": seq2seq.MBART,
    "mistral": decoders.MISTRAL,
    "mpnet": encoders.MPNET,
    "mt5": seq2seq.MT5,
    "qwen2": decoders.QWEN2,
    "qwen3": decoders.QWEN3,
    "roberta": encoders.ROBERTA,
    "t5": seq2seq.T5_RELU,
    "xlm-roberta": encoders.ROBERTA,
}


def architecture(config: Config, task: str = "classification") -> Architecture:
    """The description of the config's model type. Raises :class:`BudgetError` where it is unknown, or has no class for
    the task."""
    kind = config.get("model_type")
    found = FAMILIES.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise BudgetError(
            "base_model",
            Message(
                "model type {kind} is not supported; known are {known}",
                kind=repr(kind),
                known=", ".join(sorted(FAMILIES)),
            ),
        )
    if task not in TASKS:
        raise BudgetError(
            "task", Message("must be one of {choices}, not {value}", choices=", ".join(TASKS), value=repr(task))
        )
    if task not in found.tasks:
        able = ", ".join(name for name, other in sorted(FAMILIES.items()) if task in other.tasks)
        raise BudgetError(
            "base_model",
            Message(
                "a model of type {kind} has no head for {task}; those that have are {able}",
                kind=kind,
                task=task,
                able=able,
            ),
        )
    return found


def tensors(config: Config, num_labels: int, task: str = "classification") -> list[TensorSpec]:
    """All tensors of the model for ``task`` that ``config`` describes, each once: see :func:`tied`.

    Raises :class:`BudgetError` when the architecture is unknown, can't do the task, or the config lacks a size.
    """
    found = architecture(config, task)
    pruned = [spec for block in found.blocks(config, task) for spec in block.tensors()]
    return [*pruned, *found.rest(config, task, num_labels)]


def blocks(config: Config, task: str = "classification") -> list[Block]:
    """The attentions and feed-forward parts, in the order of computation."""
    return list(architecture(config, task).blocks(config, task))


def tied(config: Config, task: str = "classification") -> dict[str, str]:
    """Names under which a state dict repeats a tensor, with the name that :func:`tensors` gives it."""
    return architecture(config, task).tied(config, task)


def groups(config: Config) -> tuple[str, ...]:
    """The groups into which the model's pruned matrices fall."""
    return architecture(config).groups


def unit_families(config: Config, task: str = "classification") -> list[UnitFamily]:
    """The neurons and heads that ``structured`` removes, and that the exporter removes where a mask emptied them."""
    return _unit_families(blocks(config, task))


def source_room(config: Config, max_target_length: int, separator: int = 1) -> int:
    """Tokens of a source that fit the context beside a generated text of ``max_target_length`` tokens; below 2 the two
    do not fit. A causal model reads both, and a ``separator`` of so many tokens between them."""
    context = max_tokens(config)
    if any(group.startswith("decoder.") for group in groups(config)):
        return context if max_target_length <= context else 0
    return context - max_target_length - separator


def max_tokens(config: Config) -> int:
    """The longest input that the position table allows."""
    return architecture(config).max_tokens(config)
