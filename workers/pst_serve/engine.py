"""The engine: turns a version's folder into something that answers. Another engine is another :class:`Engine`.

:class:`ExpandingEngine` reads the compact sparse file, expands it to the dense matrices, and runs transformers on the
CPU or on a GPU that is there. A version without a compact file (a base model) is read from its safetensors weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pst_client.manifest import COMPACT


@dataclass(frozen=True)
class Input:
    """One text, or a pair of texts, to classify."""

    text: str
    text_pair: str | None = None


class LoadedModel(Protocol):
    @property
    def labels(self) -> Sequence[str]: ...

    def predict(self, inputs: Sequence[Input]) -> list[list[float]]:
        """Probabilities, one list per input in the order of :attr:`labels`. Called by one thread at a time."""


class Engine(Protocol):
    def load(self, folder: Path) -> LoadedModel:
        """Load a verified folder. Raises an exception whose message says what is wrong with it."""


class ExpandingEngine:
    """Expands the compact format at load time: the memory of the dense model, the download of the sparse one."""

    def load(self, folder: Path) -> LoadedModel:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        from pst.formats import read_sparse

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if (folder / COMPACT).is_dir():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
            # The files were just checked against the manifest; hashing the tensors once more would only cost time.
            model.load_state_dict(read_sparse(folder / COMPACT, verify=False))
        else:
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return _TorchModel(model.to(device).eval(), tokenizer, device)


class _TorchModel:
    def __init__(self, model, tokenizer, device) -> None:  # type: ignore[no-untyped-def]
        self._model, self._tokenizer, self._device = model, tokenizer, device
        names = model.config.id2label
        self.labels = tuple(str(names[index]) for index in sorted(names))
        # The export writes the length that training cut texts at; some base models write "no limit".
        self._max_length = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    def predict(self, inputs: Sequence[Input]) -> list[list[float]]:
        from pst.data import Encoded, Row, encode
        from pst.evaluate import predict

        encoded: list[Encoded | None] = [None] * len(inputs)
        # Requests share batches, and an empty second text is not the same as none.
        for paired in (False, True):
            places = [index for index, item in enumerate(inputs) if (item.text_pair is not None) == paired]
            if places:
                rows = [Row(inputs[index].text, inputs[index].text_pair, 0) for index in places]
                for index, row in zip(places, encode(self._tokenizer, rows, self._max_length), strict=True):
                    encoded[index] = row
        rows_in_order = [row for row in encoded if row is not None]
        logits = predict(self._model, rows_in_order, self._tokenizer.pad_token_id, self._device)
        probabilities: list[list[float]] = logits.softmax(-1).tolist()
        return probabilities
