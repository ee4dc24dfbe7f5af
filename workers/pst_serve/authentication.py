"""Who may ask: the platform is asked about the caller's token, and its answer is remembered for a minute.

A node takes predict tokens alone: whoever runs it sees what callers send, and must find nothing there that can do more
than ask a deployment. The platform is shown the token's hash.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from pst_client.client import Platform
from pst_client.contract import PREDICT_PREFIX, Caller
from pst_client.errors import PlatformError

FRESH_SECONDS = 60.0
"""How long an answer counts: a revoked token works for this long at most."""
STALE_SECONDS = 600.0
"""How long it counts while the platform can't be asked, so that serving survives the platform's restart."""
ASK_SECONDS = 2.0
"""How long a caller waits for the platform's answer."""
AWAY_SECONDS = 5.0
"""How long a platform that gave no answer is not asked again: only one caller pays for its absence."""
MAX_CONCURRENT_CHECKS = 4
MAX_REMEMBERED = 10_000
"""Of callers, and of refused tokens."""
TOKEN = re.compile(rf"{PREDICT_PREFIX}[A-Za-z0-9_-]{{1,120}}")


class Unauthorized(Exception):
    """The platform does not know the token."""


class WrongTokenKind(Unauthorized):
    """No predict token: nobody was asked about it."""


class AuthenticatorUnavailable(Exception):
    """The platform can't be asked now, and the token was not seen lately."""


def bearer(headers: Mapping[str, str]) -> str:
    """The token of a request; empty: it has none."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True)
class _Answer:
    at: float
    caller: Caller | None


class TokenAuthenticator:
    """Thread-safe."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._callers: OrderedDict[str, _Answer] = OrderedDict()
        self._refused: OrderedDict[str, _Answer] = OrderedDict()
        self._away_until = float("-inf")
        self._lock = threading.Lock()
        self._asking = threading.BoundedSemaphore(MAX_CONCURRENT_CHECKS)

    def known(self, token: str) -> Caller | None:
        """Whose token it is, where that can be said at once; None: :meth:`caller` must be asked. Raises
        :class:`Unauthorized` or :class:`AuthenticatorUnavailable`."""
        return self._remembered(self._key(token))

    def caller(self, token: str) -> Caller:
        """Whose token it is. May wait for the platform.

        Raises :class:`Unauthorized` or :class:`AuthenticatorUnavailable`.
        """
        key = self._key(token)
        with self._asking:
            # Whoever asked meanwhile may have heard of this token, or that the platform is away.
            found = self._remembered(key)
            return found if found is not None else self._ask(key)

    def _key(self, token: str) -> str:
        if not TOKEN.fullmatch(token):
            raise WrongTokenKind
        return hashlib.sha256(token.encode()).hexdigest()

    def _remembered(self, key: str) -> Caller | None:
        with self._lock:
            answer = self._callers.get(key) or self._refused.get(key)
            now = time.monotonic()
            away = now < self._away_until
        if answer is not None and now - answer.at < (STALE_SECONDS if away else FRESH_SECONDS):
            if answer.caller is None:
                raise Unauthorized
            return answer.caller
        if away:
            raise AuthenticatorUnavailable
        return None

    def _ask(self, key: str) -> Caller:
        try:
            caller = self._platform.node.caller(key, timeout=ASK_SECONDS)
        except PlatformError as error:
            if error.code == "unknown_token":
                self._remember(self._refused, key, None)
                with self._lock:
                    self._callers.pop(key, None)
                raise Unauthorized from None
            if not error.passing:  # it is this node that the platform refuses
                raise AuthenticatorUnavailable from error
            with self._lock:
                self._away_until = time.monotonic() + AWAY_SECONDS
            found = self._remembered(key)
            if found is None:
                raise AuthenticatorUnavailable from error
            return found
        self._remember(self._callers, key, caller)
        return caller

    def _remember(self, answers: OrderedDict[str, _Answer], key: str, caller: Caller | None) -> None:
        with self._lock:
            answers[key] = _Answer(time.monotonic(), caller)
            answers.move_to_end(key)
            if len(answers) > MAX_REMEMBERED:
                answers.popitem(last=False)
