"""Model families: which tensors a checkpoint holds, which of them are pruned, and which units can be removed, read from
``config.json`` alone.

Standard library only: the planner (:mod:`pst.plan.planner`), the injection (:mod:`pst.layers.inject`) and the removal
of units (:mod:`pst.export.structured`) share this one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pst.errors import BudgetError
from pst.messages import Message
from pst.plan.families import decoders, encoders, seq2seq
from pst.plan.families.parts import TASKS, Architecture, Attention, Block, Config, FeedForward, TensorSpec
from pst.plan.families.units import UnitFamily, sizes_kept, unit_families

__all__ = [
    "FAMILIES",
    "TASKS",
    "Attention",
    "FeedForward",
    "ModelDescription",
    "TensorSpec",
    "UnitFamily",
    "architecture",
    "sizes_kept",
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


@dataclass(frozen=True)
class ModelDescription:
    """The model for a task that ``config``, the content of a config.json, describes. ``labels`` is the number of
    outputs of its head: 0 for generation, which has none, and where the head is no matter.

    Its properties raise :class:`BudgetError` when the architecture is unknown, can't do the task, or the config lacks a
    size. They are worked out once.

        >>> config = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
        >>> ModelDescription(config, "generation").groups
        ('attention', 'ffn')
        >>> len([tensor for tensor in ModelDescription(config, "generation").tensors if tensor.group == "ffn"])
        2
    """

    config: Config
    task: str = "classification"
    labels: int = 0

    def resized(self, changes: Mapping[str, Any]) -> ModelDescription:
        """The same model with other entries of its config."""
        return replace(self, config={**self.config, **changes})

    @cached_property
    def architecture(self) -> Architecture:
        """What is known of the model type."""
        return architecture(self.config, self.task)

    @cached_property
    def blocks(self) -> list[Block]:
        """The attentions and feed-forward parts, in the order of computation."""
        return list(self.architecture.blocks(self.config, self.task))

    @cached_property
    def tensors(self) -> list[TensorSpec]:
        """All tensors, each once: see :attr:`tied`."""
        pruned = [spec for block in self.blocks for spec in block.tensors()]
        return [*pruned, *self.architecture.rest(self.config, self.task, self.labels)]

    @cached_property
    def tied(self) -> dict[str, str]:
        """Names under which a state dict repeats a tensor, with the name that :attr:`tensors` gives it."""
        return self.architecture.tied(self.config, self.task)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The groups into which the pruned matrices fall."""
        return self.architecture.groups

    @cached_property
    def two_stacks(self) -> bool:
        """Whether it is an encoder with a decoder."""
        return any(group.startswith("decoder.") for group in self.groups)

    @cached_property
    def unit_families(self) -> list[UnitFamily]:
        """The neurons and heads that ``structured`` removes, and that the exporter removes where a mask emptied
        them."""
        return unit_families(self.blocks)

    def check(self) -> None:
        """Raise :class:`BudgetError` where a property would."""
        _ = self.tensors, self.max_tokens

    @cached_property
    def max_tokens(self) -> int:
        """The longest input that the position table allows."""
        return self.architecture.max_tokens(self.config)

    def weights(self) -> dict[str, int]:
        """Weights by group, and of all the rest by ""."""
        found = dict.fromkeys((*self.groups, ""), 0)
        for spec in self.tensors:
            found[spec.group or ""] += spec.numel
        return found

    def source_room(self, max_target_length: int, separator: int = 1) -> int:
        """Tokens of a source that fit the context beside a generated text of ``max_target_length`` tokens; below 2 the
        two do not fit. A causal model reads both, and a ``separator`` of so many tokens between them."""
        if self.two_stacks:
            return self.max_tokens if max_target_length <= self.max_tokens else 0
        return self.max_tokens - max_target_length - separator
