"""A tiny BERT with random weights and a WordPiece vocabulary over the sample data: trains in seconds."""

from __future__ import annotations

import csv
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[2] / "platform/hub/datasets/samples/support_desk/train.csv"
with SAMPLE.open(newline="", encoding="utf-8") as _file:
    _KEPT = {"track_order", "reset_password", "invoice_request"}
    ROWS = [(row["text"], row["intent"]) for row in csv.DictReader(_file) if row["intent"] in _KEPT]


def write_rows(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "intent"), *ROWS])
    return path


def write_model(folder: Path) -> Path:
    """Save model and tokenizer to ``folder``: config.json, model.safetensors, tokenizer.json, tokenizer_config.json."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        [text for text, _ in ROWS], trainers.WordPieceTrainer(vocab_size=800, special_tokens=special)
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder
