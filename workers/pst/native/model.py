"""A version's folder on the sparse CPU engine: texts in, answers out.

Which precision the engine may compute in is the job's word: it let the engine answer the validation rows in int8 and
in float32, and wrote down how often both agree (:class:`Agreement`). Without that word the engine computes in float32.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pst_native
import torch
from pst_native import Form, Precision
from torch import Tensor

from pst import tasks
from pst.config import TrainSettings
from pst.files.formats import SPARSE_FOLDER, Compact
from pst.model.data import Encoded, Row
from pst.model.loading import load_tokenizer, read_config
from pst.native.choice import Chooser
from pst.native.encoders import NativeEncoder
from pst.plan import engine
from pst.plan.families import ModelDescription

ENGINE_FILE = "engine.json"
MIN_AGREEMENT = 0.995
"""Share of the rows for which int8 gives float32's answer, from which on int8 is used."""
MIN_ROWS = 20
BATCH_TOKENS = 1024
"""Tokens of one run, or those of one text: more only take memory."""


@dataclass(frozen=True)
class Agreement:
    """How often int8 products give the answer of float32's: on how many rows, their share (for numbers the
    correlation), and the largest difference of a logit."""

    rows: int
    share: float
    difference: float

    @property
    def holds(self) -> bool:
        return self.rows >= MIN_ROWS and self.share >= MIN_AGREEMENT

    def write(self, folder: Path) -> None:
        """Beside the compact file of a version's ``folder``."""
        path = folder / SPARSE_FOLDER / ENGINE_FILE
        path.write_text(json.dumps({"int8": asdict(self)}, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path) -> Agreement | None:
        """What a job wrote; None where none did, or not so."""
        try:
            found = json.loads((folder / SPARSE_FOLDER / ENGINE_FILE).read_text("utf-8"))["int8"]
            return cls(int(found["rows"]), float(found["share"]), float(found["difference"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def available() -> bool:
    """Whether the engine's library is built and loads."""
    try:
        pst_native.library()
    except pst_native.Unavailable:
        return False
    return True


def int8() -> bool:
    """Whether this processor has int8 products."""
    return any(pst_native.has(form, Precision.INT8) for form in Form)


def serves(folder: Path) -> bool:
    """Whether the engine has the model of this folder: a compact file, a family and a task that it knows."""
    config = read_config(folder)
    return (folder / SPARSE_FOLDER).is_dir() and tasks.name_of(config) != "generation" and engine.has_config(config)


def allowed(folder: Path) -> frozenset[Precision]:
    """The precisions that a node may choose from for this folder's model, as the job found."""
    found = Agreement.read(folder)
    return frozenset({Precision.FLOAT32, Precision.INT8} if found and found.holds else {Precision.FLOAT32})


class NativeModel:
    """The classifier, scorer or tagger in ``folder``, with ``threads``. ``precisions``: which the engine may choose
    from, None: as the job found. Raises as :class:`pst.native.encoders.NativeEncoder`, and
    :class:`pst.errors.PSTError` for a folder without a tokenizer."""

    def __init__(
        self,
        folder: Path,
        threads: int,
        precisions: frozenset[Precision] | None = None,
    ) -> None:
        config = read_config(folder)
        name = tasks.name_of(config)
        names: Mapping[str, str] = config["id2label"]
        labels = [names[index] for index in sorted(names, key=int)]
        description = ModelDescription(config, name, len(labels))
        description.check()  # sizes beyond bounds, before memory is taken for them
        tokenizer = load_tokenizer(folder)
        length = min(tokenizer.model_max_length, description.max_tokens)
        self.task = tasks.make(name, labels, tokenizer, length, TrainSettings(), config)
        self.threads = threads
        chooser = Chooser(allowed(folder) if precisions is None else precisions, threads)
        # The files of a version are checked against its manifest; hashing the tensors once more would only cost time.
        self.encoder = NativeEncoder(description, Compact(folder / SPARSE_FOLDER, check=False), chooser)

    @property
    def described(self) -> str:
        """The instructions, and how many weights have which layout."""
        layouts = Counter(
            f"{weight.form.name.lower()} {weight.precision.name.lower()}" for weight in self.encoder.weights.values()
        )
        return f"{pst_native.in_use()}: " + ", ".join(f"{count} {layout}" for layout, count in layouts.most_common())

    def logits(self, rows: Sequence[Encoded]) -> Tensor:
        """(rows, labels) float32."""
        result = torch.empty(len(rows), self.encoder.labels)
        for batch in _batches([len(row.input_ids) for row in rows]):
            chosen = [rows[index] for index in batch]
            kinds = [row.token_type_ids for row in chosen]
            types = [kind for kind in kinds if kind is not None]
            result[torch.tensor(batch)] = self.encoder.logits(
                [row.input_ids for row in chosen], types if len(types) == len(kinds) else None, self.threads
            )
        return result

    def predict(self, rows: Sequence[Row]) -> list[list[float]]:
        """For each row a probability for each label; of a regression the number."""
        encoded = tasks.encode_each(self.task, rows)
        return list(self.task.chances(self.logits(encoded)).tolist()) if rows else []  # type: ignore[attr-defined]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers of each run, by length."""
    batches: list[list[int]] = []
    left = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if lengths[row] > left:
            batches.append([])
            left = BATCH_TOKENS
        batches[-1].append(row)
        left -= lengths[row]
    return batches
