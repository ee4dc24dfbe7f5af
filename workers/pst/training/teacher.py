"""What is kept of the dense fine-tuned model: its weights, and its answers.

    dense/model.safetensors      the weights, packed against the base model's
    dense/answers.safetensors    "SPLIT.NAME": the task's answers to each set of rows

The weights are written first, once. Checkpoints hold the answers, and name the weights among the files that they need
as long as something is still asked of the model: wherever a run goes on, it does not fine-tune the model again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from pst.config import TrainSettings
from pst.errors import PSTError
from pst.files import packing
from pst.files.packing import Like, nothing
from pst.messages import Message
from pst.model.loading import load_state, state_of
from pst.plan.families import ModelDescription
from pst.spec import Spec
from pst.tasks import Answers, Task

FOLDER = "dense"
ANSWERS, WEIGHTS = "answers.safetensors", "model.safetensors"
TRAIN = "train"
SPARSE_ONLY = {
    "method", "epochs", "learning_rate", "score_learning_rate", "weight_decay", "update_rank", "score_rank",
    "init_scale", "beta", "alpha1", "alpha2", "gate_learning_rate", "structure", "threshold",
    "initial_sparsity", "warmup_fraction", "cooldown_fraction", "distill", "distill_weight", "distill_hidden_weight",
    "distill_temperature", "mask_every", "train_norms", "activation_power", "storage_dtype", "embedding_storage",
    "quantize", "frozen_weights", "compare_dense", "dense_file",
}  # fmt: skip
"""Settings that the dense model does not depend on."""


def fingerprint(spec: Spec) -> str:
    """sha256 of all that the dense model and its answers depend on: settings, labels, base model and rows."""
    settings = {name: value for name, value in asdict(spec.settings).items() if name not in SPARSE_ONLY}
    content = [spec.task, spec.labels, settings, spec.content()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def teaches_live(task: Task, settings: TrainSettings) -> bool:
    """Whether the student learns from the model itself: from hidden states, or from logits that are too many to keep
    (one for each token of the vocabulary)."""
    return settings.distill and (settings.distill_hidden_weight > 0 or task.name == "generation")


def flatten(answers: Mapping[str, Answers]) -> dict[str, Tensor]:
    """``answers`` by "SPLIT.NAME"."""
    return {f"{split}.{name}": tensor for split, found in answers.items() for name, tensor in found.items()}


def unflatten(tensors: Mapping[str, Tensor]) -> dict[str, Answers]:
    """The answers that :func:`flatten` gave."""
    result: dict[str, Answers] = {}
    for key, tensor in tensors.items():
        split, _, name = key.partition(".")
        result.setdefault(split, {})[name] = tensor
    return result


def save_model(folder: Path, key: str, model: nn.Module, description: ModelDescription, origin: Like = nothing) -> None:
    """Write the weights under a fingerprint (``key``); answers of another model go."""
    at = folder / FOLDER
    at.mkdir(exist_ok=True)
    (at / ANSWERS).unlink(missing_ok=True)
    packing.save(at / WEIGHTS, state_of(model, description), {"fingerprint": key}, origin)


def save_answers(folder: Path, key: str, answers: Mapping[str, Answers]) -> None:
    """Write the answers under a fingerprint (``key``)."""
    packing.save(folder / FOLDER / ANSWERS, flatten(answers), {"fingerprint": key})


def holds_model(folder: Path, key: str) -> bool:
    """Whether the folder has the weights of this fingerprint (``key``)."""
    try:
        return bool(packing.read_state(folder / FOLDER / WEIGHTS)["fingerprint"] == key)
    except (OSError, KeyError, ValueError, SafetensorError):
        return False  # not there, or damaged: the dense model is fine-tuned again


def load_answers(folder: Path, key: str) -> dict[str, Answers]:
    """The answers in the folder; none where it holds none of this fingerprint (``key``)."""
    try:
        found = packing.load(folder / FOLDER / ANSWERS)
        if found.state["fingerprint"] != key:
            return {}
        return unflatten({name: found.tensor(name, None) for name in found.stored})
    except (OSError, KeyError, ValueError, SafetensorError, zlib.error):
        return {}  # not there, or damaged: the dense model is asked again


def fill(model: nn.Module, folder: Path, description: ModelDescription, origin: Like = nothing) -> nn.Module:
    """``model`` with the weights of the folder, frozen, for answers only. Raises :class:`PSTError` for a damaged
    file."""
    try:
        found = packing.load(folder / FOLDER / WEIGHTS)
        state = {name: found.tensor(name, origin(name)) for name in found.stored}
    except (OSError, KeyError, ValueError, SafetensorError, zlib.error) as error:
        path = folder / FOLDER / WEIGHTS
        raise PSTError(
            Message("The dense model {path} can't be read ({error}); remove it to start over.", path=path, error=error)
        ) from error
    load_state(model, state, description)
    return model.requires_grad_(False).train(False)
