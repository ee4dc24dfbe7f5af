"""Texts of which a tokenizer leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from pst import tasks
from pst.config import TaskName, TrainSettings
from pst.errors import PSTError
from pst.model.data import Row
from pst.model.loading import read_config
from tests.pst.tiny import CONFIGS, DECODERS, TWO_STACKS, save_folder

EMPTY = ("", "   ", "\n\t", "\u3000")


def tokenizer(*, ends: bool) -> Any:
    """One that adds no special token to a text, or the end of the text alone, as encoder-decoders need it."""
    words = {"<unk>": 0, "<pad>": 1, "</s>": 2, "good": 3, "bad": 4}
    made = Tokenizer(WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    if ends:
        made.post_processor = TemplateProcessing("$A </s>", special_tokens=[("</s>", 2)])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, unk_token="<unk>", pad_token="<pad>", eos_token="</s>"
    )


GENERATORS = [name for name in CONFIGS if name in (*DECODERS, *TWO_STACKS)]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("name", GENERATORS)
def test_sources_without_tokens_are_learned_and_answered(name: str, ends: bool, tmp_path: Path) -> None:
    """Also by a tokenizer that knows no line break, which a decoder reads behind the source."""
    changes = {"decoder_start_token_id": 2} if name in TWO_STACKS else {}
    if "t5" in name:
        changes["num_decoder_layers"] = 2  # transformers' cache fails where the decoder is the deeper stack
    folder = save_folder(tmp_path, name, "generation", eos_token_id=2, pad_token_id=1, vocab_size=5, **changes)
    settings = TrainSettings(max_target_length=4)
    task = tasks.make("generation", [], tokenizer(ends=ends), 8, settings, read_config(folder))
    model = task.open(folder, 0).finish()
    rows = task.encode([Row(text, None, references=("good bad",)) for text in (*EMPTY, "good bad")])
    assert all(row.input_ids for row in rows)
    for some in (rows, rows[:1]):
        assert torch.isfinite(task.predict(model, some)["loss"]).all()
        assert len(task.answer(model, some)) == len(some)
        inputs, gold = task.collate(some)
        loss = task.loss(model(**inputs), gold, None, task.norm(gold))
        loss.backward()
        assert torch.isfinite(loss)


@pytest.mark.parametrize("target", ["", "  ", "\n\t", None])
def test_an_empty_target_is_named_by_its_line(target: str | None, tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "base", "t5", "generation", eos_token_id=2, pad_token_id=1)
    task = tasks.make("generation", [], tokenizer(ends=True), 8, TrainSettings(), read_config(folder))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"source": "good", "target": target}) + "\n")
    with pytest.raises(PSTError, match=r"rows.jsonl, line 1|rows.jsonl:1"):
        task.read(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel"])
@pytest.mark.parametrize("name", TWO_STACKS)
def test_an_end_of_text_within_a_text_is_passed_over(name: str, kind: TaskName, tmp_path: Path) -> None:
    """Where an encoder-decoder has a head it answers at the end of the text, and wants as many in every row."""
    folder = save_folder(tmp_path, name, kind, eos_token_id=2, pad_token_id=1)
    labels = [] if kind == "regression" else ["a", "b", "c"]
    arguments: Any = (8, TrainSettings(), read_config(folder))
    task = tasks.make(kind, labels, tokenizer(ends=True), *arguments)
    label = {"classification": 0, "regression": 0.5, "multilabel": (0,)}[kind]
    rows = task.encode([Row(text, None, label) for text in ("good </s> bad", "</s>", "good", "")])
    assert [row.input_ids for row in rows] == [[3, 4, 2], [2], [3, 2], [2]]
    assert torch.isfinite(task.predict(task.open(folder, 0).finish(), rows)["logits"]).all()
    with pytest.raises(PSTError, match="no end of text"):
        tasks.make(kind, labels, tokenizer(ends=False), *arguments)


@pytest.mark.parametrize("name", CONFIGS)
def test_texts_without_tokens_have_an_answer(name: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path, name, eos_token_id=2, pad_token_id=1)
    made = tokenizer(ends=name in TWO_STACKS)
    task = tasks.make("classification", ["a", "b"], made, 8, TrainSettings(), read_config(folder))
    model = task.open(folder, 0).finish()
    for texts in (EMPTY, EMPTY[:1], ("good bad good", *EMPTY)):
        rows = task.encode([Row(text, None, 0) for text in texts])
        assert all(row.input_ids for row in rows)
        assert torch.isfinite(task.predict(model, rows)["logits"]).all()
