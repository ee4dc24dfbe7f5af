"""API tokens of people and nodes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import NODE_KINDS, ApiToken, ApiTokenQuerySet, Role, TokenKind
from hub.accounts.services import tokens

KINDS = [(kind.value, kind.label) for kind in TokenKind if kind != TokenKind.JOB]
"""Those that people make."""


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    workspace = serializers.SlugRelatedField[Any](
        slug_field="slug", read_only=True, allow_null=True, help_text="Null: a node of the whole installation."
    )

    class Meta:
        model = ApiToken
        fields = ["id", "kind", "name", "prefix", "workspace", "role", "created_at", "expires_at", "last_used_at"]
        read_only_fields = fields


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    kind = serializers.ChoiceField(
        choices=KINDS,
        default=TokenKind.USER.value,
        help_text="user: oneself. predict: only asks deployments; serving nodes take no other. worker, serve: a node.",
    )
    workspace = serializers.CharField(
        required=False, allow_null=True, help_text="Its slug. Null for a node: the whole installation."
    )
    role = serializers.ChoiceField(
        choices=Role.choices, required=False, help_text="At most one's own role, which is the default."
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class IssuedTokenSerializer(TokenSerializer):
    token = serializers.CharField(read_only=True, help_text="The secret; it is shown this once.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]
        read_only_fields = fields


class TokenFilter(django_filters.FilterSet):
    usable_in = django_filters.CharFilter(method="find_usable", label="Slug: those for it and for every workspace.")
    kind = django_filters.ChoiceFilter(choices=KINDS)
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label="In the name.")

    class Meta:
        model = ApiToken
        fields: list[str] = []

    def find_usable(self, tokens: ApiTokenQuerySet, name: str, value: str) -> QuerySet[ApiToken]:
        return tokens.filter(Q(workspace=None) | Q(workspace__slug=value))


class TokensView(generics.ListAPIView[ApiToken]):
    serializer_class = TokenSerializer
    filterset_class = TokenFilter
    ordering_fields = ["created_at", "name", "last_used_at"]
    queryset = ApiToken.objects.none()

    def get_queryset(self) -> ApiTokenQuerySet:
        return ApiToken.objects.visible_to(actor_of(self.request)).filter(revoked_at=None).select_related("workspace")

    @extend_schema(operation_id="listTokens", tags=["accounts"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One's own tokens, and the node tokens of the workspaces that one owns. Secrets are never shown again."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="createToken",
        tags=["accounts"],
        request=NewTokenSerializer,
        responses={201: IssuedTokenSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a token for oneself, for predictions alone, or for a worker or serving node."""
        given = NewTokenSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        data = given.validated_data
        kind = TokenKind(data["kind"])
        everywhere = kind in NODE_KINDS and "workspace" in data and data["workspace"] is None
        token, secret = tokens.create_token(
            actor=actor_of(request),
            kind=kind,
            name=data["name"],
            workspace=None if everywhere else workspace_of(request, role=Role.VIEWER),
            role=Role(data["role"]) if "role" in data else None,
            expires_at=data.get("expires_at"),
        )
        token.token = secret  # type: ignore[attr-defined]
        return Response(IssuedTokenSerializer(token).data, status=status.HTTP_201_CREATED)


class TokenView(APIView):
    @extend_schema(operation_id="revokeToken", tags=["accounts"], responses={204: None})
    def delete(self, request: Request, token_id: UUID) -> Response:
        """Revoke a token; it stops working at once."""
        actor = actor_of(request)
        token = get_object_or_404(ApiToken.objects.visible_to(actor).filter(revoked_at=None), pk=token_id)
        tokens.revoke_token(actor=actor, token=token)
        return Response(status=status.HTTP_204_NO_CONTENT)
