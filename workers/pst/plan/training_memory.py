"""How much memory training needs, from ``config.json`` and settings alone. Standard library only.

    total      = weights + trained + teacher + library + max(step, evaluation)      where memory is plentiful
    least      = the same with one matrix's masked weight in evaluation and one matrix's scores in selection: what does
                 not fit beside the rest is computed again instead of held (pst.layers.inject)
    library    = 64 MiB on a GPU: the workspaces of cuBLAS and cuBLASLt of one of Hopper's kind
    weights    = 4 P; where frozen weights have fewer bits: 2 or 1 of a pruned matrix, 2 of other tables
    trained    = 4 (two moments, the best) T, 4 more where the numbers trained are not the model's own, and 4 more where
                 their average is kept
    teacher    = 4 P where it is asked at every step
    step       = layer + max(selection, kept + work, 4 (T - E) + one + work, 4 T)      backward begins with all that was
                                                      kept; the embeddings' gradients, E numbers, are its last
    layer      = 16 n k of the largest matrix: M * D, D, S and G; with fewer bits 4 n k: M * D and G alone, by the
                 kernels of a GPU
    selection  = 11 bytes for each weight of the largest matrix, and where scores compete over a group 4 for each of its
    kept       = b sum over layers of the floats below; with checkpointing w of each layer, and all of one
    one        = the same of the largest layer alone
    evaluation = held + batch      held: 4 N, with fewer bits 2 N, every M * D at once
    batch      = float32 (with fewer bits 2 bytes) of the block that holds most while :data:`EVALUATED` rows go through
                 it, a token: 3 w + 2 f (gated: 4 f) or 3 w + 2 i + 2 m; 12 more for each word of the vocabulary

of rows all as long as ``max_length``. A block keeps for backward, in floats a token (d: dropout; else 0):

    attention      c w + 2 i + 2 m + (1 + 2 d) a L + (1 + d) w       without d, or on a GPU, a fused kernel keeps no a L
    feed-forward   c w + 2 f (gated: 4 f) + (1 + d) w
    hidden states that a teacher is compared with: 3 w
    RMSNorm: w more in each block; of queries and keys (Qwen3): i + m more
    GELU's approximation written out (gelu_new): 3 f more, and 3 f in evaluation

Work is what backward holds beside it: 2 a L or 2 f. On a GPU activations are bfloat16 unless the settings say float32,
by autocast, which casts the input of every map and leaves the sums between the blocks float32; in bytes a token, and
2 N more of weights that no layer of ours replaces:

    attention      2 (3 w + 3 i + 2 m) + (8 + d) w
    feed-forward   2 (w + 2 f; gated: 2 w + 4 f) + (8 + d) w

Legend: P numbers of the model, T trained ones, N prunable ones; b bytes of an activation; w width; i size of all query
heads, m of all key heads; a heads; f neurons; L tokens; c copies of a block's input: one for each map where PST weighs
its inputs (activation_power), else one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pst.config import TrainSettings
from pst.plan.families import Attention, FeedForward, ModelDescription, TensorSpec
from pst.plan.methods import METHODS, trainable_total

ITEM, NARROW = 4, 2  # bytes of a float32, and of a bfloat16
SELECTING = 11  # a matrix's scores, a copy of some, and comparisons
LASTING = 3  # two moments, the best state
LIBRARY = 64 * 2**20
EVALUATED = {"generation": 32}
"""Rows that the validation split is scored by, of the other tasks :data:`EVALUATED_USUALLY`."""
EVALUATED_USUALLY = 64
DROPOUT = {"t5": "dropout_rate", "mt5": "dropout_rate", "gpt2": "attn_pdrop"}
"""The config's entry by model type; of the others it is one of these two."""
RMS_NORM = {"llama", "mistral", "qwen2", "qwen3", "t5", "mt5"}
QUERIES_NORMED = {"qwen3"}
ACTIVATIONS = "hidden_act", "activation_function", "dense_act_fn"
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
    held: int
    batch: int
    pooled: int
    """Of the selection: the scores of a group that are held from one pass over them to the next."""
    library: int

    @property
    def total(self) -> int:
        return self._with(self.selection, self.held)

    @property
    def least(self) -> int:
        return self._with(self.selection - self.pooled, 0)

    def _with(self, selection: int, held: int) -> int:
        step = self.layer + max(selection, self.activations, self.gradients)
        return self.weights + self.trained + self.teacher + self.library + max(step, held + self.batch)


def training_memory(
    model: ModelDescription,
    settings: TrainSettings,
    *,
    checkpointing: bool | None = None,
    gpu: bool = False,
) -> TrainingMemory:
    """What one process needs. ``checkpointing`` None is what the settings say ("auto": off)."""
    traits, specs, task = METHODS[settings.method], model.tensors, model.task
    size = sum(spec.numel for spec in specs)
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
    scores = ITEM * max(groups.values(), default=0) if pooled and traits.prunes else 0
    fewer = settings.frozen_weights != "float32" and replaced
    live = settings.method != "dense" and settings.distill
    live = live and (settings.distill_hidden_weight > 0 or task == "generation")
    again = settings.gradient_checkpointing == "on" if checkpointing is None else checkpointing
    form = _form(model.config, settings, gpu)
    kept, one = _activations(model, settings, again, live, form)
    if form.casts and not replaced:
        kept += NARROW * sum(pruned)
    return TrainingMemory(
        weights=sum(_held_bytes(spec, settings) for spec in specs) if fewer else ITEM * size,
        trained=ITEM * (lasting * trained + max(0, trained - own)),
        teacher=ITEM * size if live else 0,
        layer=(2 * NARROW if fewer else 4 * ITEM) * largest if replaced else 0,
        selection=scores + SELECTING * largest if traits.prunes else 0,
        pooled=scores,
        activations=kept,
        gradients=max(ITEM * trained, ITEM * (trained - last) + one),
        held=(NARROW if fewer else ITEM) * sum(pruned) if replaced else 0,
        batch=_evaluated(model, settings, form, NARROW if fewer else ITEM),
        library=LIBRARY if gpu else 0,
    )


@dataclass(frozen=True)
class _Form:
    """How activations lie in memory: bytes of one, and what the kernels and autocast do."""

    item: int
    drops: bool
    fused: bool
    casts: bool
    rms: bool
    queries_normed: bool
    written_out: bool  # GELU by its formula, operation by operation

    @property
    def between(self) -> int:
        """Bytes of a number between two blocks."""
        return ITEM if self.casts else self.item

    def inner(self, block: Attention | FeedForward) -> int:
        """Numbers of a token that the maps and the activation of a block make, without attention's scores."""
        if isinstance(block, FeedForward):
            return ((2 if len(block.inputs) == 1 else 4) + 3 * self.written_out) * block.inner
        return 2 * (block.heads + block.kv_heads) * block.head_dim

    def block(self, block: Attention | FeedForward, length: int, weighed: bool) -> tuple[int, int]:
        """Bytes a token that a block keeps, and that its backward needs besides."""
        width, random, inner = block.width, int(self.drops), self.inner(block)
        if isinstance(block, FeedForward):
            maps, work = len(block.inputs), 2 * block.inner
        else:
            maps = 3 if block.query != block.key else 1
            queries, keys = block.heads * block.head_dim, block.kv_heads * block.head_dim
            scores = 0 if self.fused or not self.drops else block.heads * length
            inner, work = inner + 3 * scores, 2 * scores
            inner += queries if self.casts else 0
            inner += queries + keys if self.queries_normed else 0
        norms = 1 + self.rms
        if self.casts:
            return self.item * (maps * width + inner) + ((1 + norms) * ITEM + random) * width, self.item * work
        copies = maps if weighed else 1
        return self.item * (copies * width + inner + (norms + random) * width), self.item * work


def _form(config: Mapping[str, Any], settings: TrainSettings, gpu: bool) -> _Form:
    narrow = settings.precision == "bfloat16" or settings.frozen_weights != "float32"
    narrow = narrow or (gpu and settings.precision == "auto")
    kind = config["model_type"]
    return _Form(
        NARROW if narrow else ITEM,
        _drops(config),
        fused=gpu,
        casts=gpu and narrow,
        rms=kind in RMS_NORM,
        queries_normed=kind in QUERIES_NORMED,
        written_out=any(config.get(name) == "gelu_new" for name in ACTIVATIONS),
    )


def _evaluated(model: ModelDescription, settings: TrainSettings, form: _Form, item: int) -> int:
    """Bytes of the block that holds most, and of the scored words, while rows go through without gradients."""
    most = max((_length(part, settings) * (3 * part.width + form.inner(part)) for part in model.blocks), default=0)
    words = 3 * _scored(model, settings) if model.task == "generation" else 0
    return EVALUATED.get(model.task, EVALUATED_USUALLY) * (item * most + ITEM * words)


def _length(block: Attention | FeedForward, settings: TrainSettings) -> int:
    return settings.max_target_length if block.group.startswith("decoder.") else settings.max_length


def _scored(model: ModelDescription, settings: TrainSettings) -> int:
    """Logits of a generated row: one for each token and each word of the vocabulary."""
    vocabulary = max(spec.shape[0] for spec in model.tensors if spec.embedding)
    two = any(block.group.startswith("decoder.") for block in model.blocks)
    return vocabulary * (settings.max_target_length if two else settings.max_length)


def _held_bytes(spec: TensorSpec, settings: TrainSettings) -> int:
    """Of a tensor of a model with frozen weights in fewer bits (:mod:`pst.model.loading`)."""
    if spec.head or len(spec.shape) == 1:
        return ITEM * spec.numel
    if spec.group is not None and settings.frozen_weights == "int8":
        return spec.numel + ITEM * spec.map_shape[0]  # and a scale for each row
    return NARROW * spec.numel


def _activations(
    model: ModelDescription, settings: TrainSettings, again: bool, live: bool, form: _Form
) -> tuple[int, int]:
    """Bytes of all layers, and of the largest alone, each with the work of the largest block."""
    rows = settings.micro_batch_size or settings.batch_size
    weighed = settings.method == "pst" and settings.activation_power > 0
    inputs = work = 0
    layers: dict[tuple[str, int], int] = {}
    for block in model.blocks:
        length = _length(block, settings)
        kept, most = form.block(block, length, weighed)
        if live and isinstance(block, FeedForward) and settings.distill_hidden_weight > 0:
            kept += 3 * form.between * block.width
        at = block.group.rpartition(".")[0], block.layer
        if at not in layers:
            inputs += length * form.between * block.width
        layers[at] = layers.get(at, 0) + length * kept
        work = max(work, length * most)
    words = ITEM * (5 if live else 3) * _scored(model, settings) if model.task == "generation" else 0
    one = max(layers.values(), default=0)
    whole = inputs + one if again else sum(layers.values())
    return rows * (whole + work + words), rows * (one + work)


def _drops(config: Mapping[str, Any]) -> bool:
    """Whether attention drops some of its scores at random, so that all of them are kept."""
    kind = config["model_type"]
    names = (DROPOUT[kind],) if kind in DROPOUT else USUAL
    said = [config[name] for name in names if name in config]
    return any(said) if said else kind not in WITHOUT
