"""Check an exported folder from outside: ``python -m pst.export.verify FOLDER ROWS PREDICTIONS``.

Run in a process of its own, so that nothing of the trainer's memory can help. The folder must

1. hold a compact model that reads back, sha256 and all, and equals model.safetensors bit for bit;
2. load in plain transformers, as the class that its config.json names, and answer ROWS (JSON lines, fields of
   :class:`pst.model.data.Row`) as the trainer did (PREDICTIONS, a safetensors file with the task's answers, its
   metadata says which task): the same answers, logits or losses within the tolerance;
3. answer the same from the compact model;
4. answer the same on the sparse engine where that has the model, in float32. How often its int8 gives the same answer
   is written beside the compact file, for the nodes that serve it (:class:`pst.native.model.Agreement`).

Tensors are read and compared one at a time. A folder that was published without model.safetensors has the class filled
from the compact model in 2. The check computes in float32 on the CPU, or where the trainer held its weights in fewer
bits, in the dtype of the published ones and where the trainer did: rounding differs between devices.

Prints one JSON object (``ok``, ``message``, ``rows``, ``max_difference``) and exits 0 or 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from pst_native import Precision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

import pst
from pst import tasks
from pst.config import TrainSettings, from_dict
from pst.errors import FormatError, PSTError
from pst.files.encodings import bits
from pst.files.formats import DENSE_FILE, SPARSE_FOLDER, Compact
from pst.files.shards import Files
from pst.messages import Message, recall, said
from pst.model.data import Encoded, Row
from pst.model.loading import CPU, TensorLocation, load_state, quiet, read_config
from pst.native.model import Agreement, NativeModel, available, int8, serves
from pst.native.modules import load_compact
from pst.plan.families import ModelDescription
from pst.tasks import Answers, Task

COMPACT_ROWS = 64
GENERATED_ROWS = 32  # writing a text takes a forward pass for each token
MAX_CONTEXT_TOKENS = 10**6  # transformers gives 10**30 where a tokenizer states no limit


def elsewhere(export: Path, at: Path, task: Task, rows: Sequence[Row], answers: Answers) -> dict[str, Any]:
    """Run :func:`check` on the folder ``export`` in another process, through files in the folder ``at``.

    ``answers`` are the trainer's to ``rows``. Raises :class:`PSTError` when the check objects.
    """
    rows = chosen(task, rows)
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    lines = [json.dumps({**asdict(row), "place": ""}) for row in rows]
    (at / "rows.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    about = {"name": task.name, "labels": list(task.labels), "settings": asdict(task.settings)}
    few = {name: tensor[: len(rows)].contiguous() for name, tensor in answers.items()}
    save_file(few, at / "predictions.safetensors", {"task": json.dumps(about)})
    source = str(Path(pst.__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pst.export.verify"]
    done = subprocess.run(
        [*command, str(export), str(at / "rows.jsonl"), str(at / "predictions.safetensors")],
        env=environment | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
    )
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"The verifier ended with {done.returncode}: {done.stderr.strip()[-2000:]}") from None
    if done.returncode or not result["ok"]:
        raise PSTError(
            Message("The exported model failed its check: {why}", why=recall(result["message"], result.get("said")))
        )
    return result


def chosen(task: Task, rows: Sequence[Row]) -> Sequence[Row]:
    """The rows that are checked."""
    return rows[:GENERATED_ROWS] if task.name == "generation" else rows


def check(folder: Path, rows_path: Path, predictions: Path) -> dict[str, Any]:
    """Run all three checks. Raises :class:`FormatError` with the reason when one fails."""
    compact = Compact(folder / SPARSE_FOLDER)
    try:
        wanted, about = _read_answers(predictions)
        rows = [_row(json.loads(line)) for line in rows_path.read_text("utf-8").splitlines() if line.strip()]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        settings = from_dict(about["settings"])
        if settings.dense_file:
            _compare(Files(folder / DENSE_FILE), compact)
        length = tokenizer.model_max_length
        if length > MAX_CONTEXT_TOKENS:
            raise FormatError(Message("The exported tokenizer does not say how long a text may be."))
        task = tasks.make(about["name"], about["labels"], tokenizer, length, settings, config)
        model = _model(folder, config, settings, task)
    except FormatError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise FormatError(Message("The exported folder can't be loaded: {error}", error=error)) from error
    if any(len(rows) != len(tensor) for tensor in wanted.values()):
        raise FormatError(
            Message("There are {rows} rows to predict, but other numbers of the trainer's predictions.", rows=len(rows))
        )

    encoded = task.encode(rows)
    difference = task.difference(task.predict(model, encoded), wanted, "transformers")
    load_state(model, compact, ModelDescription(config, about["name"]))
    few = encoded[:COMPACT_ROWS] if settings.frozen_weights == "float32" else encoded
    first = {name: tensor[: len(few)] for name, tensor in wanted.items()}
    task.difference(task.predict(model, few), first, Message("the compact model"))
    if settings.frozen_weights != "float32":  # the trainer's answers are rounded; the engine computes in float32
        model.to(CPU, torch.float32)  # type: ignore[arg-type]
        wanted = task.predict(model, encoded)
    if available() and serves(folder):
        _engine(folder, task, encoded, wanted)
    elif available():
        _maps(folder, task, few, wanted)
    return {"ok": True, "message": "The exported folder predicts as the trainer did.", "rows": len(rows)} | {
        "max_difference": difference
    }


def _engine(folder: Path, task: Task, rows: Sequence[Encoded], wanted: Answers) -> None:
    """The fourth check, where the engine has the model."""
    threads = torch.get_num_threads()
    exact = {"logits": NativeModel(folder, threads, frozenset({Precision.FLOAT32})).logits(rows)}
    task.difference(exact, wanted, Message("the sparse engine"))
    fast = {"logits": NativeModel(folder, threads, frozenset({Precision.INT8})).logits(rows)} if int8() else None
    if fast is not None:
        largest = float((fast["logits"] - exact["logits"]).abs().max())
        Agreement(len(rows), task.agreement(fast, exact), largest).write(folder)


def _maps(folder: Path, task: Task, rows: Sequence[Encoded], wanted: Answers) -> None:
    """The fourth check, where the engine has but the model's maps."""
    model, _ = load_compact(folder, ModelDescription(read_config(folder), task.name), packs=True)
    first = {name: tensor[: len(rows)] for name, tensor in wanted.items()}
    task.difference(task.predict(model, rows), first, Message("the model with sparse maps"))


def _read_answers(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The trainer's answers, and what their task was."""
    with safe_open(path, framework="pt") as file:
        about: dict[str, Any] = json.loads((file.metadata() or {})["task"])
    return load_file(path), about


def _row(value: dict[str, Any]) -> Row:
    label = value["label"]
    references = tuple(value["references"])
    return Row(value["text"], value["text_pair"], tuple(label) if isinstance(label, list) else label, references)


def _compare(dense: Files, compact: Compact) -> None:
    """Raise :class:`FormatError` unless both hold the same tensors, bit for bit."""
    if set(dense) != set(compact):
        raise FormatError(Message("The compact model and {file} hold different tensors.", file=DENSE_FILE))
    for name in compact:
        one, other = dense.tensor(name, CPU), compact[name]
        if one.dtype != other.dtype or not torch.equal(bits(one), bits(other)):
            raise FormatError(
                Message(
                    "The tensor {name} differs between the compact model and {file}.",
                    name=name,
                    file=DENSE_FILE,
                )
            )


def _model(folder: Path, config: dict[str, Any], settings: TrainSettings, task: Task) -> PreTrainedModel:
    """The exported model, as plain transformers loads it where it can."""
    wide = settings.frozen_weights == "float32"
    device = torch.device("cuda" if torch.cuda.is_available() and not wide else "cpu")
    if not settings.dense_file:
        return task.open(folder, settings.seed, TensorLocation(device, "float32" if wide else None)).finish()
    kind = getattr(transformers, config["architectures"][0])
    with quiet():
        model: PreTrainedModel = kind.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32 if wide else torch.bfloat16,
        )
    model.to(device)  # type: ignore[arg-type]
    return model


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m pst.export.verify FOLDER ROWS PREDICTIONS\n")
        return 2
    folder, rows, predictions = map(Path, arguments)
    try:
        result = check(folder, rows, predictions)
    except FormatError as error:
        result = {"ok": False, "message": str(error), "said": said(str(error))}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
