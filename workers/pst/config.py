"""Settings of a sparse fine-tuning run: the one definition from which the job spec, the OpenAPI schema and
the TypeScript types are derived.

Standard library only: the web tier imports this module, and the web tier never imports torch.

A field's ``metadata`` uses pydantic's keyword names (``description``, ``ge``, ``le``, ``gt``, ``lt``), so that
pydantic reads a dataclass below as it stands and :func:`check` enforces the same bounds without pydantic.
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, get_args, get_type_hints

from pst.messages import Message

TaskName = Literal["classification", "regression", "multilabel", "generation"]
Method = Literal["pst", "magnitude", "movement", "l0", "smp", "wanda", "lora", "dense"]
Structure = Literal["unstructured", "2:4", "block_1x4", "block_4x1", "structured"]
Threshold = Literal["matrix", "global"]
StorageDtype = Literal["float32", "bfloat16", "float16"]
EmbeddingStorage = Literal["same", "bfloat16", "int8"]
Precision = Literal["auto", "float32", "bfloat16"]
Checkpointing = Literal["auto", "on", "off"]
FrozenWeights = Literal["float32", "bfloat16", "int8"]
MAX_TARGET_TOKENS = 4096


class Phase(StrEnum):
    """What a job does, in order. A run ends with the report; then a worker publishes what it made."""

    PREPARE = "prepare"
    DENSE = "dense"
    TRAIN = "train"
    MERGE = "merge"
    EXPORT = "export"
    VERIFY = "verify"
    REPORT = "report"
    PUBLISH = "publish"


class SettingsError(ValueError):
    """A setting is out of its range. ``field`` names it, the message says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def setting(default: Any, description: str, **bounds: float) -> Any:
    """A dataclass field with a one-line description and optional bounds (``ge``, ``le``, ``gt``, ``lt``)."""
    return field(default=default, metadata={"description": description, **bounds})


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything a user may set about training. Defaults are the product's recipe."""

    method: Method = setting("pst", "How weights are pruned while the model is fine-tuned.")  # noqa: RUF009
    epochs: float = setting(20.0, "Passes over the training rows.", gt=0, le=1000)
    batch_size: int = setting(32, "Rows of one optimiser step.", ge=1, le=4096)
    max_length: int = setting(128, "Tokens of a row; longer rows are cut.", ge=4, le=8192)
    learning_rate: float = setting(2e-3, "Peak rate of the update U, V.", gt=0, le=1)
    score_learning_rate: float = setting(2e-3, "Peak rate of the importance scores A, B, R, C.", gt=0, le=1)
    head_learning_rate: float = setting(1e-3, "Peak rate of the task head.", gt=0, le=1)
    dense_learning_rate: float = setting(
        1e-4, "Peak rate of full fine-tuning (dense, magnitude, movement, l0).", gt=0, le=1
    )
    dense_epochs: float = setting(
        20.0, "Passes of the dense model that the sparse one is compared with.", gt=0, le=1000
    )
    warmup_ratio: float = setting(0.06, "Share of the steps in which the rate rises.", ge=0, le=0.9)
    hold_ratio: float = setting(0.7, "Share of the steps up to which the rate stays at its peak.", ge=0, lt=1)
    weight_decay: float = setting(0.0, "Decoupled weight decay of the trained tensors.", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "Gradients are scaled down to this global norm.", gt=0)
    update_rank: int = setting(
        0, "Rank r1 of the update U V; 0 takes 16, and up to 32 where a matrix is narrow.", ge=0, le=1024
    )
    score_rank: int = setting(6, "Rank r2 of the importance A B.", ge=1, le=1024)
    init_scale: float = setting(0.1, "Standard deviation of U and A at the start.", gt=0, le=10)
    beta: float = setting(1.0, "Scale of the update U V.", ge=0)
    alpha1: float = setting(1.0, "Scale of the importance A B.", ge=0)
    alpha2: float = setting(1.0, "Scale of the row and column importance R, C.", ge=0)
    gate_learning_rate: float = setting(0.1, "Peak rate of one score a weight (movement, smp, l0).", gt=0, le=10)
    structure: Structure = setting("unstructured", "Pattern in which weights are removed.")  # noqa: RUF009
    activation_power: float = setting(
        0.5, "Power of the input activations that weighs |D|; 0 is the published S.", ge=0, le=1
    )
    threshold: Threshold = setting("global", "Scores compete within a matrix, or over all of a group.")  # noqa: RUF009
    mask_every: int = setting(1, "Steps between two selections; 1 is the published semantics.", ge=1, le=10_000)
    initial_sparsity: float = setting(0.0, "Sparsity s_0 at which the schedule starts.", ge=0, lt=1)
    warmup_fraction: float = setting(0.1, "Share t_i of the steps before sparsity starts to rise.", ge=0, lt=1)
    cooldown_fraction: float = setting(0.3, "Share t_f of the steps trained at the final sparsity.", gt=0, lt=1)
    distill: bool = setting(True, "Learn from the dense fine-tuned model's logits too.")
    distill_weight: float = setting(0.5, "Share of the distillation loss.", ge=0, le=1)
    distill_hidden_weight: float = setting(30.0, "Weight of the distance to the dense hidden states.", ge=0, le=1000)
    distill_temperature: float = setting(2.0, "Temperature of the distillation loss.", gt=0, le=100)
    class_weights: bool = setting(False, "Weigh classes by the inverse of their frequency.")
    average_decay: float = setting(
        0.95, "Decay per step of the average of what is trained, which is kept; 0 keeps the last.", ge=0, lt=1
    )
    train_norms: bool = setting(False, "Train LayerNorms and biases too.")
    micro_batch_size: int = setting(0, "Rows at once on the device; 0 finds what fits.", ge=0, le=4096)
    gradient_checkpointing: Checkpointing = setting("auto", "Recompute activations in backward to save memory.")  # noqa: RUF009
    precision: Precision = setting("auto", "Number format of activations; auto: bfloat16 where the device has it.")  # noqa: RUF009
    frozen_weights: FrozenWeights = setting("float32", "Number format of the frozen weights while training.")  # noqa: RUF009
    early_stop: int = setting(0, "Stop after so many evaluations without a better one; 0 never does.", ge=0, le=1000)
    max_target_length: int = setting(64, "Tokens of a generated text.", ge=1, le=MAX_TARGET_TOKENS)
    beams: int = setting(1, "Beams of generation.", ge=1, le=16)
    evaluations: int = setting(10, "How often the validation split is scored during training.", ge=1, le=1000)
    compare_dense: bool = setting(True, "Fine-tune the dense model too, to compare with and to learn from.")
    storage_dtype: StorageDtype = setting("float32", "Number format of the published weights.")  # noqa: RUF009
    embedding_storage: EmbeddingStorage = setting("same", "Number format of the embeddings in the compact file.")  # noqa: RUF009
    dense_file: bool = setting(True, "Publish model.safetensors beside the compact file.")
    quantize: bool = setting(False, "Store kept weights as int8 with a scale for each row.")
    trim_vocabulary: bool = setting(False, "Drop tokens that the rows never use, from embeddings and tokenizer.")
    seed: int = setting(42, "Seed of every random choice.", ge=0, le=2**32 - 1)


def check(settings: TrainSettings) -> TrainSettings:
    """Return ``settings`` unchanged, or raise :class:`SettingsError` naming the first field that is out of range."""
    hints = get_type_hints(TrainSettings)
    for item in dataclasses.fields(settings):
        value, kind, bounds = getattr(settings, item.name), hints[item.name], item.metadata
        choices = get_args(kind)
        if choices:
            if value not in choices:
                raise SettingsError(
                    item.name,
                    Message("must be one of {choices}, not {value}", choices=", ".join(choices), value=repr(value)),
                )
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind is bool:
            valid = isinstance(value, bool)
        elif kind is int:
            valid = number and float(value).is_integer()
        else:
            valid = number
        if not valid:
            raise SettingsError(
                item.name, Message("must be of type {type}, not {value}", type=kind.__name__, value=repr(value))
            )
        if kind is bool:
            continue
        for name, sign, holds in (
            ("ge", ">=", operator.ge),
            ("gt", ">", operator.gt),
            ("le", "<=", operator.le),
            ("lt", "<", operator.lt),
        ):
            if name in bounds and not holds(value, bounds[name]):
                raise SettingsError(
                    item.name,
                    Message("must be {sign} {bound}, not {value}", sign=sign, bound=bounds[name], value=value),
                )
    if settings.warmup_fraction + settings.cooldown_fraction >= 1:
        raise SettingsError(
            "cooldown_fraction", Message("warmup_fraction and cooldown_fraction together must be below 1")
        )
    if settings.frozen_weights != "float32":
        if settings.method != "pst":
            raise SettingsError(
                "frozen_weights",
                Message("must be float32 for {method}; only pst takes fewer bits", method=settings.method),
            )
        if settings.precision == "float32" or settings.storage_dtype != "bfloat16":
            raise SettingsError(
                "frozen_weights",
                Message("other than float32 needs storage_dtype bfloat16, and precision auto or bfloat16"),
            )
    if settings.distill and not settings.compare_dense:
        raise SettingsError("distill", Message("needs the dense model: set compare_dense, or switch distill off"))
    return settings


def from_dict(values: dict[str, Any]) -> TrainSettings:
    """Build checked settings from a mapping. Raises :class:`SettingsError` for an unknown or invalid field."""
    known = {item.name for item in dataclasses.fields(TrainSettings)}
    for name in values:
        if name not in known:
            raise SettingsError(
                name, Message("is no setting; the settings are {known}", known=", ".join(sorted(known)))
            )
    return check(TrainSettings(**values))
