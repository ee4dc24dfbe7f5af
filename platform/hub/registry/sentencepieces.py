"""The pieces of a sentencepiece model, read without its library: a protobuf message, of which each field is a number, a
length and so many bytes."""

from __future__ import annotations

from collections.abc import Iterator

from pst.messages import Message

FILES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
MAX_BYTES = 24 * 1024 * 1024
MAX_PIECES = 2**20
PIECE, TRAINER, NORMALIZER = 1, 2, 3
UNKNOWN, KINDS = 2, range(1, 7)
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Broken(ValueError):
    """Bytes that are no sentencepiece model; the message is a sentence's end."""


def pieces(raw: bytes) -> list[str]:
    """The pieces in the order of their numbers. Raises :class:`Broken`."""
    if len(raw) > MAX_BYTES:
        raise Broken(Message("it is larger than {most:,} bytes", most=MAX_BYTES))
    found: dict[str, None] = {}
    unknown = 0
    try:
        parts = [(number, value) for number, value in _fields(raw) if number in (PIECE, TRAINER, NORMALIZER)]
        for number, value in parts:
            if not isinstance(value, bytes):
                raise Broken(Message("it is no sentencepiece model"))
            if number != PIECE:
                for _ in _fields(value):
                    pass
                continue
            held = dict(_fields(value))
            text, kind = held.get(1), held.get(3, 1)
            if not isinstance(text, bytes) or not text or kind not in KINDS:
                raise Broken(Message("it is no sentencepiece model"))
            if len(found) >= MAX_PIECES:
                raise Broken(Message("it has more than {most:,} pieces", most=MAX_PIECES))
            piece = text.decode("utf-8")
            if piece in found:
                raise Broken(Message("it has the piece {piece} twice", piece=repr(piece[:50])))
            found[piece] = None
            unknown += kind == UNKNOWN
    except (IndexError, UnicodeDecodeError) as error:
        raise Broken(Message("it is no sentencepiece model, or not a whole one")) from error
    if not found or unknown != 1:
        raise Broken(Message("it is no sentencepiece model, or not a whole one"))
    return [*found]


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field. Raises :class:`IndexError` where the message ends inside one."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            whole, at = _varint(raw, at)
            yield number, whole
            continue
        if wire == BYTES:
            length, at = _varint(raw, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise IndexError
        if not number or at + length > len(raw):
            raise IndexError
        yield number, raw[at : at + length]
        at += length


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number in the wire's form, and where the next one begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise IndexError
