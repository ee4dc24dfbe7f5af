"""Check an exported folder from outside: ``python -m pst.verify FOLDER ROWS PREDICTIONS``.

Run in a process of its own, so that nothing of the trainer's memory can help. The folder must

1. hold a compact model that reads back, sha256 and all, and equals model.safetensors bit for bit;
2. load in plain transformers and predict ROWS (JSON lines with text and text_pair) as the trainer did (PREDICTIONS, a
   safetensors file with ``logits`` (rows, labels)): the same label for every row, logits within the tolerance;
3. predict the same from the compact model.

Prints one JSON object (``ok``, ``message``, ``rows``, ``max_difference``) and exits 0 or 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pst.base import quiet
from pst.data import Row, encode
from pst.errors import FormatError
from pst.evaluate import predict
from pst.formats import DENSE_FILE, bits, read_sparse

TOLERANCE = 1e-3  # absolute and relative, on logits computed in float32
COMPACT_ROWS = 64
MOST_TOKENS = 10**6  # transformers gives 10**30 where a tokenizer states no limit


def check(folder: Path, rows_path: Path, predictions: Path) -> dict[str, Any]:
    """Run all three checks. Raises :class:`FormatError` with the reason when one fails."""
    state = read_sparse(folder / "sparse")
    try:
        dense = load_file(folder / DENSE_FILE)
        wanted = load_file(predictions)["logits"]
        lines = [json.loads(line) for line in rows_path.read_text("utf-8").splitlines() if line.strip()]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        rows = [Row(line["text"], line.get("text_pair"), 0) for line in lines]
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise FormatError(f"The exported folder can't be loaded: {error}") from error
    if dense.keys() != state.keys():
        raise FormatError(f"The compact model and {DENSE_FILE} hold different tensors.")
    for name, tensor in dense.items():
        if tensor.dtype != state[name].dtype or not torch.equal(bits(tensor), bits(state[name])):
            raise FormatError(f"The tensor {name} differs between the compact model and {DENSE_FILE}.")
    if len(rows) != len(wanted):
        raise FormatError(f"There are {len(rows)} rows to predict, but {len(wanted)} predictions of the trainer.")

    if tokenizer.model_max_length > MOST_TOKENS:
        raise FormatError("The exported tokenizer does not say how long a text may be.")
    encoded = encode(tokenizer, rows, tokenizer.model_max_length)
    pad, cpu = tokenizer.pad_token_id, torch.device("cpu")
    difference = compare(predict(model, encoded, pad, cpu), wanted, "transformers")
    model.load_state_dict(state)
    few = encoded[:COMPACT_ROWS]
    compare(predict(model, few, pad, cpu), wanted[: len(few)], "the compact model")
    return {"ok": True, "message": "The exported folder predicts as the trainer did.", "rows": len(rows)} | {
        "max_difference": difference
    }


def compare(got: Tensor, wanted: Tensor, who: str) -> float:
    """Largest absolute difference of logits (rows, labels). Raises :class:`FormatError` when they disagree."""
    if got.shape != wanted.shape:
        raise FormatError(f"{who} gives logits of shape {tuple(got.shape)}, the trainer {tuple(wanted.shape)}.")
    labels = int((got.argmax(-1) != wanted.argmax(-1)).sum())
    if labels:
        raise FormatError(f"{who} gives another label than the trainer for {labels} of {len(wanted)} rows.")
    difference = float((got - wanted).abs().max())
    if not torch.allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE):
        raise FormatError(f"{who} differs from the trainer by {difference:.3g} in a logit.")
    return difference


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m pst.verify FOLDER ROWS PREDICTIONS\n")
        return 2
    folder, rows, predictions = map(Path, arguments)
    try:
        result = check(folder, rows, predictions)
    except FormatError as error:
        result = {"ok": False, "message": str(error)}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
