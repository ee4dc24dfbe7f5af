"""Trimmed vocabularies, with real tokenizers of each kind: the same tokens, the same logits, any text still splits."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from pst.errors import PSTError
from pst.model.data import Encoded
from pst.model.loading import load_model, load_tokenizer, read_config
from pst.model.vocabulary import Vocabulary, trim
from tests.pst.conftest import LABELS, toy_rows

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "sphinx of black quartz, judge my vow",
    "how quickly daft jumping zebras vex the jumpers",
    "Ärger über Öl: naïve café, 東京 and 12 more",
    string.ascii_letters + string.digits,
] * 3
ROWS = CORPUS[:2]
STRANGE = "jugs VEXED!? ŝtrange 東 quartzbox"


def encoded(tokenizer: Any, texts: list[str]) -> list[Encoded]:
    return [Encoded(ids, None) for ids in tokenizer(texts)["input_ids"]]


def logits(model: PreTrainedModel, rows: list[Encoded]) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        return [model(input_ids=torch.tensor([row.input_ids])).logits[0] for row in rows]


def bpe() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=special)
    )
    tokenizer.add_special_tokens(["<|end|>"])  # its id is the highest, and moves
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A <|end|>", special_tokens=[("<s>", 1), ("<|end|>", tokenizer.token_to_id("<|end|>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|end|>", bos_token="<s>", model_max_length=40
    )


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def trimmed(base: Path, texts: list[str], task: str, into: Path) -> tuple[Any, Any, Vocabulary]:
    """(the old tokenizer, the new one, what was kept), after the check that a job makes."""
    before = load_tokenizer(base)
    rows = encoded(before, texts)
    vocabulary = trim(base, rows, task, [] if task == "generation" else LABELS, 0, into)
    after = load_tokenizer(into)
    vocabulary.check(rows, encoded(after, texts))
    return before, after, vocabulary


def test_minilm_keeps_its_logits_with_a_tenth_of_its_tokens(minilm: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in toy_rows(30, 3)] + CORPUS
    before, after, vocabulary = trimmed(minilm, texts, "classification", tmp_path / "base")
    config = read_config(tmp_path / "base")
    assert config["vocab_size"] == len(vocabulary.kept) == len(after) < len(before) / 8
    old = load_model(minilm, "classification", LABELS, 0)
    new = load_model(tmp_path / "base", "classification", LABELS, 0)
    wanted, got = logits(old, encoded(before, texts)), logits(new, encoded(after, texts))
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    text = after.decode(after(STRANGE)["input_ids"], skip_special_tokens=True)
    assert text.replace(" ", "") == "jugsvexed!?strange東quartzbox"
    assert after.unk_token_id not in after(STRANGE)["input_ids"]
    padded = after(["a", "the fox"], padding=True)["input_ids"]
    assert padded[0][-1] == after.pad_token_id == config["pad_token_id"] == 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "bart"])
def test_bpe_of_generators(family: str, tmp_path: Path) -> None:
    tokenizer = bpe()
    end = tokenizer.eos_token_id
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": end}
    size = len(tokenizer) + 5  # the table is padded, as T5's is
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model: PreTrainedModel
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=40, **ids))
    elif family == "llama":  # an LM head of its own
        model = LlamaForCausalLM(LlamaConfig(vocab_size=size, max_position_embeddings=40, **small, **ids))
    else:
        sides = {
            f"{side}_{name}": number
            for side in ("encoder", "decoder")
            for name, number in (("layers", 1), ("ffn_dim", 24), ("attention_heads", 2))
        }
        start = {"decoder_start_token_id": end, "forced_eos_token_id": end}
        config = BartConfig(vocab_size=size, d_model=16, max_position_embeddings=60, **sides, **ids, **start)
        model = BartForConditionalGeneration(config)
        model.final_logits_bias.normal_()
    model.save_pretrained(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "old")
    before, after, vocabulary = trimmed(tmp_path / "old", ROWS, "generation", tmp_path / "new")
    assert len(after) == len(vocabulary.kept) < len(before) - 30
    assert after.eos_token == before.eos_token and after.eos_token_id == len(after) - 1

    old, new = (load_model(tmp_path / name, "generation", [], 0) for name in ("old", "new"))
    wanted, got = logits(old, encoded(before, ROWS)), logits(new, encoded(after, ROWS))
    assert all(torch.equal(a, b[:, list(vocabulary.kept)]) for a, b in zip(got, wanted, strict=True))
    assert new.generation_config.eos_token_id == new.config.eos_token_id == after.eos_token_id
    assert getattr(new.config, "decoder_start_token_id", None) in (None, after.eos_token_id)
    text = STRANGE + " ünd €"  # nothing in it was in the rows
    assert after.decode(after(text)["input_ids"], skip_special_tokens=True) == text
    if family == "gpt2":  # plain transformers
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
        assert again.lm_head.weight is again.transformer.wte.weight
        AutoTokenizer.from_pretrained(tmp_path / "new")


def test_unigram_of_a_family_that_counts_positions_from_its_padding(tmp_path: Path) -> None:
    tokenizer = unigram()
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=80, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "old")
    before, after, vocabulary = trimmed(tmp_path / "old", ROWS, "classification", tmp_path / "new")
    assert len(after) == len(vocabulary.kept) < len(before)
    old, new = (load_model(tmp_path / name, "classification", LABELS, 0) for name in ("old", "new"))
    assert new.config.pad_token_id == 1
    wanted, got = logits(old, encoded(before, ROWS)), logits(new, encoded(after, ROWS))
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    for text in ("zebra vex", "☃ snow"):  # known characters stay known, unknown ones unknown
        assert (before.unk_token_id in before(text)["input_ids"]) == (after.unk_token_id in after(text)["input_ids"])


def save_with(tokenizer: Tokenizer, base: Path, folder: Path) -> Path:
    """The toy base model with another tokenizer."""
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


def test_a_kind_that_is_not_known_is_refused_in_one_sentence(base: Path, tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2}, unk_token="[UNK]"))
    folder = save_with(words, base, tmp_path / "words")
    with pytest.raises(PSTError, match="kind WordLevel"):
        trim(folder, [Encoded([2], None)], "classification", LABELS, 0, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_added_tokens_without_an_embedding_are_refused(base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]})
    folder = save_with(tokenizer.backend_tokenizer, base, tmp_path / "more")
    with pytest.raises(PSTError, match="The tokenizer has 28 tokens, but the model has 27 embeddings"):
        trim(folder, [Encoded([2], None)], "classification", LABELS, 0, tmp_path / "new")


def test_a_tokenizer_that_splits_otherwise_is_found() -> None:
    vocabulary = Vocabulary((0, 2, 5))
    vocabulary.check([Encoded([5, 2], None, target=(0,))], [Encoded([2, 1], None, target=(0,))])
    with pytest.raises(PSTError, match="splits some rows differently"):
        vocabulary.check([Encoded([5, 2], None)], [Encoded([2, 0], None)])


def test_trimming_twice_changes_nothing(base: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in toy_rows(3, 3)]
    trimmed(base, texts, "classification", tmp_path / "once")
    _, _, vocabulary = trimmed(tmp_path / "once", texts, "classification", tmp_path / "twice")
    assert list(vocabulary.kept) == list(range(len(vocabulary.kept)))
    files = [json.loads((tmp_path / name / "tokenizer.json").read_text()) for name in ("once", "twice")]
    assert files[0] == files[1]
