"""Request rates: per user for people, per address for the anonymous, tighter for sign-in; none for nodes and jobs.

A request is let through and counted in one step, in Redis: however many come at once, no more pass than may.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from hub.accounts.actor import actor_of
from hub.core.language import say
from pst.messages import Message

if TYPE_CHECKING:  # DRF's views import this module through its settings
    from rest_framework.views import APIView


@cache
def _limiter() -> MovingWindowRateLimiter:
    redis: dict[str, Any] = settings.CACHES["default"]
    timeouts = {name: value for name, value in redis["OPTIONS"].items() if name.endswith("timeout")}
    prefix = f"{redis['KEY_PREFIX']}:rate"
    return MovingWindowRateLimiter(RedisStorage(redis["LOCATION"], key_prefix=prefix, **timeouts))


class CountedThrottle(SimpleRateThrottle):
    """Django REST framework's own reads the count and writes it back, and of many requests at once counts few."""

    num_requests: int
    duration: int

    def allow_request(self, request: Request, view: APIView) -> bool:
        key = self.get_cache_key(request, view)
        if key is None:
            return True
        self.counted = RateLimitItemPerSecond(self.num_requests, self.duration), key
        return _limiter().hit(*self.counted)

    def wait(self) -> float:
        return max(0.0, _limiter().get_window_stats(*self.counted).reset_time - time.time())


class UserThrottle(CountedThrottle):
    scope = "user"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        user = actor_of(request).user
        return None if user is None else self.cache_format % {"scope": self.scope, "ident": user.pk}


class AnonymousThrottle(CountedThrottle):
    scope = "anonymous"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        actor = actor_of(request)
        if actor.user is not None or actor.token is not None:
            return None
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class SignInThrottle(CountedThrottle):
    scope = "sign_in"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


def throttled_sign_in(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A sign-in page that is no view of the API, with the API's limit: they share one count."""

    @wraps(view)
    def limited(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        from rest_framework.views import APIView  # it imports this module through its settings

        throttle = SignInThrottle()
        if request.method == "POST" and not throttle.allow_request(Request(request), APIView()):
            wait = int(throttle.wait()) + 1
            return HttpResponse(
                say(Message("Too many attempts to sign in; try again in {wait} seconds.", wait=wait)),
                status=429,
                content_type="text/plain; charset=utf-8",
                headers={"Retry-After": str(wait)},
            )
        return view(request, *args, **kwargs)

    return limited
