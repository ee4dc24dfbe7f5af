"""Trim a vocabulary: a copy of a base model without the tokens that no row uses.

The copy is an ordinary base model with a smaller embedding table and a rewritten tokenizer.json; it splits every row
into the same tokens and computes the same logits. Tokens keep their order. What stays besides the used tokens:

    special and added tokens, the first four (where padding lies, from which some families count positions), and those
    that config.json names
    every single character or byte, so that any text can still be split
    BPE      for each token the tokens from which it is merged; merges that make a dropped token go
    Unigram  the piece with the least score, which sets the score of an unknown character

Why rows are split as before: WordPiece takes the longest piece that fits, and the longest is still there. Unigram takes
the best path, and the best one is still there. BPE applies the first merge that fits; each merge that a row needed is
still there, in the same order, and none was added.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pst.errors import PSTError
from pst.messages import Message
from pst.model.data import Encoded
from pst.model.loading import load_model, load_tokenizer, quiet, read_config

FIRST_TOKENS = 4
ID_LISTS = ("suppress_tokens", "begin_suppress_tokens")
"""Entries of generation_config.json that hold token ids under a name that does not say so."""
NESTED_IDS = ("bad_words_ids", "force_words_ids", "forced_decoder_ids", "sequence_bias")
"""Entries of generation_config.json that hold token ids in a form of their own."""


@dataclass(frozen=True)
class Vocabulary:
    """``kept``: the old ids that stay, rising; a token's new id is its place."""

    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_new", {old: new for new, old in enumerate(self.kept)})

    def new(self, old: int) -> int:
        """The new id. Raises KeyError for a token that was dropped."""
        mapping: dict[int, int] = self.__dict__["_new"]
        return mapping[old]

    def holds(self, old: int) -> bool:
        return old in self.__dict__["_new"]

    def check(self, before: Iterable[Encoded], after: Iterable[Encoded]) -> None:
        """Raise :class:`PSTError` unless the trimmed tokenizer splits the same rows into the same tokens."""
        for old, new in zip(before, after, strict=True):
            if [self.new(token) for token in (*old.input_ids, *old.target)] != [*new.input_ids, *new.target]:
                raise PSTError(
                    Message(
                        "The vocabulary can't be trimmed safely: the base model's tokenizer splits some "
                        "rows differently without the tokens that no row uses. Leave trim_vocabulary off."
                    )
                )


def trim(base: Path, rows: Iterable[Encoded], task: str, labels: Sequence[str], seed: int, into: Path) -> Vocabulary:
    """Write the trimmed copy of ``base`` as the folder ``into``, which is replaced. ``rows``: those of all splits.

    Raises :class:`PSTError` where the tokenizer is of a kind that can't be trimmed.
    """
    partial = into.with_name(into.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    load_tokenizer(base).save_pretrained(partial)
    path = partial / "tokenizer.json"
    if not path.is_file():
        raise PSTError(
            Message("The tokenizer in {base} has no tokenizer.json: its vocabulary can't be trimmed.", base=base)
        )
    content = json.loads(path.read_text("utf-8"))
    config = read_config(base)
    used = {token for row in rows for token in (*row.input_ids, *row.target)}
    used |= {token for name, value in config.items() if name.endswith("_token_id") for token in _ids(value)}
    vocabulary = _rewrite(content, used, int(config["vocab_size"]))
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    with quiet():
        model = load_model(base, task, labels, seed)
        shrink(model, vocabulary)
        model.save_pretrained(partial)
    _rewrite_ids(partial / "tokenizer_config.json", vocabulary)
    _rewrite_ids(partial / "config.json", vocabulary)
    if (partial / "generation_config.json").is_file():
        _rewrite_ids(partial / "generation_config.json", vocabulary)
    shutil.rmtree(into, ignore_errors=True)
    partial.rename(into)
    return vocabulary


@torch.no_grad()
def shrink(model: PreTrainedModel, vocabulary: Vocabulary) -> None:
    """Keep only the rows of the kept tokens in the embedding table and, where there is one, the LM head; in place."""
    rows = torch.tensor(vocabulary.kept)
    count = len(rows)
    tables: list[nn.Module] = [model.get_input_embeddings()]
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is not None and head.weight is not tables[0].weight:
        tables.append(head)
    for table in tables:
        weight = table.weight
        assert isinstance(weight, torch.Tensor)  # noqa: S101
        weight[:count] = weight[rows]
    for bias in (getattr(head, "bias", None), getattr(model, "final_logits_bias", None)):
        if bias is not None:
            bias[..., :count] = bias[..., rows]
    model.resize_token_embeddings(count, mean_resizing=False)


def _ids(value: Any) -> list[int]:
    """The token ids in a config's entry: one, several, or none."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool)]


def _rewrite(content: dict[str, Any], used: set[int], table: int) -> Vocabulary:
    """Drop from the content of a tokenizer.json, in place, what is not needed for the ``used`` ids. ``table``: rows of
    the embedding table, of which a tokenizer need not use all."""
    model = content["model"]
    trimmer = TRIMMERS.get(model["type"])
    if trimmer is None:
        raise PSTError(
            Message(
                "The vocabulary can't be trimmed: the base model's tokenizer is of the kind "
                "{kind}, and only {known} are known. Leave trim_vocabulary off.",
                kind=model["type"],
                known=", ".join(TRIMMERS),
            )
        )
    added = {token["id"] for token in content["added_tokens"]}
    ids = _tokens(model)
    first = {token for token in range(FIRST_TOKENS) if token in ids.values()}
    short = {token for piece, token in ids.items() if _is_single(piece, model)}
    wanted = {token for token in used | added | first | short if 0 <= token < table}
    vocabulary = trimmer(model, wanted)
    for token in content["added_tokens"]:
        token["id"] = vocabulary.new(token["id"])
    if content.get("padding"):
        content["padding"]["pad_id"] = vocabulary.new(content["padding"]["pad_id"])
    _rewrite_processor(content.get("post_processor"), vocabulary)
    return vocabulary


def _tokens(model: Mapping[str, Any]) -> dict[str, int]:
    if model["type"] == "Unigram":
        return {piece: token for token, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _is_single(piece: str, model: Mapping[str, Any]) -> bool:
    """One character, or one byte as it is written in byte fallback."""
    bare = piece.removeprefix(model.get("continuing_subword_prefix") or "")
    bare = bare.removesuffix(model.get("end_of_word_suffix") or "")
    return len(bare) <= 1 or (len(bare) == 6 and bare.startswith("<0x") and bare.endswith(">"))


def _trim_word_pieces(model: dict[str, Any], wanted: set[int]) -> Vocabulary:
    wanted = wanted | {model["vocab"][model["unk_token"]]}
    return _renumber(model, wanted)


def _trim_bpe(model: dict[str, Any], wanted: set[int]) -> Vocabulary:
    vocab, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
    made_from: dict[str, list[tuple[str, str]]] = {}
    for left, right in model["merges"]:
        made_from.setdefault(left + right.removeprefix(prefix), []).append((left, right))
    if model.get("unk_token") is not None:
        wanted = wanted | {vocab[model["unk_token"]]}
    pieces = {piece for piece, token in vocab.items() if token in wanted}
    open_ = list(pieces)
    while open_:
        for piece in (part for merge in made_from.get(open_.pop(), ()) for part in merge):
            if piece not in pieces:
                pieces.add(piece)
                open_.append(piece)
    model["merges"] = [
        (left, right)
        for left, right in model["merges"]
        if left in pieces and right in pieces and left + right.removeprefix(prefix) in pieces
    ]
    return _renumber(model, wanted | {vocab[piece] for piece in pieces})


def _renumber(model: dict[str, Any], wanted: set[int]) -> Vocabulary:
    vocabulary = Vocabulary(tuple(sorted(wanted)))
    model["vocab"] = {piece: vocabulary.new(token) for piece, token in model["vocab"].items() if token in wanted}
    return vocabulary


def _trim_unigram(model: dict[str, Any], wanted: set[int]) -> Vocabulary:
    vocab = model["vocab"]
    wanted = wanted | {min(range(len(vocab)), key=lambda token: vocab[token][1])}
    if model.get("unk_id") is not None:
        wanted.add(model["unk_id"])
    vocabulary = Vocabulary(tuple(sorted(wanted)))
    model["vocab"] = [entry for token, entry in enumerate(vocab) if token in wanted]
    if model.get("unk_id") is not None:
        model["unk_id"] = vocabulary.new(model["unk_id"])
    return vocabulary


TRIMMERS: dict[str, Callable[[dict[str, Any], set[int]], Vocabulary]] = {
    "WordPiece": _trim_word_pieces,
    "BPE": _trim_bpe,
    "Unigram": _trim_unigram,
}


def _rewrite_processor(processor: dict[str, Any] | None, vocabulary: Vocabulary) -> None:
    """Put the new ids of special tokens into a post-processor of tokenizer.json, in place."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _rewrite_processor(inner, vocabulary)
    for name in ("sep", "cls"):
        if name in processor:
            processor[name] = [processor[name][0], vocabulary.new(processor[name][1])]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [vocabulary.new(old) for old in token["ids"]]


def _rewrite_ids(path: Path, vocabulary: Vocabulary) -> None:
    """Put the new ids into a config file; of lists, those of dropped tokens go."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    nested = [name for name in NESTED_IDS if content.get(name)]
    if nested:
        raise PSTError(
            Message(
                "The vocabulary can't be trimmed: the base model's {file} gives token ids as "
                "{ids}. Leave trim_vocabulary off.",
                file=path.name,
                ids=nested[0],
            )
        )
    for name, value in content.items():
        if name == "added_tokens_decoder":
            content[name] = {str(vocabulary.new(int(old))): token for old, token in value.items()}
        elif name.endswith("_token_id") or name in ID_LISTS:
            new = [vocabulary.new(token) if vocabulary.holds(token) else token for token in _ids(value)]
            if isinstance(value, list):
                content[name] = [vocabulary.new(token) for token in _ids(value) if vocabulary.holds(token)]
            elif new:
                content[name] = new[0]
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
