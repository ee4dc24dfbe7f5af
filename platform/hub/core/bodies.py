"""How large the body of a request may be: asked before anything of it is read, by whatever part would read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse

from hub.core.errors import body
from pst.messages import Message


class BodyLimitMiddleware:
    """Refuses a body that is longer than the view takes: a view's class says so by ``largest_body()`` (bytes), and all
    others take what a JSON body may have. It stands before whatever reads forms, such as Django's CSRF check."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> JsonResponse | None:
        asked = getattr(getattr(view, "cls", None), "largest_body", None)
        most: int = settings.JSON_MAX_BYTES if asked is None else asked()
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            message = Message("The body of this request may have at most {most:,} bytes.", most=most)
            return JsonResponse(body("too_large", message), status=413)
        return None
