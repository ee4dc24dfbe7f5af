"""JSON text with rows: an array of objects, {"data": [...]}, or one object per line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hub.datasets.formats.decoding import count_lines
from hub.datasets.formats.delimited import lines
from pst.messages import Message

SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Broken:
    """A row that is no JSON or no object."""

    message: str


class Nested:
    """Stands for a list or an object where a text was expected."""


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Numbers stay as they are written: 1.0 as a label is not 1, and no digit of a long number is lost.
DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_constant)


def cell(value: Any) -> str | type[Nested] | None:
    """A value as the text of a cell; None for null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return Nested


def items(value: list[Any]) -> tuple[str, ...] | None:
    """The texts of a list as the texts of cells; None where one is null, a list or an object."""
    found = [cell(item) for item in value]
    return tuple(item for item in found if isinstance(item, str)) if all(isinstance(i, str) for i in found) else None


def _skip(text: str, index: int) -> int:
    match = SPACE.match(text, index)
    return match.end() if match else index


def _decode(text: str, index: int) -> tuple[Any, int]:
    """(value, where it ends). Raises ValueError with a sentence."""
    try:
        return DECODER.raw_decode(text, index)
    except json.JSONDecodeError as error:
        raise BadJson(Message("This is not valid JSON: {error}", error=error.msg), error.pos) from None
    except RecursionError:
        raise BadJson(Message("This JSON is nested too deeply."), index) from None
    except ValueError as error:
        raise BadJson(Message("This is not valid JSON: {error}", error=error), index) from None


class BadJson(ValueError):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def first_value(text: str) -> Any:
    """What stands first in ``text``; None where that is no JSON."""
    try:
        return _decode(text, _skip(text, 0))[0]
    except BadJson:
        return None


def is_lines(text: str) -> bool:
    """Whether ``text``, which starts like JSON, is one object per line rather than one document."""
    start = _skip(text, 0)
    if text.startswith("[", start):
        return False
    try:
        value, end = _decode(text, start)
    except BadJson:
        # One broken document, or lines of which the first is broken: lines look alike.
        found = [line.strip() for line in lines(text[: 1 << 16]) if line.strip()]
        whole = sum(1 for line in found if line.startswith("{") and line.endswith("}"))
        return len(found) > 1 and whole > len(found) / 2
    if _skip(text, end) < len(text):
        return True
    return not (isinstance(value, dict) and isinstance(value.get("data"), list))


def line_records(text: str) -> Iterator[tuple[int, dict[str, Any] | Broken]]:
    """(line, object) per non-blank line."""
    for number, line in enumerate(lines(text), start=1):
        stripped = line.strip(" \t\r\n")
        if not stripped:
            continue
        try:
            value, end = _decode(stripped, 0)
            if end < len(stripped):
                raise BadJson(Message("Something follows the row's object"), end)
        except BadJson as error:
            yield (
                number,
                Broken(
                    Message("{error} (character {position} of the line).", error=error, position=error.position + 1)
                ),
            )
            continue
        yield number, value if isinstance(value, dict) else Broken(Message("A row must be an object: {{...}}."))


def document_records(text: str) -> Iterator[tuple[int, dict[str, Any] | Broken]]:
    """(line where it starts, object) per element of the array. Reading ends at the first syntax error."""
    line, counted = 1, 0

    def line_at(position: int) -> int:
        nonlocal line, counted
        line += count_lines(text[counted:position])
        counted = position
        return line

    try:
        index, inside = _array_start(text)
        index = _skip(text, index)
        if text.startswith("]", index):
            _finish(text, index + 1, inside)
            return
        while True:
            start, (value, index) = index, _decode(text, index)
            yield (
                line_at(start),
                value if isinstance(value, dict) else Broken(Message("A row must be an object: {{...}}.")),
            )
            index = _skip(text, index)
            if text.startswith("]", index):
                _finish(text, index + 1, inside)
                return
            if not text.startswith(",", index):
                raise BadJson(Message("This is not valid JSON: a comma or ] is missing after a row"), index)
            index = _skip(text, index + 1)
    except BadJson as error:
        yield line_at(max(error.position, counted)), Broken(Message("{sentence}.", sentence=error))


def _array_start(text: str) -> tuple[int, bool]:
    """Position after the ``[`` of the rows, and whether it stands in an object."""
    index = _skip(text, 0)
    if text.startswith("[", index):
        return index + 1, False
    if not text.startswith("{", index):
        raise BadJson(Message('The document must be an array of objects, or {{"data": [...]}}'), index)
    index = _skip(text, index + 1)
    while text.startswith('"', index):
        key, index = _key(text, index)
        if key == "data" and text.startswith("[", index):
            return index + 1, True
        _, index = _decode(text, index)
        index = _skip(text, index)
        if not text.startswith(",", index):
            break
        index = _skip(text, index + 1)
    raise BadJson(Message('The document must be an array of objects, or {{"data": [...]}}'), index)


def _key(text: str, index: int) -> tuple[Any, int]:
    """(key, where its value starts)."""
    key, index = _decode(text, index)
    index = _skip(text, index)
    if not text.startswith(":", index):
        raise BadJson(Message("This is not valid JSON: a colon is missing"), index)
    return key, _skip(text, index + 1)


def _finish(text: str, index: int, inside: bool) -> None:
    """Nothing but the end of the document may follow the rows, or the object's other keys."""
    index = _skip(text, index)
    if inside:
        while text.startswith(",", index):
            index = _skip(text, index + 1)
            if not text.startswith('"', index):
                raise BadJson(Message("This is not valid JSON: a key is missing"), index)
            _, index = _key(text, index)
            _, index = _decode(text, index)
            index = _skip(text, index)
        if not text.startswith("}", index):
            raise BadJson(Message("This is not valid JSON: a closing }} is missing"), index)
        index = _skip(text, index + 1)
    if index < len(text):
        raise BadJson(Message("Something follows the end of the JSON document"), index)
