"""Nodes as people see them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters
from django.db.models import Prefetch, Q, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.core.errors import NotFound
from hub.core.fields import SentenceField
from hub.serving.models import Deployment, HeldState, Node, NodeKind, NodeQuerySet, Placement
from hub.serving.services import nodes
from pst.messages import Message
from pst_client.contract import NodeProfile


class HoldingSerializer(serializers.ModelSerializer[Placement]):
    deployment = serializers.CharField(source="deployment.id", help_text="The deployment's id.")
    name = serializers.CharField(source="deployment.__str__", help_text="workspace/deployment.")
    model = serializers.CharField(source="deployment.model.repo_id")
    state = serializers.ChoiceField(choices=HeldState.choices)
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    commit = serializers.CharField(source="version.commit", allow_null=True, default=None)
    message = SentenceField()

    class Meta:
        model = Placement
        fields = ["deployment", "name", "model", "state", "version", "commit", "message", "changed_at"]
        read_only_fields = fields


class ProfileSummarySerializer(serializers.Serializer[dict[str, Any]]):
    measured_at = serializers.DateTimeField()
    engine = serializers.CharField(source="times.engine", help_text="What computes the models.")
    device = serializers.CharField(source="times.device")
    threads = serializers.IntegerField(source="times.threads")


class NodeSerializer(serializers.ModelSerializer[Node]):
    kind = serializers.ChoiceField(choices=NodeKind.choices)
    workspace = serializers.SlugRelatedField[Any](
        slug_field="slug", read_only=True, allow_null=True, help_text="Null: a node of the whole installation."
    )
    url = serializers.CharField(help_text="Where a serving node answers; empty for workers.")
    queues = serializers.ListField(child=serializers.CharField())
    hardware = serializers.DictField()
    load = serializers.DictField()
    profile = ProfileSummarySerializer(
        allow_null=True, help_text="Of a serving node that has measured itself; times can be planned for it."
    )
    online = serializers.BooleanField()
    holds = HoldingSerializer(source="seen", many=True)

    class Meta:
        model = Node
        fields = [
            "id",
            "name",
            "kind",
            "workspace",
            "version",
            "queues",
            "url",
            "hardware",
            "load",
            "profile",
            "online",
            "registered_at",
            "last_seen_at",
            "holds",
        ]
        read_only_fields = fields


class NodeFilter(django_filters.FilterSet):
    workspace = django_filters.CharFilter(field_name="workspace__slug")
    usable_in = django_filters.CharFilter(method="find_usable", label="Slug: its nodes and the installation's.")
    kind = django_filters.ChoiceFilter(choices=NodeKind.choices)
    online = django_filters.BooleanFilter(method="find_online", label="Seen of late, or not.")
    search = django_filters.CharFilter(field_name="name", lookup_expr="icontains", label="In the name.")

    class Meta:
        model = Node
        fields: list[str] = []

    def find_usable(self, nodes: NodeQuerySet, name: str, value: str) -> QuerySet[Node]:
        return nodes.filter(Q(workspace=None) | Q(workspace__slug=value))

    def find_online(self, nodes: NodeQuerySet, name: str, value: bool) -> QuerySet[Node]:
        online = Node.objects.online()
        return nodes.filter(pk__in=online) if value else nodes.exclude(pk__in=online)


class NodesView(generics.ListAPIView[Node]):
    serializer_class = NodeSerializer
    filterset_class = NodeFilter
    ordering_fields = ["name", "kind", "last_seen_at"]
    queryset = Node.objects.none()

    def get_queryset(self) -> NodeQuerySet:
        actor = actor_of(self.request)
        # An installation-wide node serves others too: their deployments are not shown.
        mine = Placement.objects.filter(deployment__in=Deployment.objects.visible_to(actor)).select_related(
            "deployment__workspace", "deployment__model__workspace", "version"
        )
        return (
            Node.objects.visible_to(actor)
            .select_related("workspace")
            .prefetch_related(Prefetch("placements", queryset=mine, to_attr="seen"))
        )

    @extend_schema(operation_id="listNodes", tags=["serving"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Workers and serving nodes of one's workspaces and of the installation, online or not."""
        return super().get(request, *args, **kwargs)


class NodeProfileView(APIView):
    @extend_schema(operation_id="getNodeProfile", tags=["serving"], responses={200: NodeProfile})
    def get(self, request: Request, node_id: UUID) -> Response:
        """What a serving node measured of itself. 404 no_profile where it has not yet."""
        node = get_object_or_404(Node.objects.visible_to(actor_of(request)), pk=node_id)
        if node.profile is None:
            raise NotFound(Message("The node {node} has not measured itself.", node=node.name), code="no_profile")
        return Response(node.profile)


class NodeView(APIView):
    @extend_schema(operation_id="forgetNode", tags=["serving"], responses={204: None})
    def delete(self, request: Request, node_id: UUID) -> Response:
        """Forget a node that is gone; what it served moves to others. One that is alive registers again."""
        actor = actor_of(request)
        node = get_object_or_404(Node.objects.visible_to(actor).select_related("workspace"), pk=node_id)
        nodes.forget_node(actor=actor, node=node)
        return Response(status=204)
