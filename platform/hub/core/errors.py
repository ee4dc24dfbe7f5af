"""One error shape: ``{"error": {"code", "message", "details", "request_id"}}``.

Services raise :class:`UserError` (or a subclass) for whatever a user can put right; nothing else is shown to users.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse, UnreadablePostError
from redis.exceptions import RedisError
from rest_framework import exceptions, status
from rest_framework.response import Response

from hub.core.language import said, say
from pst.messages import Message

log = structlog.get_logger(__name__)

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class UserError(Exception):
    """Something the user can mend. ``details`` are mappings such as ``{"field", "message"}``
    or ``{"file", "line", "column", "message"}``."""

    status: int = status.HTTP_400_BAD_REQUEST
    code = "invalid"

    def __init__(self, message: str, *, details: list[dict[str, Any]] | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or []
        self.code = code or type(self).code


class Unauthorized(UserError):
    status = status.HTTP_401_UNAUTHORIZED
    code = "authentication_failed"


class NotFound(UserError):
    status = status.HTTP_404_NOT_FOUND
    code = "not_found"


class Conflict(UserError):
    status = status.HTTP_409_CONFLICT
    code = "conflict"


class Forbidden(UserError):
    status = status.HTTP_403_FORBIDDEN
    code = "forbidden"


class BrokeOff(UserError):
    """A body that did not come whole, or too slowly: the same request may succeed."""

    status = status.HTTP_408_REQUEST_TIMEOUT
    code = "broke_off"


class TooLarge(UserError):
    status = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    code = "too_large"


def body(code: str, message: str, details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The error shape, its sentences in the reader's language."""
    context = structlog.contextvars.get_contextvars()
    return {
        "error": {
            "code": code,
            "message": say(message),
            "details": said(details or []),
            "request_id": context.get("request_id"),
        }
    }


def _flatten(detail: Any, field: str = "") -> Iterator[dict[str, str]]:
    if isinstance(detail, Mapping):
        for key, value in detail.items():
            inner = "" if key in {"non_field_errors", "__all__"} else str(key)
            yield from _flatten(value, ".".join(part for part in (field, inner) if part))
    elif isinstance(detail, list):
        nested = any(isinstance(item, (Mapping, list)) for item in detail)
        for index, item in enumerate(detail):
            yield from _flatten(item, f"{field}.{index}" if nested else field)
    else:
        yield {"field": field, "message": str(detail)}


def _messages(error: ModelValidationError) -> Any:
    return error.message_dict if hasattr(error, "error_dict") else error.messages


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: every error that reaches a client leaves in the one shape."""
    from rest_framework.views import set_rollback  # DRF's views import this module through its settings

    headers: dict[str, str] = {}
    code: int
    if isinstance(error, ModelValidationError):  # a service's full_clean() refused what a serializer let through
        error = exceptions.ValidationError(_messages(error))
    if isinstance(error, UserError):
        answer = body(error.code, error.message, error.details)
        code = error.status
        if code in (429, 503):
            headers["Retry-After"] = "2"
    elif isinstance(error, exceptions.ValidationError):
        details = list(_flatten(error.detail))
        first = details[0] if details else {"field": "", "message": Message("The request is not valid.")}
        message = Message("{field}: {message}", **first) if first["field"] else first["message"]
        answer, code = body("invalid", message, list(details)), error.status_code
    elif isinstance(error, exceptions.APIException):
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(int(wait) + 1)
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        kind = error.get_codes()
        answer, code = body(kind if isinstance(kind, str) else "invalid", str(error.detail)), error.status_code
    elif isinstance(error, Http404):
        answer, code = body("not_found", Message("There is no such object, or you have no access to it.")), 404
    elif isinstance(error, PermissionDenied):
        answer, code = body("forbidden", Message("You are not allowed to do this.")), 403
    elif isinstance(error, SuspiciousOperation):
        answer, code = (
            body("invalid", Message("The request is malformed: it has too many fields or parts that cannot be.")),
            400,
        )
    elif isinstance(error, DataError):
        log.warning("data_error", error=str(error))
        answer, code = (
            body("invalid", Message("A value does not fit: a number is too large, or a text has a NUL character.")),
            400,
        )
    elif isinstance(error, IntegrityError):
        # A constraint of the database caught what two requests did at once.
        log.warning("integrity_error", error=str(error))
        answer, code = (
            body(
                "conflict",
                Message("This clashes with something that exists already or was just changed; reload and try again."),
            ),
            409,
        )
    elif (isinstance(error, OSError) and error.errno in DISK_FULL) or _tells_of_a_full_disk(error):
        log.error("disk_full", error=str(error))
        message = Message("The server's disk is full, and nothing was stored. Tell whoever runs this installation.")
        answer, code = body("disk_full", message), status.HTTP_507_INSUFFICIENT_STORAGE
    elif isinstance(error, (OperationalError, RedisError)):
        log.error("service_unavailable", kind=type(error).__name__, error=str(error))
        answer, code = (
            body("unavailable", Message("The database or Redis is busy or out of reach; try again in a moment.")),
            503,
        )
    elif isinstance(error, UnreadablePostError):
        message = Message("The body of the request broke off or came too slowly; send it again.")
        answer, code = body(BrokeOff.code, message), BrokeOff.status
    else:
        return None
    set_rollback()
    return Response(answer, status=code, headers=headers)


def _tells_of_a_full_disk(error: Exception) -> bool:
    """SQLite, PostgreSQL and Redis have no class for it (MISCONF: Redis can't save, and so takes no writes)."""
    words = ("disk is full", "No space left on device", "MISCONF")
    return isinstance(error, (OperationalError, RedisError)) and any(word in str(error) for word in words)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return JsonResponse(body("invalid", Message("The request is malformed.")), status=400)


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return JsonResponse(body("not_found", Message("There is no such address.")), status=404)


def server_error(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        body("server_error", Message("Something broke on our side; the log has the details.")), status=500
    )
