"""Texts of which a tokenizer leaves nothing."""

from __future__ import annotations

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
from pst.config import TrainSettings
from pst.model.data import Row
from pst.model.loading import read_config
from tests.pst.tiny import CONFIGS, TWO_STACKS, save_folder

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
