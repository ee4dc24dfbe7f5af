"""The messages of the people's side of the API, as pydantic models: what is parsed, and what OpenAPI describes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError

from hub.core.errors import UserError
from hub.registry.models import MODEL_NAME
from pst.config import SettingsError, TrainSettings, from_dict
from pst_client.contract import EventType, JobState, Message, Target

M = TypeVar("M", bound=BaseModel)
# The largest number that every part agrees on: the database's and JavaScript's integers included.
MOST = 2**53
RESERVED_QUEUES = ("platform", "unacked")
"""The platform's own queue, and a name that the queue's transport keeps for itself."""


def _checked_settings(value: Any) -> Any:
    """Let the library judge the settings first: its messages name the field and what is allowed."""
    if isinstance(value, dict):
        from_dict(value)
    return value


def _free_queue(name: str) -> str:
    if name in RESERVED_QUEUES:
        raise ValueError(f"is kept for the platform itself; choose a name other than {' and '.join(RESERVED_QUEUES)}")
    return name


def _model_name(name: str) -> str:
    if not MODEL_NAME.regex.fullmatch(name):
        raise ValueError(str(MODEL_NAME.message))
    return name


Settings = Annotated[TrainSettings, BeforeValidator(_checked_settings)]
QueueName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), BeforeValidator(str), BeforeValidator(_free_queue)
]
