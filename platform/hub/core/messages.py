"""Reading a request's body as a pydantic message: the one place where pydantic's errors become the API's."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hub.core.errors import UserError
from pst.config import SettingsError

M = TypeVar("M", bound=BaseModel)
MOST = 2**53
"""The largest number that every part can hold, JavaScript included."""


def read(kind: type[M], data: Any) -> M:
    """``data`` as a message of that kind. Raises UserError naming each field that is wrong."""
    _check_numbers(data, "")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        details = [_detail(item) for item in error.errors(include_url=False, include_input=False)]
        first = details[0]
        text = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
        raise UserError(text, details=list(details)) from None


def _detail(item: Any) -> dict[str, str]:
    field, message = ".".join(str(part) for part in item["loc"]), item["msg"]
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, SettingsError):
        return {"field": f"{field}.{cause.field}", "message": cause.message}
    return {"field": field, "message": str(cause) if isinstance(cause, ValueError) else message}


def _check_numbers(value: Any, field: str) -> None:
    """Refuse what JSON can write but no column can hold: 1e400, or an integer of a hundred digits."""
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_numbers(inner, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_numbers(inner, f"{field}.{index}" if field else str(index))
    elif isinstance(value, (int, float)) and not (
        abs(value) <= MOST if isinstance(value, int) else math.isfinite(value)
    ):
        raise UserError(f"{field}: the number is too large.", details=[{"field": field, "message": "too large"}])
