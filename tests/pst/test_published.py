"""A whole job with every way of making the published model smaller at once."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pst.files.formats import expand
from pst.model.data import Row
from pst.native.inference import on_torch
from pst.pipeline import run
from tests.pst.conftest import LABELS, toy_rows, write_base, write_job


def test_two_of_four_int8_narrow_embeddings_and_a_trimmed_vocabulary(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", unused=["never", "said", "##ing"])
    folder = write_job(
        tmp_path / "job",
        base,
        target={"sparsity": 0.5},
        epochs=2,
        dense_epochs=1,
        evaluations=2,
        structure="2:4",
        quantize=True,
        embedding_storage="int8",
        storage_dtype="bfloat16",
        trim_vocabulary=True,
    )
    report = run(folder, emit=lambda event: None, should_stop=lambda: False, quick=True)
    export = folder / "export"

    pruned = {matrix["name"]: matrix for matrix in report["sparsity"]["matrices"]}
    assert 0.5 <= report["sparsity"]["reached"] < 0.52  # a few more weights are zero in 8 bits
    index = json.loads((export / "sparse/index.json").read_text())
    assert index["version"] == 2
    for name, entry in index["tensors"].items():
        wanted = "int8" if name in pruned or "_embeddings" in name else None
        assert entry.get("stored") == wanted, name
        if name in pruned:
            assert entry["encoding"] in ("nm_2_4", "bitmask")  # the bitmask is smaller where a weight more is zero
            assert entry["bytes"] < entry["dense_bytes"] / 2
    state = load_file(export / "model.safetensors")
    for name, matrix in pruned.items():
        assert int((state[name] != 0).sum()) == matrix["nonzeros"]
        assert int((state[name].reshape(-1, 4) != 0).sum(1).max()) <= 2

    tokenizer = AutoTokenizer.from_pretrained(export)
    before = AutoTokenizer.from_pretrained(base)
    assert len(tokenizer) == len(state["bert.embeddings.word_embeddings.weight"]) == len(before) - 3
    assert {"never", "said", "##ing"}.isdisjoint(tokenizer.get_vocab())

    rows = toy_rows(30, 2)  # the job's test rows
    texts = [row["text"] for row in rows]
    model = AutoModelForSequenceClassification.from_pretrained(export, dtype=torch.float32).eval()
    with torch.no_grad():
        wanted_probabilities = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(-1)
    right = [LABELS[place] == row["label"] for place, row in zip(wanted_probabilities.argmax(-1), rows, strict=True)]
    assert report["metrics"]["test"]["accuracy"] == sum(right) / len(right)  # of what is published
    content = (export / "model.safetensors").read_bytes()
    (export / "model.safetensors").unlink()
    served = on_torch(export, torch.device("cpu"), packs=False)
    assert list(served.labels) == LABELS
    got = torch.tensor(served.answers([Row(text, None) for text in texts]))
    torch.testing.assert_close(got, wanted_probabilities, rtol=1e-4, atol=1e-5)
    assert expand(export).read_bytes() == content
