"""Sentences for users: an English text that remembers how it was made, so that it can be said in another language.

Write ``Message("There is no column {column}.", column=name)``, never an f-string, wherever a sentence reaches a user:
in an error, a field's detail, a data set's problem, a plan's note, the reason of a failed job. The template is the
message's id in the catalogues (``platform/locale/*/LC_MESSAGES/django.po``); ``make messages`` takes new ones over, and
a test fails while one has no Chinese. A template is always formatted: write braces that are no hole twice. What fills
a hole may be a number, a text, another message (or an exception that carries one), or a ``word``.

A message is a ``str``, the English sentence, so that whatever logs, stores or sends texts goes on as before; ``str()``
of it and of an exception that was raised with it is the message itself. Nobody who shows one looks at its text: the web
tier says it with :func:`hub.core.language.say`.

To keep one in JSON or to send it, keep ``text`` and ``said(text)`` side by side; :func:`recall` makes the message of
them again. Without the second, as older parts send it, the text is shown as it is.

Standard library only: the library, the workers and the web tier use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

LONGEST_VALUE = 500
"""Characters of a text in a hole; the rest is cut."""
LONGEST_TEMPLATE = 2000
LONGEST_TEXT = 20_000
MAX_VALUES = 50
DEEPEST = 4
"""Messages within messages; with the values of all of them, the bounds of what was stored or sent."""

Value: TypeAlias = "str | int | float"


class Message(str):
    """``params`` are texts and numbers, cut where they are long, and other messages."""

    __slots__ = ("params", "template")
    template: str
    params: Mapping[str, Value]

    def __new__(cls, template: str, /, **params: object) -> Message:
        values = {name: _value(value) for name, value in params.items()}
        return cls._made(template.format(**values), template, values)

    @classmethod
    def _made(cls, text: str, template: str, params: Mapping[str, Value]) -> Message:
        message = super().__new__(cls, text)
        message.template, message.params = template, params
        return message

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Message._made, (self.text, self.template, self.params)

    @property
    def text(self) -> str:
        """The English sentence alone."""
        return str.__str__(self)

    def render(self, translate: Callable[[str], str | None]) -> str:
        """The sentence with the template that ``translate`` has for this one; English where it has none (None), or one
        that does not fit."""
        template = translate(self.template)
        if template is None:
            return self.text
        values = {
            name: value.render(translate) if isinstance(value, Message) else value
            for name, value in self.params.items()
        }
        try:
            return template.format(**values)
        except (LookupError, ValueError, TypeError, AttributeError):
            return self.text


def word(value: str) -> Message:
    """A word that is translated too, such as a state or a role: one of ``hub.core.language.WORDS``."""
    return Message(value)


def said(text: str) -> dict[str, Any] | None:
    """How ``text`` is said, in JSON; None for a text that is no message."""
    if not isinstance(text, Message):
        return None
    params = {name: _nested(value) for name, value in text.params.items()}
    return {"template": text.template, "params": params}


def recall(text: str, how: object) -> str:
    """The message that was ``text`` and ``said(text)``; ``text`` itself where the second is missing or unsound, since
    both may come from elsewhere."""
    return _recalled(text, how, 0, iter(range(MAX_VALUES))) or text


def _value(value: object) -> Value:
    if isinstance(value, (int, float)):
        return value
    text = str(value)
    if isinstance(text, Message) or len(text) <= LONGEST_VALUE:
        return text
    return text[: LONGEST_VALUE - 1] + "…"


def _nested(value: Value) -> Any:
    return {"text": value.text, **(said(value) or {})} if isinstance(value, Message) else value


def _recalled(text: object, how: object, depth: int, places: Iterator[int]) -> Message | None:
    if not isinstance(text, str) or len(text) > LONGEST_TEXT or not isinstance(how, dict) or depth > DEEPEST:
        return None
    template, params = how.get("template"), how.get("params")
    if not isinstance(template, str) or len(template) > LONGEST_TEMPLATE:
        return None
    if not isinstance(params, dict):
        return None
    values: dict[str, Value] = {}
    for name, value in params.items():
        if next(places, None) is None:
            return None
        if isinstance(value, dict):
            inner = _recalled(value.get("text"), value, depth + 1, places)
            if inner is None:
                return None
            values[name] = inner
        elif isinstance(value, (str, int, float)):
            values[name] = _value(value)
        else:
            return None
    return Message._made(text, template, values)
