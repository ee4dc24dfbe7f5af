"""Tiny random models that generate, with a tokenizer of whole words, and a toy task: say the words backwards."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import MBartTokenizer, PreTrainedTokenizerFast

from tests.pst.tiny import DECODERS, save_folder

WORDS = ["red", "green", "dog", "horse", "saw", "drill", "old", "new"]
VOCABULARY = ["<pad>", "</s>", "<unk>", "\n", *WORDS]


def write_generator(folder: Path, family: str) -> Path:
    return write_base(folder, family, "generation")


def write_base(folder: Path, family: str, task: str) -> Path:
    """A base model's folder. Its end of text is token 1, its padding 0."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(" ", "removed")
    if family == "qwen2":  # transformers takes a class of its own for it, which reads bytes whatever the file says
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        texts = [f"{one} {other}\n" for one in WORDS for other in WORDS]
        tokenizer.train_from_iterator(texts, BpeTrainer(special_tokens=VOCABULARY[:3], show_progress=False))
    size = tokenizer.get_vocab_size()
    changes: dict[str, Any] = {"vocab_size": size, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    if family.startswith("bart"):
        changes |= {"decoder_start_token_id": 1, "forced_eos_token_id": None}
    if family.startswith(("t5", "mt5")):
        changes["num_decoder_layers"] = 2  # transformers' cache fails where the decoder is the deeper stack
    save_folder(folder, family, task, **changes)
    if family not in DECODERS:
        tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=40,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def write_mbart(folder: Path) -> Path:
    """An mBART with the tokenizer of its own class, which writes English sources and Romanian targets; its config says
    nothing of where the decoder starts."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "en_XX", "ro_RO"]
    vocabulary = [(token, 0.0) for token in special] + [(f"\N{LOWER ONE EIGHTH BLOCK}{word}", -1.0) for word in WORDS]
    tokenizer = MBartTokenizer(vocab=vocabulary, src_lang="en_XX", tgt_lang="ro_RO", model_max_length=40)
    tokenizer.save_pretrained(folder)
    return save_folder(folder, "mbart", "generation", vocab_size=len(tokenizer), decoder_start_token_id=None)


def backwards(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words = [draw.choice(WORDS) for _ in range(draw.randint(1, 3))]
        rows.append({"source": " ".join(words), "target": " ".join(reversed(words))})
    return rows


def write_text_job(folder: Path, base: Path, *, target: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A job folder for the toy task; validation is split off by the library."""
    for name, count, seed in (("train", 60, 1), ("test", 12, 2)):
        path = folder / f"data/{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in backwards(count, seed)), "utf-8")
    quick = {
        "epochs": 3,
        "dense_epochs": 2,
        "batch_size": 16,
        "evaluations": 2,
        "update_rank": 4,
        "score_rank": 2,
        "max_target_length": 6,
        "max_length": 16,
        "dense_learning_rate": 3e-3,
        "learning_rate": 1e-2,
        "score_learning_rate": 1e-2,
    }
    spec = {
        "base_model": str(base),
        "task": "generation",
        "train": "data/train.jsonl",
        "test": "data/test.jsonl",
        "settings": {**quick, **settings},
        "target": target or {"sparsity": 0.5},
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    return folder
