"""The API's sentences in the reader's language.

A sentence is written in English where it arises, often where no reader is known: in a validation that runs later, in a
worker, in the library, which has no gettext. So it is translated where it is shown, by :func:`say`: the English
sentence is looked up among templates with numbered holes ("There is no user {0}; ..."), and its holes are put into the
translation, which may mark those that are words themselves ("{0!t}"). What is not found stays English.

Which language a request wants is Django's to say (Accept-Language, LocaleMiddleware), as are the texts of Django and
Django REST framework. ``languages/*.json`` holds ours: ``sentences`` (of this project), ``libraries`` (of pydantic),
and ``words`` (what may stand in a hole).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from django.utils.translation import get_language

FOLDER = Path(__file__).parent / "languages"
IN_FIELD = re.compile(r"([A-Za-z_][\w.]*): (.+)", re.DOTALL)
"""How a message begins that names the field it is about."""
SENTENCES = re.compile(r"(?<=[.?]) ")
TRANSLATED = "t"


@dataclass(frozen=True)
class Template:
    """``pattern`` matches the English sentence; ``longest`` is its longest part without a hole."""

    pattern: re.Pattern[str]
    longest: str
    meaning: str

    def fill(self, holes: tuple[str, ...], language: str) -> str:
        parts = []
        for text, name, _, conversion in Formatter().parse(self.meaning):
            parts.append(text)
            if name is not None:
                hole = holes[int(name)]
                parts.append(_translate(hole, language) if conversion == TRANSLATED else hole)
        return "".join(parts)


@dataclass(frozen=True)
class Catalogue:
    whole: Mapping[str, str]
    templates: list[Template]


def say(text: str) -> str:
    """``text`` in the language of this request."""
    language = get_language() or "en"
    return text if language.startswith("en") else _translate(text, language)


def said(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The values with each ``message`` in the language of this request."""
    return [
        value | {"message": say(value["message"])} if isinstance(value.get("message"), str) else value
        for value in values
    ]


@lru_cache(maxsize=4096)
def _translate(text: str, language: str) -> str:
    found = catalogue(language)
    if found is None:
        return text
    if text in found.whole:
        return found.whole[text]
    for template in found.templates:
        if template.longest in text and (match := template.pattern.fullmatch(text)):
            return template.fill(match.groups(), language)
    if match := IN_FIELD.fullmatch(text):
        return f"{match[1]}: {_translate(match[2], language)}"
    # Two sentences that were written one after the other.
    parts = SENTENCES.split(text)
    return "".join(_translate(part, language) for part in parts) if len(parts) > 1 else text


@cache
def catalogue(language: str) -> Catalogue | None:
    """The texts of a language; None where there are none."""
    path = FOLDER / f"{language}.json"
    if not path.is_file():
        return None
    texts: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))
    whole, templates = dict(texts["words"]), []
    for english, meaning in (texts["sentences"] | texts["libraries"]).items():
        parts = list(_parts(english))
        if all(isinstance(part, str) for part in parts):
            whole["".join(map(str, parts))] = "".join(map(str, _parts(meaning)))
            continue
        pattern = "".join(re.escape(part) if isinstance(part, str) else "(.+?)" for part in parts)
        literal = [part for part in parts if isinstance(part, str)]
        templates.append(Template(re.compile(pattern, re.DOTALL), max(literal, key=len), meaning))
    # The one that says most itself is tried first.
    return Catalogue(whole, sorted(templates, key=lambda item: -len(item.pattern.pattern)))


def _parts(template: str) -> Iterator[str | int]:
    """Texts and the numbers of holes, in turn."""
    for text, name, _, _ in Formatter().parse(template):
        if text:
            yield text
        if name is not None:
            yield int(name)
