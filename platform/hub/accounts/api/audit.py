"""The audit log."""

from __future__ import annotations

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import AuditEvent, AuditEventQuerySet, Role


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    workspace = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True, allow_null=True)
    data = serializers.DictField(read_only=True)  # type: ignore[assignment]

    class Meta:
        model = AuditEvent
        fields = ["id", "workspace", "actor", "action", "object_type", "object_id", "data", "at"]
        read_only_fields = fields


class AuditFilter(filters.FilterSet):
    class Meta:
        model = AuditEvent
        fields = ["action", "actor", "object_type", "object_id"]


class AuditView(generics.ListAPIView[AuditEvent]):
    queryset = AuditEvent.objects.none()
    serializer_class = AuditEventSerializer
    filter_backends = [filters.DjangoFilterBackend]
    filterset_class = AuditFilter

    def get_queryset(self) -> AuditEventQuerySet:
        found = AuditEvent.objects.visible_to(actor_of(self.request)).select_related("workspace")
        if "workspace" in self.request.query_params:
            found = found.filter(workspace=workspace_of(self.request, role=Role.OWNER))
        return found

    @extend_schema(
        operation_id="listAuditEvents",
        tags=["accounts"],
        parameters=[OpenApiParameter("workspace", description="A slug.")],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Who did what, newest first: the workspaces that one owns; superusers also see what concerns no workspace."""
        return super().get(request, *args, **kwargs)
