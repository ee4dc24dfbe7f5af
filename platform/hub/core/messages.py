"""Reading a request's body as a pydantic message: the one place where pydantic's errors become the API's.

:func:`read` is for what people and their programs send: a field that there is not is an error. :func:`read_sent` is for
the messages of workers and serving nodes, which may be newer than the platform.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

from django.utils.translation import gettext_noop
from pydantic import BaseModel, ValidationError

from hub.core.errors import UserError
from pst.config import SettingsError
from pst.messages import Message

M = TypeVar("M", bound=BaseModel)
MOST = 2**53
"""The largest number that every part can hold, JavaScript included."""
LONGEST_FIELD = 200
MOST_DETAILS = 100

SENTENCES = {
    "missing": gettext_noop("Field required"),
    "extra_forbidden": gettext_noop("Extra inputs are not permitted"),
    "unexpected_keyword_argument": gettext_noop("Extra inputs are not permitted"),
    "string_type": gettext_noop("Input should be a valid string"),
    "int_type": gettext_noop("Input should be a valid integer"),
    "int_parsing": gettext_noop("Input should be a valid integer, unable to parse string as an integer"),
    "int_from_float": gettext_noop("Input should be a valid integer, got a number with a fractional part"),
    "float_type": gettext_noop("Input should be a valid number"),
    "float_parsing": gettext_noop("Input should be a valid number, unable to parse string as a number"),
    "bool_type": gettext_noop("Input should be a valid boolean"),
    "bool_parsing": gettext_noop("Input should be a valid boolean, unable to interpret input"),
    "dict_type": gettext_noop("Input should be a valid dictionary"),
    "model_type": gettext_noop("Input should be a valid dictionary or instance of {class_name}"),
    "dataclass_type": gettext_noop("Input should be a dictionary or an instance of {class_name}"),
    "model_attributes_type": gettext_noop("Input should be an object"),
    "list_type": gettext_noop("Input should be a valid list"),
    "finite_number": gettext_noop("Input should be a finite number"),
    "greater_than": gettext_noop("Input should be greater than {gt}"),
    "greater_than_equal": gettext_noop("Input should be greater than or equal to {ge}"),
    "less_than": gettext_noop("Input should be less than {lt}"),
    "less_than_equal": gettext_noop("Input should be less than or equal to {le}"),
    "literal_error": gettext_noop("Input should be {expected}"),
    "enum": gettext_noop("Input should be {expected}"),
    "uuid_type": gettext_noop("UUID input should be a string, bytes or UUID object"),
    "uuid_parsing": gettext_noop("Input should be a valid UUID, {error}"),
    "datetime_parsing": gettext_noop("Input should be a valid datetime, {error}"),
    "datetime_from_date_parsing": gettext_noop("Input should be a valid datetime or date, {error}"),
    "string_too_short": gettext_noop("String should have at least {min_length} characters"),
    "string_too_long": gettext_noop("String should have at most {max_length} characters"),
    "string_pattern_mismatch": gettext_noop("String should match pattern '{pattern}'"),
    "too_short": gettext_noop("There should be at least {min_length} items, not {actual_length}"),
    "too_long": gettext_noop("There should be at most {max_length} items, not {actual_length}"),
}
"""The sentence of each of pydantic's types of errors; its ``ctx`` fills the holes. Another type stays English."""


def read(kind: type[M], data: Any) -> M:
    """``data`` as a message of that kind. Raises UserError naming each field that is wrong or unknown."""
    return _read(kind, data, extra=None)


def read_sent(kind: type[M], data: Any) -> M:
    """``data`` as a node's message of that kind, without the fields that it does not have, at any depth."""
    return _read(kind, data, extra="ignore")


def _read(kind: type[M], data: Any, extra: Literal["ignore"] | None) -> M:
    _check_numbers(data)
    try:
        return kind.model_validate(data, extra=extra)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:MOST_DETAILS]
        details = [_detail(item) for item in found]
        first = details[0]
        text = Message("{field}: {message}", **first) if first["field"] else first["message"]
        raise UserError(text, details=list(details)) from None


def _detail(item: Any) -> dict[str, str]:
    # The parts of a place are keys that a client may have sent.
    field = ".".join(str(part)[:LONGEST_FIELD] for part in item["loc"])[: 2 * LONGEST_FIELD]
    context = item.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, SettingsError):
        return {"field": f"{field}.{cause.field}", "message": cause.message}
    if isinstance(cause, ValueError):
        return {"field": field, "message": str(cause)}
    sentence = SENTENCES.get(item["type"])
    return {"field": field, "message": item["msg"] if sentence is None else Message(sentence, **context)}


def _check_numbers(data: Any) -> None:
    """Refuse what JSON can write but no column can hold: 1e400, or an integer of a hundred digits."""
    rest = [(data, "")]
    while rest:
        value, field = rest.pop()
        if isinstance(value, (dict, list)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in items:
                if isinstance(inner, (dict, list, int, float)):
                    place = str(key)[:LONGEST_FIELD]
                    rest.append((inner, f"{field}.{place}"[-2 * LONGEST_FIELD :] if field else place))
        elif isinstance(value, (int, float)) and not (
            abs(value) <= MOST if isinstance(value, int) else math.isfinite(value)
        ):
            raise UserError(
                Message("{field}: the number is too large.", field=field),
                details=[{"field": field, "message": Message("too large")}],
            )
