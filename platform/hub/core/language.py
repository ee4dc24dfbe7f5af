"""The API's sentences in the reader's language.

A sentence is written as a :class:`pst.messages.Message`, often where no reader is known: in a validation that runs
later, in a worker, in the library. It is translated where it is shown, by :func:`say`, and nowhere else: its template
is looked up in Django's catalogues (``platform/locale``), and its values are put into what is found. Text that is no
message, such as what a client sent, is never looked at.

Which language a request wants is Django's to say (Accept-Language, LocaleMiddleware), as are the texts of Django and
Django REST framework, which arrive here translated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.functional import lazy
from django.utils.translation import get_language, gettext, gettext_noop

from pst.messages import Message, recall

WORDS = (
    *(gettext_noop("owner"), gettext_noop("editor"), gettext_noop("viewer")),
    *(gettext_noop("ready"), gettext_noop("invalid"), gettext_noop("validating")),
    *(gettext_noop("queued"), gettext_noop("running"), gettext_noop("paused"), gettext_noop("cancelling")),
    *(gettext_noop("succeeded"), gettext_noop("failed"), gettext_noop("cancelled")),
    *(gettext_noop("pause"), gettext_noop("resume"), gettext_noop("retry"), gettext_noop("cancel")),
    *(gettext_noop("train"), gettext_noop("training"), gettext_noop("validation"), gettext_noop("test")),
    *(gettext_noop("text"), gettext_noop("label"), gettext_noop("source"), gettext_noop("target")),
    *(gettext_noop("sparse"), gettext_noop("base")),
    *(gettext_noop("Pulling"), gettext_noop("Verifying"), gettext_noop("Loading")),
)
"""Words that stand in sentences (``pst.messages.word``): roles, states, actions, splits, columns, kinds of models,
stages of a serving node."""


def say(text: str) -> str:
    """``text`` in the language of this request."""
    if not isinstance(text, Message):
        return str(text)
    language = get_language() or "en"
    return text.text if language.startswith("en") else text.render(_translation)


def say_later(text: Message) -> str:
    """``text`` in the language of the request in which it is shown: for validators, which are made once."""
    return _say_later(text)


def said(values: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The values with each ``message`` in the language of this request; a stored ``said`` beside it is used up."""
    return [_said(value) for value in values]


def _said(value: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: part for name, part in value.items() if name != "said"}
    if isinstance(message := value.get("message"), str):
        shown["message"] = say(recall(message, value.get("said")) if "said" in value else message)
    return shown


def _translation(template: str) -> str | None:
    # A template that came from elsewhere is only ever looked up: one that no catalogue has is not formatted.
    found = gettext(template)
    return found if found != template else None


_say_later = lazy(say, str)
