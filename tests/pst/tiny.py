"""A tiny random model of every family, built from the real transformers class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

ENCODER = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
}
LLAMA = {
    "vocab_size": 60,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "bos_token_id": 3,
}
T5 = {
    "vocab_size": 60,
    "d_model": 32,
    "d_kv": 6,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
}
BART = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 60,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 40,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "bos_token_id": 2,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", **ENCODER, "type_vocab_size": 2},
    "roberta": {"model_type": "roberta", **ENCODER, "type_vocab_size": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", **ENCODER, "type_vocab_size": 1},
    "camembert": {"model_type": "camembert", **ENCODER, "type_vocab_size": 1},
    "mpnet": {"model_type": "mpnet", **ENCODER},
    "electra": {"model_type": "electra", **ENCODER, "embedding_size": 16},
    "electra-wide": {"model_type": "electra", **ENCODER, "embedding_size": 32},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 60,
        "dim": 32,
        "hidden_dim": 48,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 40,
        "pad_token_id": 1,
    },
    "gpt2": {"model_type": "gpt2", **GPT2, "n_inner": None},
    "gpt2-narrow": {"model_type": "gpt2", **GPT2, "n_inner": 24, "tie_word_embeddings": False},
    "llama": {"model_type": "llama", **LLAMA},
    "llama-tied": {"model_type": "llama", **LLAMA, "tie_word_embeddings": True, "head_dim": 6},
    "llama-biased": {"model_type": "llama", **LLAMA, "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", **LLAMA},
    "qwen2": {"model_type": "qwen2", **LLAMA, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", **LLAMA, "head_dim": 6},
    "t5": {"model_type": "t5", **T5},
    "t5-gated": {"model_type": "t5", **T5, "feed_forward_proj": "gated-gelu"},
    "mt5": {"model_type": "mt5", **T5},
    "bart": {"model_type": "bart", **BART},
    "bart-untied": {"model_type": "bart", **BART, "tie_word_embeddings": False},
    "mbart": {"model_type": "mbart", **BART},
}
ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "electra", "electra-wide", "distilbert")
DECODERS = ("gpt2", "gpt2-narrow", "llama", "llama-tied", "llama-biased", "mistral", "qwen2", "qwen3")
TWO_STACKS = ("t5", "t5-gated", "mt5", "bart", "bart-untied", "mbart")


def tiny(name: str, task: str = "classification", labels: int = 3, **changes: Any) -> Any:
    """The model with random weights, biases and norms, in eval mode."""
    values = {**CONFIGS[name], **changes}
    config = AutoConfig.for_model(values.pop("model_type"), num_labels=labels, **values)
    torch.manual_seed(0)
    if task != "generation":
        model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    elif config.is_encoder_decoder:
        model = AutoModelForSeq2SeqLM.from_config(config)  # type: ignore[no-untyped-call]
    else:
        model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


def tokens(rows: int = 3, length: int = 7) -> dict[str, torch.Tensor]:
    """Inputs that every family takes; the last token is the end of the text, as BART and T5 need it."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 60, (rows, length), generator=draw)
    ids[:, -1] = 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def logits(model: Any, task: str = "classification") -> torch.Tensor:
    """Logits of the model for :func:`tokens`."""
    inputs = tokens()
    if model.config.is_encoder_decoder and task == "generation":
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :4]
    if model.config.model_type in ("t5", "mt5"):
        inputs["input_ids"][:, -1] = 1  # their end of the text
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


def save_folder(folder: Path, name: str, task: str = "classification", **changes: Any) -> Path:
    """A base model's folder: config.json and model.safetensors."""
    tiny(name, task, **changes).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["model_type"] == CONFIGS[name]["model_type"]
    return folder
