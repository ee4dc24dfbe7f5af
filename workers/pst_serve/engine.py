"""The engine: turns a version's folder into something that answers. Another engine is another :class:`Engine`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pst_native

from pst.native import inference
from pst.native.inference import Answer, BadInput

__all__ = ["Answer", "BadInput", "Engine", "Input", "LoadedModel", "NativeEngine"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """One text, or a pair of texts, to classify; or the source of a text."""

    text: str
    text_pair: str | None = None


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


class NativeEngine:
    """What is fastest on this node: a GPU that is there, else the sparse engine where that is built."""

    def __init__(self) -> None:
        try:
            pst_native.library()
        except pst_native.Unavailable as error:
            log.warning("models are served by expanding them: %s", error)

    def load(self, folder: Path) -> LoadedModel:
        loaded = inference.open_folder(folder)
        log.info("%s runs on %s", folder.name, loaded.engine)
        return _Asked(loaded)


class _Asked:
    def __init__(self, model: inference.Published) -> None:
        self._model = model
        self.task, self.labels = model.task, model.labels

    def predict(self, inputs: Sequence[Input]) -> list[Answer]:
        from pst.model.data import Row

        return self._model.answers([Row(item.text, item.text_pair) for item in inputs])
