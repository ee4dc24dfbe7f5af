"""Who may call a view at all. What they see inside it is the querysets' part (``visible_to``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from hub.accounts.actor import actor_of
from hub.accounts.models import ApiToken, TokenKind

if TYPE_CHECKING:  # DRF's views import this module through its settings
    from rest_framework.views import APIView


class IsMember(BasePermission):
    """A person: a signed-in user or a user's token. The default of every view."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return actor_of(request).user is not None


class IsWorker(BasePermission):
    """A worker with its token."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return actor_of(request).is_worker


class IsServingNode(BasePermission):
    """A serving node with its token."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return actor_of(request).is_serving_node


class IsNode(BasePermission):
    """Either of them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        actor = actor_of(request)
        return actor.is_worker or actor.is_serving_node


class HasToken(BasePermission):
    """Any bearer of a token or session: people, nodes and jobs. The view's queryset decides what they see. Not the
    bearer of a predict token, which is shown to serving nodes: it is of no use here."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if isinstance(request.auth, ApiToken):
            return request.auth.kind != TokenKind.PREDICT
        return actor_of(request).user is not None
