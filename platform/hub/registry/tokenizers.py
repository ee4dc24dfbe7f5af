"""The files of a base model's tokenizer: how many tokens there are, what pads, and whether its library loads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
T5_EXTRA = 100
"""Tokens <extra_id_…> that T5's class adds unless its entry extra_ids says otherwise."""
SHORTEST = 8
"""Tokens of a text that a model must take."""
TRIAL = Path(__file__).with_name("trial.py")
TRIAL_SECONDS = 10
"""Of processor time, and six times as many in all: the largest public tokenizers take one or two."""
TRIAL_BYTES = 4 * 1024**3
MODELS = frozenset({"BPE", "Unigram", "WordLevel", "WordPiece"})
PARTS = {
    "normalizer": (
        "BertNormalizer Strip StripAccents NFC NFD NFKC NFKD Sequence Lowercase Nmt Precompiled Replace Prepend "
        "ByteLevel"
    ),
    "pre_tokenizer": (
        "BertPreTokenizer ByteLevel CharDelimiterSplit Metaspace Whitespace Sequence Split Punctuation "
        "WhitespaceSplit Digits UnicodeScripts FixedLength"
    ),
    "post_processor": "RobertaProcessing BertProcessing ByteLevel TemplateProcessing Sequence",
    "decoder": "BPEDecoder ByteLevel WordPiece Metaspace CTC Sequence Replace Fuse Strip ByteFallback",
}
"""The types that the library knows of each part of a tokenizer.json."""
INNER = ("normalizers", "pretokenizers", "processors", "decoders")
"""Where a part of the type Sequence holds its parts."""


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
    if FILE in files:
        _try(files[FILE])


def _try(raw: bytes) -> None:
    """Raise UserError where the library does not load a tokenizer.json, or not within the limits of the trial."""
    try:
        # -I, and nothing of this process's environment: neither modules of this folder nor secrets are for native code
        # that reads what somebody sent.
        done = subprocess.run(
            [sys.executable, "-I", str(TRIAL), str(TRIAL_SECONDS), str(TRIAL_BYTES)],
            input=raw,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"TOKENIZERS_PARALLELISM": "false"},
            timeout=6 * TRIAL_SECONDS,
        )
        status, words = done.returncode, done.stdout.decode("utf-8", "replace").strip()
    except subprocess.TimeoutExpired:
        status, words = -1, ""
    if not status:
        return
    why = (
        Message("the library tokenizers can't load it ({error})", error=words or "no reason given")
        if status == 1
        else Message("to load it takes more time or memory than any tokenizer needs, or ends the library")
    )
    raise UserError(Message("{name} is broken: {why}.", name=FILE, why=why), details=[{"file": FILE, "message": why}])


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
    _check_parts(content)
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


def _check_parts(content: Mapping[str, Any]) -> None:
    """Raises :class:`Broken` for a part of a type that the library does not know."""
    kind = content["model"].get("type")
    if kind is not None and (not isinstance(kind, str) or kind not in MODELS):
        raise _unknown("model", kind)
    for name, known in PARTS.items():
        waiting = [content.get(name)]
        while waiting:
            part = waiting.pop()
            if part is None:
                continue
            kind = part.get("type") if isinstance(part, dict) else part
            if not isinstance(part, dict) or not isinstance(kind, str) or kind not in known.split():
                raise _unknown(name, kind)
            for key in INNER:
                held = part.get(key)
                waiting.extend(held if isinstance(held, list) else [])
    if content["model"].get("type") == "BPE":
        _check_merges(content["model"])


def _unknown(name: str, kind: object) -> Broken:
    return Broken(Message("its {name} has the type {kind}, which no library knows", name=name, kind=str(kind)[:40]))


def _check_merges(model: Mapping[str, Any]) -> None:
    """Raises :class:`Broken` for a merge of, or into, what is not in the vocabulary."""
    merges, tokens = model.get("merges"), model.get("vocab")
    prefix = model.get("continuing_subword_prefix") or ""
    if not isinstance(merges, list) or not isinstance(tokens, dict) or not isinstance(prefix, str):
        raise Broken(Message("its model of the type BPE lacks merges or vocab"))
    for number, merge in enumerate(merges, start=1):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise Broken(Message("its merge {number} is no pair of tokens", number=number))
        for token in (*pair, pair[0] + pair[1].removeprefix(prefix)):
            if token not in tokens:
                raise Broken(
                    Message(
                        "its merge {number} has {token}, which its vocabulary lacks",
                        number=number,
                        token=repr(token[:50]),
                    )
                )


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
    if name == CONFIG:
        _check_config(content, found)


def _check_config(content: Mapping[str, Any], found: Vocabulary) -> None:
    """What tokenizer_config.json alone says: how long a text may be, and T5's own tokens."""
    longest = content.get("model_max_length")
    if longest is not None and (not isinstance(longest, int) or isinstance(longest, bool) or longest < SHORTEST):
        raise Broken(Message("its model_max_length is no whole number of at least {least}", least=SHORTEST))
    own = content.get("tokenizer_class")
    if own is not None and not (isinstance(own, str) and re.fullmatch(r"\w*(Tokenizer|Backend)\w*", own)):
        raise Broken(Message("its tokenizer_class is no class of a tokenizer"))
    if own in ("T5Tokenizer", "T5TokenizerFast"):
        extra = content.get("extra_ids", T5_EXTRA)
        if not _number(extra) or extra > 10_000:
            raise Broken(Message("its extra_ids is no number of tokens"))
        if not any("<extra_id_" in token for token in found.tokens):
            first = found.size
            for number in range(extra):
                found.add("<extra_id_" + str(number) + ">", first + number)


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
