"""A published model, loaded to be asked: by ``pst.load``, by a serving node, by the verifier of a job.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pst.errors import PSTError
from pst.messages import Message

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pst.model.data import Row
    from pst.native.model import NativeModel
    from pst.tasks import Task

Answer = list[float] | str
"""Of one input. Classification: a probability for each label, which sum to 1; multilabel: a probability for each label;
regression: the number; generation: the text."""

SMALL_FILES = ("*.json", "*.txt", "*.model", "sparse/*")
"""What is fetched of a repository that has a compact model."""
LIKELY = 0.5


class BadInput(PSTError):
    """An input of which the tokenizer makes what the model does not have."""

    def __init__(self) -> None:
        super().__init__(
            Message(
                "The tokenizer of this version can't turn a text into tokens that the model has; leave that text out, "
                "or publish the model with its own tokenizer."
            )
        )


class Published:
    """A loaded model. ``task`` is one of :data:`pst.config.TaskName`, ``labels`` what its probabilities are of (none
    for generation), ``engine`` says in words what computes. Use it from one thread at a time."""

    task: str
    labels: tuple[str, ...]
    engine: str

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        """The answer to each row. Raises :class:`BadInput`."""
        raise NotImplementedError

    def predict(self, inputs: Sequence[str | tuple[str, str]], *, top_k: int | None = None) -> list[dict[str, Any]]:
        """For each text, or pair of texts, what a serving node answers: ``{"label", "score", "probabilities"}``, of a
        multilabel model a list as the label, ``{"score"}`` of a regression, ``{"text"}`` of a generator. ``top_k``: so
        many probabilities at most, the likeliest first. Raises :class:`BadInput`."""
        from pst.model.data import Row

        rows = [Row(item, None) if isinstance(item, str) else Row(*item) for item in inputs]
        return [prediction(self.task, self.labels, answer, top_k) for answer in self.answers(rows)]

    def generate(self, sources: Sequence[str]) -> list[str]:
        """The text that a generator writes for each source. Raises :class:`pst.errors.PSTError` for another task."""
        if self.task != "generation":
            raise PSTError(Message("A model for {task} writes no texts: ask it with predict.", task=self.task))
        return [str(item["text"]) for item in self.predict(sources)]


def prediction(task: str, labels: Sequence[str], answer: Answer, top_k: int | None) -> dict[str, Any]:
    """A generated text, a number, or labels with their probabilities, the likeliest first."""
    if isinstance(answer, str):
        return {"text": answer}
    if task == "regression":
        return {"score": answer[0]}
    ranked = sorted(zip(labels, answer, strict=True), key=lambda pair: -pair[1])
    if task == "multilabel":
        return {"label": [label for label, chance in ranked if chance > LIKELY], "probabilities": dict(ranked[:top_k])}
    label, score = ranked[0]
    return {"label": label, "score": score, "probabilities": dict(ranked[:top_k])}


def load(model: str | Path, *, revision: str | None = None) -> Published:
    """The published model in a folder, or of a repository of a Hub (``HF_ENDPOINT``, ``HF_TOKEN``), of which the
    compact model is fetched alone. It runs on a GPU that is there, else on the sparse CPU engine where that is built.

    Raises :class:`pst.errors.PSTError` for what can't be read, or fetched.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = _fetched(str(model), revision)
    elif revision is not None:
        raise PSTError(Message("{folder} is a folder, which has no revisions.", folder=folder))
    return open_folder(folder)


def _fetched(repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(SMALL_FILES)))
        if not (folder / "sparse").is_dir():
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[*SMALL_FILES, "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise PSTError(
            Message("There is no folder {name}, and no such model can be fetched: {error}", name=repo, error=error)
        ) from error
    return folder


def open_folder(folder: Path) -> Published:
    """The model of a folder, on the best engine of this machine."""
    import torch

    from pst.native.model import available, serves

    if torch.cuda.is_available():
        return on_torch(folder, torch.device("cuda"), packs=False)
    if not available():
        return on_torch(folder, torch.device("cpu"), packs=False)
    return on_engine(folder) if serves(folder) else on_torch(folder, torch.device("cpu"), packs=True)


def on_engine(folder: Path) -> Published:
    """The model as a whole on the sparse engine (:class:`pst.native.model.NativeModel`)."""
    from pst import machine
    from pst.native.model import NativeModel

    return _OnEngine(NativeModel(folder, machine.cpus()))


def on_torch(folder: Path, device: torch.device, *, packs: bool) -> Published:
    """The model on torch. ``packs``: its maps that keep few weights run on the sparse engine
    (:mod:`pst.native.modules`); others, or all, are expanded."""
    import torch
    from transformers import AutoConfig

    from pst import tasks
    from pst.config import TrainSettings
    from pst.files.formats import SPARSE_FOLDER
    from pst.model.loading import load_tokenizer, model_class, read_config
    from pst.native.modules import load_compact
    from pst.plan.families import FAMILIES, ModelDescription

    written = read_config(folder)
    name = tasks.name_of(written)
    described = ModelDescription(written, name)
    known, packed = written.get("model_type") in FAMILIES, 0
    if known:
        described.check()  # sizes beyond bounds, before a model of them is made
    tokenizer = load_tokenizer(folder)
    if (folder / SPARSE_FOLDER).is_dir():
        model, packed = load_compact(folder, described, packs=packs)
    else:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        kind = model_class(name, config.is_encoder_decoder)
        model = kind.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    # The export writes the length that training cut texts at; some base models write "no limit".
    most = described.max_tokens if known else model.config.max_position_embeddings
    settings = TrainSettings()
    if name == "generation":
        # What a version publishes (beams, penalties, a forced first token) holds; it is also told how long a text
        # may be, where it says nothing or counts the source too.
        published = model.generation_config
        published.max_new_tokens = published.max_new_tokens or min(settings.max_target_length, most // 2)
        published.max_length = None
        settings = TrainSettings(max_target_length=published.max_new_tokens)
    names: Any = model.config.id2label
    labels = [] if name == "generation" else [names[index] for index in sorted(names)]
    task = tasks.make(name, labels, tokenizer, min(tokenizer.model_max_length, most), settings, written)
    model.to(device)  # type: ignore[arg-type]
    model.eval()  # type: ignore[no-untyped-call]
    return _OnTorch(model, task, packed)


class _OnEngine(Published):
    def __init__(self, model: NativeModel) -> None:
        self._model = model
        self.task, self.labels = str(model.task.name), tuple(model.task.labels)
        self.engine = f"the sparse engine ({model.described})"

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        try:
            return list(self._model.predict(rows))
        except ValueError as error:  # the engine checks each token's number
            raise BadInput from error


class _OnTorch(Published):
    def __init__(self, model: PreTrainedModel, task: Task, packed: int) -> None:
        self._model, self._task = model, task
        self.task, self.labels = str(task.name), tuple(task.labels)
        self.engine = f"torch, with {packed} sparse maps" if packed else "torch, expanded"
        embeddings: Any = model.get_input_embeddings()
        self._tokens: int = embeddings.weight.shape[0]

    def answers(self, rows: Sequence[Row]) -> list[Answer]:
        from pst import tasks

        encoded = tasks.encode_each(self._task, rows)
        if max((token for row in encoded for token in row.input_ids), default=0) >= self._tokens:
            raise BadInput  # on a GPU such a number ends the whole process
        return list(self._task.answer(self._model, encoded))
