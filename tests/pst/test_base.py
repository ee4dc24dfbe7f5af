"""Loading base models from folders, for every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

from pst.errors import PSTError
from pst.export.structured import shrink
from pst.model.loading import load_model, load_state, load_tokenizer, matched_specs, read_config, state_of
from pst.plan.families import ModelDescription
from tests.pst.tiny import CONFIGS, DECODERS, ENCODERS, TWO_STACKS, logits, save_folder, tiny


def tokenizer(folder: Path, **special: str) -> None:
    words = {"[UNK]": 0, "<end>": 1, "<pad>": 2, "word": 3}
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text('{"vocab_size": 4}')
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")), unk_token="[UNK]", **special
    ).save_pretrained(folder)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("task", ["classification", "regression", "multilabel", "generation"])
def test_every_family_loads_for_every_task_that_it_has(name: str, task: str, tmp_path: Path) -> None:
    saved = "generation" if name in (*DECODERS, *TWO_STACKS) else "classification"
    folder = save_folder(tmp_path, name, saved)
    labels = {"generation": [], "regression": ["score"]}.get(task, ["a", "b", "c", "d"])
    if task == "generation" and name in ENCODERS:
        (folder / "model.safetensors").unlink()  # told from config.json alone
        with pytest.raises(PSTError, match="has no head for generation"):
            load_model(folder, task, labels, 0)
        return
    model = load_model(folder, task, labels, 0)
    matched_specs(model, ModelDescription(read_config(folder), task, len(labels)))
    matched_specs(model, ModelDescription(model.config.to_dict(), task, len(labels)))
    assert next(model.parameters()).dtype == torch.float32
    held = load_file(folder / "model.safetensors")
    state = model.state_dict()
    bare = {key.removeprefix(f"{model.base_model_prefix}."): value for key, value in state.items()}
    same = [key for key, value in held.items() if torch.equal(bare.get(key, state.get(key, torch.empty(0))), value)]
    assert len(same) >= len(held) - 4  # but for the head of another task
    if task != "generation":
        assert model.config.num_labels == len(labels) and model.config.label2id == {
            label: index for index, label in enumerate(labels)
        }
        kinds = {"classification": "single_label_classification", "multilabel": "multi_label_classification"}
        assert model.config.problem_type == kinds.get(task, task)


@pytest.mark.parametrize("name", ["roberta", "gpt2", "t5"])
def test_the_head_is_drawn_from_the_seed(name: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path, name, "classification" if name in ENCODERS else "generation")
    (folder / "model.safetensors").rename(tmp_path / "all.safetensors")
    held = load_file(tmp_path / "all.safetensors")
    body = {key: value for key, value in held.items() if not key.startswith("classifier.")}
    save_file(body, folder / "model.safetensors", {"format": "pt"})
    states = [load_model(folder, "multilabel", ["a", "b"], seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    differing = {key for key, value in states[0].items() if not torch.equal(value, states[2][key])}
    head = {spec.name for spec in ModelDescription(read_config(folder), "multilabel", 2).tensors if spec.head}
    assert differing == {key for key in head if key.endswith("weight")}  # a new bias is zero


def test_a_tokenizer_without_padding_pads_with_the_end_of_the_text(tmp_path: Path) -> None:
    tokenizer(tmp_path, eos_token="<end>")
    assert load_tokenizer(tmp_path).pad_token_id == 1
    tokenizer(tmp_path, eos_token="<end>", pad_token="<pad>")
    assert load_tokenizer(tmp_path).pad_token_id == 2
    tokenizer(tmp_path)
    with pytest.raises(PSTError, match="neither a padding token nor an end of the text"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_a_decoder_without_padding_classifies_rows_of_different_length(name: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path, name, "generation", pad_token_id=None)
    tokenizer(folder, eos_token="<end>")
    model: Any = load_model(folder, "classification", ["a", "b"], 0)
    model.eval()
    assert model.config.pad_token_id == 1
    short, long = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 7, 1, 1]])
    mask = (long != 1).long()
    with torch.no_grad():
        alone = model(input_ids=short, attention_mask=torch.ones_like(short)).logits
        padded = model(input_ids=long, attention_mask=mask).logits
    torch.testing.assert_close(alone, padded, rtol=1e-5, atol=1e-5)


def test_a_t5_with_an_lm_head_of_its_own_keeps_it(tmp_path: Path) -> None:
    """T5 1.1, Flan-T5 and mT5: their config says that nothing is tied, the class says that everything is."""
    name = "t5-gated"
    folder = save_folder(tmp_path, name, "generation")
    held = load_file(folder / "model.safetensors")
    head = torch.randn(60, 32)
    save_file({**held, "lm_head.weight": head}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("scale_decoder_outputs")
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    model: Any = load_model(folder, "generation", [], 0)
    model.eval()
    assert torch.equal(model.lm_head.weight, head) and not model.config.scale_decoder_outputs
    for values in (read_config(folder), model.config.to_dict()):
        names = {spec.name for spec in matched_specs(model, ModelDescription(values, "generation", 0))}
        assert "lm_head.weight" in names and "encoder.embed_tokens.weight" not in names
    for part in (*model.encoder.block, *model.decoder.block):
        part.layer[-1].DenseReluDense.wo.weight.detach()[:, 5:9] = 0
    before = logits(model, "generation")
    small, messages = shrink(model, "generation")
    assert messages == ["4 of 48 neurons are removed from each layer of decoder.ffn and encoder.ffn."]
    torch.testing.assert_close(logits(small, "generation"), before, rtol=1e-5, atol=1e-5)
    state = state_of(small, ModelDescription(small.config.to_dict(), "generation"))
    assert "lm_head.weight" in state and "decoder.embed_tokens.weight" not in state
    written = tmp_path / "small"
    written.mkdir()
    save_file(
        {key: value.contiguous() for key, value in state.items()}, written / "model.safetensors", {"format": "pt"}
    )
    (written / "config.json").write_text(json.dumps(small.config.to_dict()))
    again: Any = T5ForConditionalGeneration.from_pretrained(written)
    again.eval()
    torch.testing.assert_close(logits(again, "generation"), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "t5", "bart"])
def test_a_state_without_repeated_tensors_can_be_put_back(name: str) -> None:
    source, target = tiny(name, "generation"), tiny(name, "generation")
    config = source.config.to_dict()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.mul_(2)
    load_state(target, state_of(source, ModelDescription(config, "generation")), ModelDescription(config, "generation"))
    assert torch.equal(logits(target, "generation"), logits(source, "generation"))
    state = state_of(source, ModelDescription(config, "generation"))
    state.pop(list(state)[-1])
    with pytest.raises(RuntimeError, match="Missing key"):
        load_state(target, state, ModelDescription(config, "generation"))


def broken(folder: Path, change: str) -> None:
    if change == "no weights":
        (folder / "model.safetensors").unlink()
    elif change == "a pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif change == "damaged":
        (folder / "model.safetensors").write_bytes(b"no safetensors")
    elif change == "foreign code":
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}
        (folder / "config.json").write_text(json.dumps(config))
    elif change == "no config":
        (folder / "config.json").unlink()


@pytest.mark.parametrize("change", ["no weights", "a pickle", "damaged", "foreign code", "no config"])
def test_a_folder_that_is_no_safe_model_is_refused(change: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path, "bert")
    broken(folder, change)
    with pytest.raises(PSTError, match=r"can't be loaded|no base model|is not supported|make a library load code"):
        load_model(folder, "classification", ["a", "b"], 0)


def test_another_architecture_than_the_config_says_is_refused() -> None:
    with pytest.raises(PSTError, match="the first that differs is"):
        matched_specs(tiny("bert"), ModelDescription({**CONFIGS["bert"], "intermediate_size": 40}, labels=3))


def test_a_tokenizer_of_sentencepiece_alone(tmp_path: Path) -> None:
    """As older mT5 and LLaMA folders have it: spiece.model, and no tokenizer.json."""
    import sentencepiece

    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"some words of row {number} and more of them" for number in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(words),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=40,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "pad_token": "<pad>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    folder = save_folder(tmp_path, "mt5", "generation", vocab_size=40)
    found = load_tokenizer(folder)
    ids = found("some words").input_ids
    assert (
        ids[-1] == found.eos_token_id == 1
        and len(ids) > 2
        and found.decode(ids, skip_special_tokens=True) == "some words"
    )
    model = load_model(folder, "classification", ["a", "b"], 0)
    batch = found(["some words", "more"], padding=True, return_tensors="pt")
    assert model(**batch).logits.shape == (2, 2)


def test_a_tokenizer_that_breaks_its_library_is_one_sentence(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, "bert")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PSTError, match="The base model's tokenizer can't be loaded"):
        load_tokenizer(folder)
