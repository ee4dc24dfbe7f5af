"""What can go wrong between a client and the platform."""

from __future__ import annotations

from typing import Any


class PlatformError(Exception):
    """The platform (or a serving node) refused a request. ``status`` is the HTTP status, ``code`` the stable name of
    the error, ``message`` one sentence for people, ``details`` its parts (per field, or per file, line and column)."""

    def __init__(self, code: str, message: str, details: list[dict[str, Any]] | None = None, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or []
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later: the server was busy, broken or out of reach, or the body did not
        come through."""
        return self.status in {408, 429} or self.status >= 500


class Unreachable(PlatformError):
    """No answer came: wrong address, no network, or the server is down. Nothing is known of the request's effect."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message)

    @property
    def passing(self) -> bool:
        return True


class Damaged(PlatformError):
    """Received bytes don't have the sha256 or the size that they should have."""

    def __init__(self, message: str) -> None:
        super().__init__("damaged", message)
