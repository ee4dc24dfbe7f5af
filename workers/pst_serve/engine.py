"""The engine: turns a version's folder into something that answers. Another engine is another :class:`Engine`.

:class:`NativeEngine` runs the compact file of an encoder as it is. :class:`ExpandingEngine` expands the compact file to
dense matrices, and runs transformers on the CPU or on a GPU that is there. A version without a compact file (a base
model) is read from its safetensors weights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pst.messages import Message
from pst_client.layout import COMPACT

if TYPE_CHECKING:
    from torch import device
    from transformers import PreTrainedModel

    from pst.model.data import Row
    from pst.native.model import NativeModel
    from pst.tasks import Task

log = logging.getLogger(__name__)

Answer = list[float] | str
"""Of one input. Classification: a probability for each label, which sum to 1; multilabel: a probability for each label;
regression: the number; generation: the text."""


@dataclass(frozen=True)
class Input:
    """One text, or a pair of texts, to classify; or the source of a text."""

    text: str
    text_pair: str | None = None


class BadInput(ValueError):
    """An input of which the tokenizer makes what the model does not have."""

    def __init__(self) -> None:
        super().__init__(
            Message(
                "The tokenizer of this version can't turn a text into tokens that the model has; leave that text out, "
                "or publish the model with its own tokenizer."
            )
        )


class LoadedModel(Protocol):
    @property
    def task(self) -> str:
        """One of :data:`pst.config.TaskName`."""

    @property
    def labels(self) -> Sequence[str]:
        """What the probabilities are of; none for generation."""

    def predict(self, inputs: Sequence[Input]) -> Sequence[Answer]:
        """The answer to each input. Called by one thread at a time. Raises :class:`BadInput`."""


class Engine(Protocol):
    def load(self, folder: Path) -> LoadedModel:
        """Load a verified folder. Raises an exception whose message says what is wrong with it."""


class ExpandingEngine:
    """Expands the compact format at load time: the memory of the dense model, the download of the sparse one."""

    @property
    def device(self) -> device:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def load(self, folder: Path) -> LoadedModel:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, GenerationConfig

        from pst import tasks
        from pst.config import TrainSettings
        from pst.files.formats import read_sparse
        from pst.model.loading import load_state, load_tokenizer, model_class
        from pst.plan.families import FAMILIES, ModelDescription

        written = json.loads((folder / "config.json").read_text("utf-8"))
        name = tasks.name_of(written)
        described = ModelDescription(written, name)
        if written.get("model_type") in FAMILIES:
            described.check()  # sizes beyond bounds, before a model of them is made
        tokenizer = load_tokenizer(folder)
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kind = AutoModelForSequenceClassification
        if name == "generation":
            kind = model_class(name, config.is_encoder_decoder)
        if (folder / COMPACT).is_dir():
            model = kind.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
            # The files were just checked against the manifest; hashing the tensors once more would only cost time.
            load_state(model, read_sparse(folder / COMPACT, verify=False), described)
            if name == "generation":
                model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        else:
            model = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        # The export writes the length that training cut texts at; some base models write "no limit".
        most = described.max_tokens if config.model_type in FAMILIES else config.max_position_embeddings
        length = min(tokenizer.model_max_length, most)
        settings = TrainSettings()
        if name == "generation":
            # What a version publishes (beams, penalties, a forced first token) holds; it is also told how long a text
            # may be, where it says nothing or counts the source too.
            published = model.generation_config
            published.max_new_tokens = published.max_new_tokens or min(settings.max_target_length, most // 2)
            published.max_length = None
            settings = TrainSettings(max_target_length=published.max_new_tokens)
        labels = [str(model.config.id2label[index]) for index in sorted(model.config.id2label)]
        task = tasks.make(name, [] if name == "generation" else labels, tokenizer, length, settings, written)
        return _TorchModel(model.to(self.device).eval(), task)


class NativeEngine(ExpandingEngine):
    """Runs the compact file as it is on this node's processor (:mod:`pst.native`). A version that it does not have is
    served as :class:`ExpandingEngine` does, and the log says which and why."""

    def load(self, folder: Path) -> LoadedModel:
        from pst import machine
        from pst.native.model import NativeModel, serves

        if not serves(folder):
            log.info("%s is served by expanding it: the sparse engine has no such model", folder.name)
            return super().load(folder)
        model = NativeModel(folder, machine.cpus())
        log.info("%s runs on the sparse engine (%s)", folder.name, model.described)
        return _NativeModel(model)


def engine() -> ExpandingEngine:
    """The engine of this machine: the sparse one on a processor, where its library is there."""
    expanding = ExpandingEngine()
    if expanding.device.type != "cpu":
        return expanding
    try:
        import pst_native

        pst_native.library()
    except (ImportError, RuntimeError) as error:
        log.warning("models are served by expanding them: %s", error)
        return expanding
    return NativeEngine()


class _NativeModel:
    def __init__(self, model: NativeModel) -> None:
        self._model = model
        self.task, self.labels = str(model.task.name), tuple(model.task.labels)

    def predict(self, inputs: Sequence[Input]) -> list[Answer]:
        try:
            return list(self._model.predict(_rows(inputs)))
        except ValueError as error:  # the engine checks each token's number
            raise BadInput from error


class _TorchModel:
    def __init__(self, model: PreTrainedModel, task: Task) -> None:
        self._model, self._task = model, task
        self.task, self.labels = str(task.name), tuple(task.labels)
        embeddings: Any = model.get_input_embeddings()
        self._tokens: int = embeddings.weight.shape[0]

    def predict(self, inputs: Sequence[Input]) -> list[Answer]:
        from pst import tasks

        encoded = tasks.encode_each(self._task, _rows(inputs))
        if max((token for row in encoded for token in row.input_ids), default=0) >= self._tokens:
            raise BadInput  # on a GPU such a number ends the whole process
        return list(self._task.answer(self._model, encoded))


def _rows(inputs: Sequence[Input]) -> list[Row]:
    from pst.model.data import Row

    return [Row(item.text, item.text_pair) for item in inputs]
