"""A tiny random BERT with a real WordPiece tokenizer, a toy task, and where a real MiniLM may lie."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

LABELS = ["colour", "animal", "tool"]
WORDS = {
    "colour": ["red", "green", "blue", "grey"],
    "animal": ["dog", "horse", "trout", "wren"],
    "tool": ["saw", "hammer", "drill", "file"],
}
FILLERS = ["the", "a", "my", "this", "near", "is", "was", "here", "old", "new"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def write_base(folder: Path, *, unused: Sequence[str] = (), **changes: Any) -> Path:
    """Save a random two-layer BERT with its tokenizer; ``unused`` are tokens that no toy row has."""
    words = SPECIAL + FILLERS + [word for group in WORDS.values() for word in group] + list(unused)
    tokenizer = Tokenizer(WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=len(words), max_position_embeddings=32, initializer_range=0.2, **{**sizes, **changes}
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def toy_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Sentences of filler words in which one word tells the label."""
    draw = random.Random(seed)
    rows = []
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        words = [draw.choice(FILLERS) for _ in range(draw.randint(1, 5))] + [draw.choice(WORDS[label])]
        draw.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


QUICK = {
    "epochs": 8,
    "dense_epochs": 3,
    "batch_size": 16,
    "dense_learning_rate": 3e-3,
    "learning_rate": 1e-2,
    "score_learning_rate": 1e-2,
    "head_learning_rate": 1e-2,
    "evaluations": 6,
    "update_rank": 4,
    "score_rank": 2,
}


def write_job(folder: Path, base: Path, *, target: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A job folder for the toy task: 96 training and 30 test rows, validation split off by the library."""
    write_rows(folder / "data/train.jsonl", toy_rows(96, 1))
    write_rows(folder / "data/test.jsonl", toy_rows(30, 2))
    spec = {
        "base_model": str(base),
        "task": "classification",
        "labels": LABELS,
        "train": "data/train.jsonl",
        "validation": None,
        "test": "data/test.jsonl",
        "settings": {**QUICK, **settings},
        "target": target or {"sparsity": 0.9},
        "plan": None,
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    folder = os.environ.get("SPARSEWRIGHT_MINILM")
    if not folder:
        pytest.skip("SPARSEWRIGHT_MINILM does not name the folder of a MiniLM-L6 base model")
    return Path(folder)
