"""Who may call a view at all. What they see inside it is the querysets' part (``visible_to``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from hub.accounts.actor import actor_of
from hub.accounts.models import ApiToken

if TYPE_CHECKING:  # DRF's views import this module through its settings
    from rest_framework.views import APIView


class IsMember(BasePermission):
    """A person: a signed-in user or a user's token. The default of every view."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return actor_of(request).user is not None


class IsNode(BasePermission):
    """A worker or serving node with its node token."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return actor_of(request).is_node


class HasToken(BasePermission):
    """Any bearer of a token or session: people, nodes and jobs. The view's queryset decides what they see."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.auth, ApiToken) or actor_of(request).user is not None
