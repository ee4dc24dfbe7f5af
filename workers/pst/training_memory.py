"""How much memory training needs, from ``config.json`` and settings alone. Standard library only.

    total      = weights + trained + teacher + max(step, evaluation)      where memory is plentiful
    least      = the same with one matrix's masked weight in evaluation and one matrix's scores in selection: what does
                 not fit beside the rest is computed again instead of held (pst.inject)
    weights    = 4 P; where frozen weights have fewer bits: 2 or 1 of a pruned matrix, 2 of other tables
    trained    = 4 (two moments, the best) T, 4 more where the numbers trained are not the model's own, and 4 more where
                 their average is kept
    teacher    = 4 P where it is asked at every step
    step       = layer + max(selection, kept + work, 4 (T - E) + one + work, 4 T)      backward begins with all that was
                                                      kept; the embeddings' gradients, E numbers, are its last
    layer      = 16 n k of the largest matrix: M * D, D, S and G; with fewer bits 4 n k: M * D and G alone, by the
                 kernels of a GPU
    selection  = 11 bytes for each weight of the largest matrix, and where scores compete over a group 4 for each of its
    kept       = b sum over layers of the floats below; with checkpointing w of each block, and all of one layer
    one        = the same of the largest layer alone
    evaluation = 4 N, with fewer bits 2 N: every M * D at once

of rows all as long as ``max_length``. A block keeps for backward, in floats a token (d: dropout; else 0):

    attention      c w + 2 i + 2 m + (1 + 2 d) a L + (1 + d) w       without d, a fused kernel keeps no a L
    feed-forward   c w + 2 f (gated: 4 f) + (1 + d) w
    hidden states that a teacher is compared with: 3 w

Work is what backward holds beside it: 2 a L or 2 f.

Legend: P numbers of the model, T trained ones, N prunable ones; b bytes of an activation; w width; i size of all query
heads, m of all key heads; a heads; f neurons; L tokens; c copies of a block's input: one for each map where PST weighs
its inputs (activation_power), else one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pst.config import TrainSettings
from pst.families import Attention, FeedForward, TensorSpec, blocks
from pst.traits import TRAITS, trainable_total

ITEM, NARROW = 4, 2  # bytes of a float32, and of a bfloat16
SELECTING = 11  # a matrix's scores, a copy of some, and comparisons
LASTING = 3  # two moments, the best state
DROPOUT = {"t5": "dropout_rate", "mt5": "dropout_rate", "gpt2": "attn_pdrop"}
"""The config's entry by model type; of the others it is one of these two."""
USUAL = "attention_dropout", "attention_probs_dropout_prob"
WITHOUT = {"llama", "mistral", "qwen2", "qwen3", "bart", "mbart"}  # unless the config says so; others have a tenth


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes, as the module says: ``activations`` is kept + work, ``gradients`` all that a step holds at their end."""

    weights: int
    trained: int
    teacher: int
    layer: int
    selection: int
    activations: int
    gradients: int
    evaluation: int
    pooled: int
    """Of the selection: the scores of a group that are held from one pass over them to the next."""

    @property
    def total(self) -> int:
        return self._with(self.selection, self.evaluation)

    @property
    def least(self) -> int:
        return self._with(self.selection - self.pooled, 0)

    def _with(self, selection: int, evaluation: int) -> int:
        step = self.layer + max(selection, self.activations, self.gradients)
        return self.weights + self.trained + self.teacher + max(step, evaluation)


def training_memory(
    config: Mapping[str, Any],
    specs: Sequence[TensorSpec],
    settings: TrainSettings,
    task: str,
    *,
    checkpointing: bool | None = None,
) -> TrainingMemory:
    """What one process needs. ``checkpointing`` None is what the settings say ("auto": off)."""
    traits, model = TRAITS[settings.method], sum(spec.numel for spec in specs)
    trained = trainable_total(specs, settings)
    own = sum(spec.numel for spec in specs if traits.full or spec.head)  # trained in place
    lasting = LASTING + (settings.average_decay > 0 and not traits.full)
    tied = task == "generation"  # the embeddings are, or may be, the head too, whose gradient is the first
    last = sum(spec.numel for spec in specs if spec.embedding) if traits.full and not tied else 0
    pruned = [spec.numel for spec in specs if spec.group is not None]
    replaced = bool(pruned) and settings.method != "dense"
    groups: dict[str, int] = {}
    for spec in specs:
        if spec.group is not None:
            groups[spec.group] = groups.get(spec.group, 0) + spec.numel
    pooled = settings.threshold == "global" and settings.structure != "structured"
    largest = max(pruned, default=0)
    held = ITEM * max(groups.values(), default=0) if pooled and traits.prunes else 0
    fewer = settings.frozen_weights != "float32" and replaced
    live = settings.method != "dense" and settings.distill
    live = live and (settings.distill_hidden_weight > 0 or task == "generation")
    again = settings.gradient_checkpointing == "on" if checkpointing is None else checkpointing
    kept, one = _activations(config, specs, settings, task, again, live)
    return TrainingMemory(
        weights=sum(_held_bytes(spec, settings) for spec in specs) if fewer else ITEM * model,
        trained=ITEM * (lasting * trained + max(0, trained - own)),
        teacher=ITEM * model if live else 0,
        layer=(2 * NARROW if fewer else 4 * ITEM) * largest if replaced else 0,
        selection=held + SELECTING * largest if traits.prunes else 0,
        pooled=held,
        activations=kept,
        gradients=max(ITEM * trained, ITEM * (trained - last) + one),
        evaluation=(NARROW if fewer else ITEM) * sum(pruned) if replaced else 0,
    )


def _held_bytes(spec: TensorSpec, settings: TrainSettings) -> int:
    """Of a tensor of a model with frozen weights in fewer bits (:mod:`pst.base`)."""
    if spec.head or len(spec.shape) == 1:
        return ITEM * spec.numel
    if spec.group is not None and settings.frozen_weights == "int8":
        return spec.numel + ITEM * spec.map_shape[0]  # and a scale for each row
    return NARROW * spec.numel


def _activations(
    config: Mapping[str, Any], specs: Sequence[TensorSpec], settings: TrainSettings, task: str, again: bool, live: bool
) -> tuple[int, int]:
    """Of all layers, and of the largest alone, each with the work of the largest block."""
    size = NARROW if settings.precision == "bfloat16" or settings.frozen_weights != "float32" else ITEM
    rows = settings.micro_batch_size or settings.batch_size
    random = _drops(config)
    weighed = settings.method == "pst" and settings.activation_power > 0
    inputs = work = 0
    layers: dict[tuple[str, int], int] = {}
    parts = blocks(config, task)
    for block in parts:
        decoder = block.group.startswith("decoder.")
        length = settings.max_target_length if decoder else settings.max_length
        floats, most = _block(block, length, random, weighed)
        if live and isinstance(block, FeedForward) and settings.distill_hidden_weight > 0:
            floats += 3 * block.width
        at = block.group.rpartition(".")[0], block.layer
        layers[at] = layers.get(at, 0) + length * floats
        inputs, work = inputs + length * block.width, max(work, length * most)
    words = 0
    if task == "generation":
        vocabulary = max(spec.shape[0] for spec in specs if spec.embedding)
        two = any(block.group.startswith("decoder.") for block in parts)
        length = settings.max_target_length if two else settings.max_length
        words = ITEM * (5 if live else 3) * length * vocabulary
    one = max(layers.values(), default=0)
    kept = inputs + one if again else sum(layers.values())
    return rows * (size * (kept + work) + words), rows * size * (one + work)


def _block(block: Attention | FeedForward, length: int, random: bool, weighed: bool) -> tuple[int, int]:
    """Floats a token that a block keeps, and that its backward needs besides."""
    after = (2 if random else 1) * block.width
    if isinstance(block, FeedForward):
        maps = len(block.inputs)
        copies = maps if weighed else 1
        return copies * block.width + (2 if maps == 1 else 4) * block.inner + after, 2 * block.inner
    queries, keys = block.heads * block.head_dim, block.kv_heads * block.head_dim
    copies = 3 if weighed and block.query != block.key else 1
    scores = block.heads * length if random else 0
    return copies * block.width + 2 * queries + 2 * keys + 3 * scores + after, 2 * scores


def _drops(config: Mapping[str, Any]) -> bool:
    """Whether attention drops some of its scores at random, so that all of them are kept."""
    kind = config["model_type"]
    names = (DROPOUT[kind],) if kind in DROPOUT else USUAL
    said = [config[name] for name in names if name in config]
    return any(said) if said else kind not in WITHOUT
