"""Base models: loading a folder's model for a task, its config and its tokenizer. Safetensors only, no foreign code."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as output

from pst.errors import PSTError
from pst.families import TensorSpec, architecture, tensors, tied

PROBLEMS = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multilabel": "multi_label_classification",
}
"""transformers' names of the tasks with a classification head."""


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a base model. Raises :class:`PSTError` when the folder holds no model."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PSTError(f"There is no base model in {folder}: its config.json can't be read ({error}).") from error
    if not isinstance(config, dict):
        raise PSTError(f"{folder / 'config.json'} must hold a JSON object.")
    return config


def load_model(folder: Path, task: str, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """The base model for ``task``, in float32 on the CPU: with a new head of ``labels`` drawn from ``seed``, or for
    "generation" (no labels) with its LM head.

    Raises :class:`PSTError` when its family is unknown or has no class for the task (before any weight is read), when
    the weights are missing or not in safetensors, or do not fit config.json.
    """
    architecture(read_config(folder), task)
    torch.manual_seed(seed)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            if task != "generation":
                config.id2label = dict(enumerate(labels))
                config.label2id = {label: index for index, label in enumerate(labels)}
                config.problem_type = PROBLEMS[task]
            if config.pad_token_id is None:
                config.pad_token_id = load_tokenizer(folder).pad_token_id
            model: PreTrainedModel = model_class(task, config.is_encoder_decoder).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=task != "generation",  # the head of another task gives way to a new one
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PSTError(f"The base model in {folder} can't be loaded: {error}") from error
    if task == "generation":
        # T5's class says that its LM head is tied even where the checkpoint holds one of its own (T5 1.1, mT5).
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        embedding: Any = model.get_input_embeddings()
        model.config.tie_word_embeddings = head is not None and head.weight is embedding.weight
    return model


def model_class(task: str, two_stacks: bool) -> Any:
    """transformers' automatic class for a task."""
    if task != "generation":
        return AutoModelForSequenceClassification
    return AutoModelForSeq2SeqLM if two_stacks else AutoModelForCausalLM


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
    """The base model's tokenizer; one without a padding token (GPT-2, LLaMA) pads with its end of the text.

    Raises :class:`PSTError` when it can't be read, or has neither.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PSTError(f"The tokenizer in {folder} can't be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise PSTError(f"The tokenizer in {folder} has neither a padding token nor an end of the text.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def state_of(model: nn.Module, config: Mapping[str, Any], task: str = "classification") -> dict[str, Tensor]:
    """The state dict with each tensor once: without the names that only repeat a tied one."""
    repeated = tied(config, task)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in repeated}


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], config: Mapping[str, Any], task: str = "classification"
) -> None:
    """Put the tensors of :func:`state_of` into ``model``. Raises RuntimeError when one is missing or does not fit."""
    model.load_state_dict({**state, **{name: state[source] for name, source in tied(config, task).items()}})


def matched_specs(
    model: nn.Module, config: Mapping[str, Any], labels: int, task: str = "classification"
) -> list[TensorSpec]:
    """The family table's tensors, checked against the model. Raises :class:`PSTError` when they differ."""
    specs = tensors(config, labels, task)
    state = model.state_dict()
    expected = {spec.name: spec.shape for spec in specs}
    actual = {name: tuple(tensor.shape) for name, tensor in state_of(model, config, task).items()}
    odd = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    odd += [name for name, source in tied(config, task).items() if state[name].data_ptr() != state[source].data_ptr()]
    if odd:
        raise PSTError(f"The base model's tensors are not those of its model type; the first that differs is {odd[0]}.")
    return specs
