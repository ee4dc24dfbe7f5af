"""What is kept of the dense fine-tuned model: its answers, and where it teaches, its logits or its weights.

    dense/answers.safetensors    "SPLIT.NAME": the task's answers to each set of rows
    dense/model.safetensors      the weights, where the student learns from the model itself

Checkpoints hold the answers too. The weights would make them large: a run that goes on elsewhere, from a checkpoint
alone, fine-tunes the dense model again where it needs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pst.base import load_state, state_of
from pst.config import TrainSettings
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
    digest = hashlib.sha256(json.dumps([spec.task, spec.labels, settings], sort_keys=True).encode())
    for path in (spec.base_model / "config.json", spec.train, spec.validation, spec.test):
        digest.update(b"-" if path is None else hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def teaches_live(task: Task, settings: TrainSettings) -> bool:
    """Whether the student learns from the model itself: from hidden states, or from logits that are too many to keep
    (one for each token of the vocabulary)."""
    return settings.distill and (settings.distill_hidden_weight > 0 or task.name == "generation")


def flat(answers: Mapping[str, Answers]) -> dict[str, Tensor]:
    """``answers`` by "SPLIT.NAME"."""
    return {f"{split}.{name}": tensor for split, found in answers.items() for name, tensor in found.items()}


def nested(tensors: Mapping[str, Tensor]) -> dict[str, Answers]:
    """The answers that :func:`flat` gave."""
    result: dict[str, Answers] = {}
    for key, tensor in tensors.items():
        split, _, name = key.partition(".")
        result.setdefault(split, {})[name] = tensor
    return result


def save(
    folder: Path,
    answers: Mapping[str, Answers],
    key: str,
    model: nn.Module | None,
    config: Mapping[str, Any],
    task: str,
) -> None:
    """Write ``folder/dense`` under a fingerprint (``key``); ``model`` is None where its weights are not needed."""
    at = folder / FOLDER
    at.mkdir(exist_ok=True)
    (at / ANSWERS).unlink(missing_ok=True)  # written last: with it, the folder is whole
    (at / WEIGHTS).unlink(missing_ok=True)
    if model is not None:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in state_of(model, config, task).items()}
        save_file(state, at / WEIGHTS)
    partial = at / f"{ANSWERS}.partial"
    tensors = {name: tensor.contiguous() for name, tensor in flat(answers).items()}
    save_file(tensors, partial, {"state": json.dumps({"fingerprint": key})})
    partial.replace(at / ANSWERS)


def load(folder: Path, key: str, weights: bool) -> dict[str, Answers] | None:
    """The answers in ``folder/dense``; None where it holds none of this fingerprint (``key``), or no wanted weights."""
    at = folder / FOLDER
    if weights and not (at / WEIGHTS).is_file():
        return None
    try:
        with safe_open(at / ANSWERS, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, KeyError, ValueError, SafetensorError):
        return None  # not there, or damaged: the dense model is fine-tuned again
    return nested(tensors) if state.get("fingerprint") == key else None


def fill(model: nn.Module, folder: Path, config: Mapping[str, Any], task: str) -> nn.Module:
    """``model`` with the weights of ``folder/dense``, frozen, for answers only."""
    load_state(model, load_file(folder / FOLDER / WEIGHTS), config, task)
    return model.requires_grad_(False).train(False)
