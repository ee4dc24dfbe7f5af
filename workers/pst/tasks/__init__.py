"""What a model learns: everything about a run that differs between classification, regression, multilabel and
generation. The trainer, the verifier and the report know a task by :class:`Task` alone.

Legend: n rows, l labels, t tokens of a padded row. Answers are tensors with one entry a row, so that they can be kept
in a safetensors file: ``logits`` (n, l) for the tasks with a classifying head; ``loss`` (n), ``tokens`` (n) and
``generated`` (n, at most max_target_length) for generation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args

from torch import Tensor
from transformers import PreTrainedModel

from pst.config import TaskName, TrainSettings
from pst.model.data import Encoded, Row
from pst.model.loading import LazyModel, TensorLocation
from pst.tasks.classification import Classification
from pst.tasks.generation import Generation
from pst.tasks.multilabel import Multilabel
from pst.tasks.regression import Regression

TASKS: tuple[TaskName, ...] = get_args(TaskName)

Answers = dict[str, Tensor]
Length = int | tuple[int, int]


class Task(Protocol):
    """One task with its tokenizer and settings, and after :meth:`learn` its rows."""

    name: TaskName
    labels: Sequence[str]  # of the model's head; regression has one, generation none
    primary: str  # the entry of metrics() by which models are compared; higher is better
    metric: str  # what score() gives and progress shows
    settings: TrainSettings
    pad_id: int
    max_length: int  # of a text, or of generation's source
    train: Sequence[Encoded]
    validation: Sequence[Encoded]

    # rows
    def read(self, path: Path) -> list[Row]:
        """Rows of a JSON lines file. Raises :class:`PSTError` naming file and line."""

    def classes_of(self, row: Row) -> Collection[int]:
        """The places of the row's labels; none where the task knows no classes."""

    def held_out(self, rows: Sequence[Row]) -> list[Row]:
        """The rows on which a model is measured: those of one source become one where a task knows references."""

    def check(self, train: Sequence[Row], validation: Sequence[Row]) -> list[str]:
        """Warnings about rows that can be learned; raises :class:`PSTError` about rows that can't."""

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Tokenised rows in the same order."""

    def learn(self, train: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
        """Set ``train`` and ``validation``, and what is computed from them."""

    # training
    def open(self, folder: Path, seed: int, location: TensorLocation | None = None) -> LazyModel:
        """The base model with the task's head, before its weights are read."""

    def load(self, folder: Path, seed: int) -> PreTrainedModel:
        """The base model with the task's head, in float32 on the CPU."""

    def length(self, row: Encoded) -> Length:
        """Tokens of a row; an encoder-decoder gives (source, target)."""

    def collate(
        self, rows: Sequence[Encoded], *, length: Length | None = None, count: int | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The model's inputs and the gold answers on the CPU, padded to ``length`` tokens and ``count`` rows.

        A padding row repeats the first one, and its gold answer is ignored by :meth:`loss`.
        """

    def norm(self, gold: Tensor) -> Tensor:
        """Denominators (k) of a whole batch's loss."""

    def loss(self, outputs: Any, gold: Tensor, teacher: Tensor | None, norm: Tensor) -> Tensor:
        """This micro-batch's part of the batch's mean loss, 0-dim, without a wait for the device.

        ``teacher`` has the shape of ``outputs.logits``, or is None.
        """

    def score(self, model: PreTrainedModel) -> tuple[float, float]:
        """(metric, tie-breaker) on the validation rows; higher is better. Leaves the model's mode as it was."""

    # results
    def predict(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> Answers:
        """Answers on the CPU in the order of ``rows``, computed on the model's device."""

    def values(self, answers: Answers, rows: Sequence[Row]) -> dict[str, float]:
        """Metrics by name."""

    def answer(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> Sequence[list[float] | str]:
        """Each row's answer for a user: probabilities of the labels, the number, or the generated text."""

    def metrics(self, answers: Answers, rows: Sequence[Row], seed: int) -> dict[str, Any]:
        """Metrics by name, ``intervals`` (95 %, bootstrap over rows) by name, and ``interval``, the primary one's."""

    def gains(self, answers: Answers, others: Answers, rows: Sequence[Row], seed: int) -> dict[str, list[float]]:
        """95 % intervals of each metric's difference to the others' answers, on the same resamples."""

    def agreement(self, answers: Answers, others: Answers) -> float:
        """Share of rows for which both give the same answer; for numbers their correlation."""

    def probabilities(self, answers: Answers) -> Tensor | None:
        """Probabilities, the last dimension of which sums to 1; None where the task has none."""

    def difference(self, got: Answers, wanted: Answers, who: str) -> float:
        """The largest difference of what a model computes. Raises :class:`pst.errors.FormatError` naming ``who`` when
        the answers differ by more than rounding."""


def name_of(config: Mapping[str, Any]) -> TaskName:
    """The task of a model by its config.json: what its class is for, and of a head its ``problem_type``."""
    kind = (config.get("architectures") or [""])[0]
    if kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return "generation"
    problems: dict[Any, TaskName] = {"regression": "regression", "multi_label_classification": "multilabel"}
    return problems.get(config.get("problem_type"), "classification")


def encode_each(task: Task, rows: Sequence[Row]) -> list[Encoded]:
    """The rows encoded, in their order. Texts and pairs may be mixed: an empty second text is not the same as none."""
    encoded: dict[int, Encoded] = {}
    for paired in (False, True):
        places = [place for place, row in enumerate(rows) if (row.text_pair is not None) == paired]
        if places:
            encoded |= zip(places, task.encode([rows[place] for place in places]), strict=True)
    return [encoded[place] for place in range(len(rows))]


def make(
    name: TaskName,
    labels: Sequence[str],
    tokenizer: Any,
    max_length: int,
    settings: TrainSettings,
    config: Mapping[str, Any],
) -> Task:
    """The task called ``name`` for the base model with this tokenizer and ``config`` (its config.json).

    Raises :class:`PSTError` when tokenizer or context do not fit the task.
    """
    if name == "generation":
        return Generation(tokenizer, max_length, settings, config)
    if name == "regression":
        return Regression(labels, tokenizer, max_length, settings, config)
    if name == "multilabel":
        return Multilabel(labels, tokenizer, max_length, settings, config)
    return Classification(labels, tokenizer, max_length, settings, config)
