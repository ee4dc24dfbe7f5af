"""The files of a base model's tokenizer, read without its library: how many tokens there are, and what pads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hub.core.errors import UserError
from hub.registry import sentencepieces
from hub.registry.sentencepieces import Broken
from pst.messages import Message

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"
MAX_BYTES = 24 * 1024 * 1024
SWITCHES = ("add_bos_token", "add_eos_token", "spaces_between_special_tokens")
"""Entries that end as a token's do and are none."""
MORE = ("additional_special_tokens", "extra_special_tokens")
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Classes with no special tokens of their own; every other one knows what pads or ends a text."""


@dataclass
class Vocabulary:
    """Tokens and their numbers. ``size`` is the number of rows that the model's table needs; ``known`` says whether
    the files tell all tokens."""

    tokens: dict[str, int] = field(default_factory=dict)
    known: bool = True

    @property
    def size(self) -> int:
        return max(self.tokens.values(), default=-1) + 1

    def add(self, token: str, number: int | None = None) -> None:
        if number is not None:
            self.tokens[token] = number
        elif token not in self.tokens:  # as the library does with a special token that the vocabulary lacks
            self.tokens[token] = self.size


def check(files: Mapping[str, bytes], rows: int) -> None:
    """Raise UserError where the tokenizer (its files by name) is broken, has more tokens than the model has ``rows`` of
    embeddings, or has neither a padding token nor an end of the text."""
    kinds = (FILE, "vocab.json", "vocab.txt", *sentencepieces.FILES)
    name = next((known for known in kinds if known in files), "")
    found = Vocabulary(known=bool(name))
    at = name
    try:
        for at in sentencepieces.FILES:  # beside a tokenizer.json too: a library may take either
            if at in files and at != name:
                sentencepieces.pieces(files[at])
        at = name
        if name:
            _read(name, files[name], found)
        for at in (ADDED, CONFIG, SPECIAL):
            if at in files:
                _more(at, _object(files[at]), found)
    except (Broken, RecursionError, UnicodeDecodeError) as error:
        why = error.args[0] if isinstance(error, Broken) else Message("it is not valid JSON")
        raise UserError(
            Message("{name} is broken: {why}.", name=at, why=why), details=[{"file": at, "message": why}]
        ) from None
    if found.known and found.size > rows:
        raise UserError(
            Message(
                "The tokenizer has {tokens:,} tokens, but the model has {rows:,} embeddings; take the tokenizer that "
                "belongs to the model, or enlarge the model's table.",
                tokens=found.size,
                rows=rows,
            ),
            details=[{"file": name, "message": Message("more tokens than embeddings")}],
        )
    _check_padding(files)


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        raise Broken(Message("it is larger than {most:,} bytes", most=MAX_BYTES))
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise Broken(Message("it is not valid JSON")) from error
    if not isinstance(found, dict):
        raise Broken(Message("it must hold a JSON object"))
    return found


def _read(name: str, raw: bytes, found: Vocabulary) -> None:
    if name in sentencepieces.FILES:
        for piece in sentencepieces.pieces(raw):
            found.add(piece)
        return
    if name == "vocab.txt":
        for number, line in enumerate(raw.decode("utf-8").split("\n")[: 2**24]):
            if line.strip():
                found.add(line.rstrip("\r"), number)
        return
    content = _object(raw)
    if name == "vocab.json":
        _numbers(content, found)
        return
    model, added = content.get("model"), content.get("added_tokens")
    if not isinstance(model, dict) or not isinstance(added, list):
        raise Broken(Message("it lacks model or added_tokens; save the tokenizer anew"))
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        _numbers(vocabulary, found)
    elif isinstance(vocabulary, list):
        for number, piece in enumerate(vocabulary):
            if not (isinstance(piece, list) and piece and isinstance(piece[0], str)):
                raise Broken(Message("its vocabulary has a piece that is none"))
            found.add(piece[0], number)
    else:
        raise Broken(Message("it has no vocabulary"))
    for token in added:
        if not (isinstance(token, dict) and isinstance(token.get("content"), str) and _number(token.get("id"))):
            raise Broken(Message("it has an added token without a number or a text"))
        found.add(token["content"], token["id"])
    if not found.tokens:
        raise Broken(Message("it has no vocabulary"))


def _numbers(tokens: dict[str, Any], found: Vocabulary) -> None:
    for token, number in tokens.items():
        if not _number(number):
            raise Broken(Message("a token has no number"))
        found.add(token, number)


def _number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _more(name: str, content: dict[str, Any], found: Vocabulary) -> None:
    """Tokens that files beside the vocabulary add."""
    if name == ADDED:
        _numbers(content, found)
        return
    decoder = content.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        for number, token in decoder.items():
            if not (number.isdecimal() and len(number) < 10 and isinstance(_text(token), str)):
                raise Broken(Message("it has an added token without a number or a text"))
            found.add(str(_text(token)), int(number))
    for key in MORE:
        given = content.get(key)
        if given is None:
            continue
        tokens = [*given.values()] if isinstance(given, dict) else given if isinstance(given, list) else [None]
        if not all(map(_text, tokens)):
            raise Broken(Message("its {key} is no list of tokens", key=key))
        for token in tokens:
            found.add(str(_text(token)))
    for key, token in content.items():  # a library adds whatever has such a name
        if not key.endswith("_token") or key in SWITCHES or token is None or isinstance(token, bool):
            continue
        if (text := _text(token)) is None and token != "":
            raise Broken(Message("its {key} is no text", key=key))
        if text is not None:
            found.add(text)


def _text(token: object) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _check_padding(files: Mapping[str, bytes]) -> None:
    config = _object(files[CONFIG]) if CONFIG in files else {}
    special = _object(files[SPECIAL]) if SPECIAL in files else {}
    own = config.get("tokenizer_class")
    if CONFIG in files and own in (None, *PLAIN_CLASSES):
        pads = ("pad_token", "eos_token")
        if not any(_text(place.get(role)) for place in (config, special) for role in pads):
            raise UserError(
                Message(
                    "The tokenizer has neither a padding token nor an end of the text; name one in {name}.",
                    name=CONFIG,
                ),
                details=[{"file": CONFIG, "message": Message("no pad_token")}],
            )
