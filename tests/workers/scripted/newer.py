"""Makes the messages that a process writes those of a newer version: each, at every depth, has a field more.

Found by looking at the messages, not by a list of them: what is added to the contract is covered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pst_client.contract import Message

MORE = "added_by_a_newer_version"


def added(value: Any, written: Any) -> Any:
    """What was ``written`` of a message, or of what holds messages, with the field."""
    if isinstance(value, Message) or dataclasses.is_dataclass(value):
        names = type(value).model_fields if isinstance(value, Message) else [f.name for f in dataclasses.fields(value)]
        inner = {name: added(getattr(value, name), written[name]) for name in names if name in written}
        return {**written, **inner, MORE: {"deep": [1, "x"]}}
    if isinstance(value, list):
        return [added(*pair) for pair in zip(value, written, strict=True)]
    return written


def install(replace: Callable[[type, str, Any], object] = setattr) -> None:
    """From now on every message that this process writes has the field."""
    write = Message.model_dump
    replace(Message, "model_dump", lambda self, **options: added(self, write(self, **options)))
