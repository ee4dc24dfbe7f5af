"""Bearer tokens and sessions."""

from __future__ import annotations

import copy
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import QueryDict
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from hub.accounts.models import ApiToken, TokenKind, User
from hub.accounts.services.tokens import note_use
from hub.core.language import say
from pst.messages import Message


class TokenAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer TOKEN``. Only a user token acts as its user; a predict token knows whose it is, too."""

    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, ApiToken] | None:
        words = authentication.get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        if len(words) != 2:
            raise exceptions.AuthenticationFailed(say(Message("The Authorization header must be: Bearer TOKEN")))
        digest = ApiToken.hash(words[1].decode("latin-1"))
        token = ApiToken.objects.usable().select_related("user", "workspace").filter(digest=digest).first()
        if token is None or (token.user is not None and not token.user.is_active):
            raise exceptions.AuthenticationFailed(say(Message("The token is unknown, expired or revoked.")))
        note_use(token=token)
        acts_as = token.user if token.kind == TokenKind.USER else None
        return acts_as or AnonymousUser(), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="sparsewright"'


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session with its CSRF check; answers 401, not 403, to the signed-out."""

    def enforce_csrf(self, request: Request) -> None:
        """By the header alone: Django looks for a form's field first, and would read the body of whoever asks."""
        asked = copy.copy(request._request)
        asked.POST = QueryDict()
        super().enforce_csrf(asked)  # type: ignore[arg-type]

    def authenticate_header(self, request: Request) -> str:
        return "Session"


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "hub.accounts.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "hub.accounts.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
