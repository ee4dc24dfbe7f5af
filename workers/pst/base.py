"""Base models: loading a folder's classifier, config and tokenizer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as output

from pst.errors import PSTError
from pst.families import TensorSpec, tensors


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a base model. Raises :class:`PSTError` when the folder holds no model."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PSTError(f"There is no base model in {folder}: its config.json can't be read ({error}).") from error
    if not isinstance(config, dict):
        raise PSTError(f"{folder / 'config.json'} must hold a JSON object.")
    return config


def load_classifier(folder: Path, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """The base model with a new task head, drawn from ``seed``, in float32 on the CPU.

    Raises :class:`PSTError` when the weights are missing, or do not fit config.json.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    torch.manual_seed(seed)
    try:
        with quiet():
            model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # the head of another task gives way to a new one
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PSTError(f"The base model in {folder} can't be loaded: {error}") from error
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar, and no report that the task head is new: it always is."""
    level, bar = output.get_verbosity(), output.is_progress_bar_enabled()
    output.set_verbosity(logging.ERROR)
    output.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        output.set_verbosity(level)
        if bar:
            output.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(folder: Path) -> Any:
    """The base model's tokenizer. Raises :class:`PSTError` when it can't be read."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PSTError(f"The tokenizer in {folder} can't be loaded: {error}") from error


def matched_specs(model: nn.Module, config: Mapping[str, Any], labels: int) -> list[TensorSpec]:
    """The family table's tensors, checked against the model. Raises :class:`PSTError` when they differ."""
    specs = tensors(config, labels)
    expected = {spec.name: spec.shape for spec in specs}
    actual = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if expected != actual:
        odd = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
        raise PSTError(f"The base model's tensors are not those of its model type; the first that differs is {odd[0]}.")
    return specs
