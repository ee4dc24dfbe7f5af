"""Set-up, sign-in and sign-out, and who one is."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of, actor_of_user
from hub.accounts.authentication import SessionAuthentication
from hub.accounts.models import SLUG, Membership, Role, TokenKind, User
from hub.accounts.permissions import HasToken
from hub.accounts.services import users
from hub.accounts.throttles import SignInThrottle
from hub.core.errors import Unauthorized
from hub.core.parsers import JSONParser
from pst.messages import Message

MAX_PASSWORD = 200
ANONYMOUS_BODY = 64 * 1024


class SmallBody:
    """A view that anybody may send to takes no more than its few fields need."""

    @staticmethod
    def largest_body() -> int:
        return ANONYMOUS_BODY


class SetupStateSerializer(serializers.Serializer[Any]):
    needed = serializers.BooleanField(help_text="No user exists yet.")
    enabled = serializers.BooleanField(help_text="A set-up code is configured, so that the web can make the first one.")


class SetupSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=200)
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=MAX_PASSWORD, trim_whitespace=False)
    workspace = serializers.CharField(max_length=39, validators=[SLUG])
    workspace_name = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")


class SignInSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=MAX_PASSWORD, trim_whitespace=False)


class PasswordSerializer(serializers.Serializer[Any]):
    current_password = serializers.CharField(max_length=MAX_PASSWORD, trim_whitespace=False)
    new_password = serializers.CharField(max_length=MAX_PASSWORD, trim_whitespace=False)


class MeUserSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField(allow_blank=True)
    is_superuser = serializers.BooleanField()


class MeWorkspaceSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices)


class MeSerializer(serializers.Serializer[Any]):
    user = MeUserSerializer(allow_null=True)
    kind = serializers.ChoiceField(choices=TokenKind.choices)
    workspaces = MeWorkspaceSerializer(many=True)
    csrf_token = serializers.CharField(
        allow_null=True, help_text="To be sent as X-CSRFToken with every change in a session; null for tokens."
    )


def me(request: Request) -> dict[str, Any]:
    """Who is asking, which workspaces are within reach and in which role."""
    actor = actor_of(request)
    user = actor.user
    members = Membership.objects.filter(user=user, workspace__in=actor.roles).select_related("workspace")
    return {
        "user": user
        and {"id": user.pk, "username": user.username, "email": user.email, "is_superuser": user.is_superuser},
        "kind": actor.token.kind if actor.token is not None else TokenKind.USER,
        "workspaces": [
            {"slug": item.workspace.slug, "name": item.workspace.name, "role": actor.roles[item.workspace_id]}
            for item in members
        ],
        "csrf_token": get_token(request._request) if actor.token is None else None,
    }


def _sign_in(request: Request, user: User) -> dict[str, Any]:
    login(request._request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.user = user
    request._actor = actor_of_user(user)  # type: ignore[attr-defined]
    return me(request)


class SetupView(SmallBody, APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    # JSON alone, here and at sign-in: a form of another site cannot send it.
    parser_classes = [JSONParser]

    def get_throttles(self) -> list[Any]:
        return [SignInThrottle()] if self.request.method == "POST" else super().get_throttles()

    @extend_schema(operation_id="getSetup", tags=["accounts"], responses=SetupStateSerializer)
    def get(self, request: Request) -> Response:
        """Whether this installation still needs its first user."""
        return Response({"needed": users.setup_needed(), "enabled": bool(settings.SETUP_CODE)})

    @extend_schema(operation_id="setUp", tags=["accounts"], request=SetupSerializer, responses={201: MeSerializer})
    def post(self, request: Request) -> Response:
        """Make the first user, a superuser who owns the first workspace, and sign in."""
        given = SetupSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        user = users.set_up(**given.validated_data)
        return Response(_sign_in(request, user), status=status.HTTP_201_CREATED)


class SessionView(SmallBody, APIView):
    parser_classes = [JSONParser]

    def get_authenticators(self) -> list[Any]:
        # Nobody has a session, and so no CSRF token, before signing in.
        return [] if self.request is not None and self.request.method == "POST" else [SessionAuthentication()]

    def get_permissions(self) -> list[Any]:
        return [AllowAny()]

    def get_throttles(self) -> list[Any]:
        return [SignInThrottle()] if self.request.method == "POST" else super().get_throttles()

    @extend_schema(operation_id="signIn", tags=["accounts"], request=SignInSerializer, responses=MeSerializer, auth=[])
    def post(self, request: Request) -> Response:
        """Sign in with a name and a password; the answer sets the session's cookie."""
        given = SignInSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        user = authenticate(request._request, **given.validated_data)
        if not isinstance(user, User):
            raise Unauthorized(Message("The user name or the password is wrong."))
        return Response(_sign_in(request, user))

    @extend_schema(operation_id="signOut", tags=["accounts"], request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Sign out."""
        logout(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MeView(APIView):
    permission_classes = [HasToken]

    @extend_schema(operation_id="getMe", tags=["accounts"], responses=MeSerializer)
    def get(self, request: Request) -> Response:
        """Who one is: the user, the kind of token, the workspaces within reach."""
        return Response(me(request))


class PasswordView(APIView):
    throttle_classes = [SignInThrottle]

    @extend_schema(operation_id="changePassword", tags=["accounts"], request=PasswordSerializer, responses={204: None})
    def put(self, request: Request) -> Response:
        """Change one's own password. Other sessions end; this one goes on."""
        given = PasswordSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        actor = actor_of(request)
        if actor.user is None:
            raise AssertionError("IsMember let somebody through who is no user")
        users.change_password(
            actor=actor,
            user=actor.user,
            current=given.validated_data["current_password"],
            new=given.validated_data["new_password"],
        )
        update_session_auth_hash(request._request, actor.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
