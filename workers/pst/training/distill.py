"""What a sparse model learns from the dense fine-tuned one: its logits (in the task's loss) and its hidden states.

Distance of hidden states, after TinyBERT (Jiao et al. 2020, arXiv 1909.10351, equation 8) and CoFi (Xia et al. 2022,
arXiv 2204.00408, section 2.3), layer by layer as both models have the same layers; each token's squared distance is
taken relative to the teacher's state, so that layers, tokens and models of any scale weigh alike:

    L_hidden = 1/N sum over layers and tokens of  |h - t|^2 / (|t|^2 + eps)

Legend: h student's and t teacher's state of a token after a layer (d); N the number of layers times the number of
tokens that are not padding, of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pst.model.data import IGNORED
from pst.plan.families import TensorSpec

EPSILON = 1e-6


@dataclass(frozen=True)
class Teacher:
    """The dense fine-tuned model: its logits (train rows, ...) on the CPU, or itself where these are too many or its
    hidden states are wanted."""

    logits: Tensor | None = None
    model: nn.Module | None = None


@torch.no_grad()
def start_head(model: nn.Module, teacher: Teacher, specs: Sequence[TensorSpec]) -> None:
    """Let the student's task head begin as that of the teacher, whose hidden states it learns, in place."""
    if teacher.model is not None:
        head = {spec.name for spec in specs if spec.head}
        ours = dict(model.named_parameters())
        for name, theirs in teacher.model.named_parameters():
            if name in head:
                ours[name].copy_(theirs)


def decoder_mask(inputs: Mapping[str, Tensor], gold: Tensor) -> Tensor:
    """The tokens (n, t) of a decoder's input that count. Below a task's head the decoder has no tokens of its own: it
    reads the source once more, moved by one place, and gold answers are no tokens."""
    return gold != IGNORED if "decoder_input_ids" in inputs else inputs["attention_mask"].bool()


def token_masks(inputs: Mapping[str, Tensor], gold: Tensor, rows: int | Tensor, outputs: Any) -> list[Tensor]:
    """For each stack of hidden states (encoder before decoder), its tokens (rows, length) that count, as ones and
    zeros; only the first ``rows`` rows are real."""
    real = (torch.arange(len(gold), device=gold.device) < rows).unsqueeze(1)
    masks = [inputs["attention_mask"].bool() & real]
    if getattr(outputs, "decoder_hidden_states", None) is not None:
        masks.append(decoder_mask(inputs, gold) & real)
    return masks


def states_of(outputs: Any) -> list[tuple[Tensor, ...]]:
    """The stacks of hidden states of a model's outputs: one, or an encoder's and a decoder's."""
    if getattr(outputs, "decoder_hidden_states", None) is not None:
        return [outputs.encoder_hidden_states, outputs.decoder_hidden_states]
    return [outputs.hidden_states]


def token_counts(inputs: Mapping[str, Tensor], gold: Tensor, rows: int) -> Tensor:
    """Tokens (2) of a batch that count: of its inputs, and of what a decoder behind an encoder reads."""
    return torch.stack([inputs["attention_mask"][:rows].sum(), decoder_mask(inputs, gold)[:rows].sum()])


def hidden_distance(outputs: Any, wanted: Any, masks: list[Tensor], tokens: Tensor) -> Tensor:
    """This micro-batch's part of L_hidden (0-dim), from the outputs of student and teacher; ``tokens`` (2) are those of
    the whole batch."""
    total = masks[0].new_zeros((), dtype=torch.float32)
    count = torch.zeros_like(total)
    for place, (mine, theirs, mask) in enumerate(zip(states_of(outputs), states_of(wanted), masks, strict=True)):
        for state, target in zip(mine[1:], theirs[1:], strict=True):  # the first is the embedding's, mostly frozen
            goal = target.detach().to(torch.promote_types(target.dtype, torch.float32))
            size = goal.square().sum(-1) + EPSILON
            distance = (state.to(goal.dtype) - goal).square().sum(-1) / size
            total = total + (distance * mask).sum()
            count = count + tokens[place]
    return total / count
