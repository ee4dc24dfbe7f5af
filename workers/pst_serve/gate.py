"""Who may ask: the caller's token is shown to the platform, and the answer is remembered for a minute."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass

from pst_client.client import Platform
from pst_client.errors import PlatformError

FRESH_SECONDS = 60.0
"""How long an answer counts: a revoked token works for this long at most."""
STALE_SECONDS = 600.0
"""How long it counts while the platform can't be asked, so that serving survives the platform's restart."""
MOST_REMEMBERED = 10_000


class Refused(Exception):
    """The platform does not know the token."""


class Unknown(Exception):
    """The platform can't be asked now, and the token was not seen lately."""


@dataclass(frozen=True)
class _Answer:
    at: float
    workspaces: frozenset[str] | None


class Gate:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def workspaces(self, token: str) -> frozenset[str]:
        """Slugs of the caller's workspaces. Blocks. Raises :class:`Refused` or :class:`Unknown`."""
        key = hashlib.sha256(token.encode()).hexdigest()
        with self._lock:
            known = self._answers.get(key)
        now = time.monotonic()
        if known is None or now - known.at > FRESH_SECONDS:
            known = self._ask(token, known, now)
            with self._lock:
                if len(self._answers) >= MOST_REMEMBERED:
                    self._answers.clear()
                self._answers[key] = known
        if known.workspaces is None:
            raise Refused
        return known.workspaces

    def _ask(self, token: str, known: _Answer | None, now: float) -> _Answer:
        try:
            me = self._platform.accounts.me(token=token)
        except PlatformError as error:
            if error.status in (401, 403):
                return _Answer(now, None)
            if known is not None and now - known.at < STALE_SECONDS:
                return known
            raise Unknown from error
        # Tokens of nodes and jobs are for the platform alone.
        slugs = (item["slug"] for item in me["workspaces"]) if me["kind"] == "user" else ()
        return _Answer(now, frozenset(slugs))
