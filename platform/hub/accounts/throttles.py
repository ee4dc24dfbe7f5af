"""Request rates: per user for people, per address for the anonymous, tighter for sign-in; none for nodes and jobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from hub.accounts.actor import actor_of

if TYPE_CHECKING:  # DRF's views import this module through its settings
    from rest_framework.views import APIView


class UserThrottle(SimpleRateThrottle):
    scope = "user"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        user = actor_of(request).user
        return None if user is None else self.cache_format % {"scope": self.scope, "ident": user.pk}


class AnonymousThrottle(SimpleRateThrottle):
    scope = "anonymous"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        actor = actor_of(request)
        if actor.user is not None or actor.token is not None:
            return None
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class SignInThrottle(SimpleRateThrottle):
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
            wait = int(throttle.wait() or 0) + 1
            return HttpResponse(
                f"Too many attempts to sign in; try again in {wait} seconds.\n",
                status=429,
                content_type="text/plain",
                headers={"Retry-After": str(wait)},
            )
        return view(request, *args, **kwargs)

    return limited
