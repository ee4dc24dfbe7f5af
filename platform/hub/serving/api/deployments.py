"""Deployments: which version of a model serving nodes answer with, and how far they are."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import Role
from hub.core.errors import NotFound, UserError
from hub.core.fields import SentenceField
from hub.core.language import say
from hub.registry.models import MODEL_NAME, Model, ModelVersion
from hub.serving.models import Deployment, DeploymentQuerySet, HeldState, Placement
from hub.serving.services import callers, deployments
from pst.messages import Message


class WantedSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField()
    commit = serializers.CharField()


class PlacementSerializer(serializers.ModelSerializer[Placement]):
    node = serializers.CharField(source="node.name")
    url = serializers.CharField(source="node.url")
    state = serializers.ChoiceField(choices=HeldState.choices)
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    commit = serializers.CharField(source="version.commit", allow_null=True, default=None)
    online = serializers.BooleanField(source="node.online")
    message = SentenceField()

    class Meta:
        model = Placement
        fields = ["node", "url", "state", "version", "commit", "message", "changed_at", "online"]
        read_only_fields = fields


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    workspace = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    model = serializers.CharField(source="model.repo_id")
    wanted = serializers.SerializerMethodField()
    placements = PlacementSerializer(many=True)
    ready = serializers.SerializerMethodField()
    offered = serializers.SerializerMethodField()
    note = serializers.SerializerMethodField()

    class Meta:
        model = Deployment
        fields = [
            "id",
            "workspace",
            "name",
            "model",
            "revision",
            "replicas",
            "wanted",
            "placements",
            "ready",
            "offered",
            "note",
            "created_at",
        ]
        read_only_fields = fields

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wanted: dict[UUID, ModelVersion | None] = {}  # two fields ask for it

    def _version(self, deployment: Deployment) -> ModelVersion | None:
        if deployment.pk not in self._wanted:
            self._wanted[deployment.pk] = deployments.wanted_version(deployment)
        return self._wanted[deployment.pk]

    @extend_schema_field(WantedSerializer(allow_null=True))
    def get_wanted(self, deployment: Deployment) -> dict[str, Any] | None:
        """The version that the nodes shall hold: the one that the revision names now, unless it is only offered."""
        version = self._version(deployment)
        return None if version is None else {"version": version.number, "commit": version.commit}

    def _offered(self, deployment: Deployment) -> ModelVersion | None:
        named = deployments.named_version(deployment)
        return None if named == self._version(deployment) else named

    @extend_schema_field(WantedSerializer(allow_null=True))
    def get_offered(self, deployment: Deployment) -> dict[str, Any] | None:
        """What the revision names now, where its labels are others than those that the nodes answer with: send the
        revision again to move there."""
        version = self._offered(deployment)
        return None if version is None else {"version": version.number, "commit": version.commit}

    def get_note(self, deployment: Deployment) -> str:
        """Why the nodes do not follow; empty where they do."""
        stays, offered = self._version(deployment), self._offered(deployment)
        if stays is None or offered is None:
            return ""
        note = Message(
            "{revision} names v{new} now, whose labels are not those of v{old}: {labels}. "
            "The nodes stay with v{old} until somebody confirms the change.",
            revision=deployment.revision,
            new=offered.number,
            old=stays.number,
            labels=", ".join(offered.labels[: deployments.SHOWN_LABELS]) or "–",
        )
        return say(note)

    def get_ready(self, deployment: Deployment) -> bool:
        """As many online nodes as asked for answer with the wanted version."""
        version = self._version(deployment)
        ready = [
            item
            for item in deployment.placements.all()
            if version is not None
            and item.state == HeldState.READY
            and item.version_id == version.pk
            and item.node.online
        ]
        return len(ready) >= deployment.replicas


class NewDeploymentSerializer(serializers.Serializer[Any]):
    workspace = serializers.CharField(required=False, help_text="Its slug; needed when one is in several.")
    name = serializers.CharField(
        max_length=96, validators=[MODEL_NAME], required=False, help_text="The model's name unless given."
    )
    model = serializers.RegexField(r"^[^/\s]+/[^/\s]+$", max_length=140, help_text="workspace/name.")
    revision = serializers.CharField(
        max_length=63,
        required=False,
        help_text="An alias, v3, or a commit; the number of the newest version unless given.",
    )
    replicas = serializers.IntegerField(min_value=1, max_value=deployments.MAX_REPLICAS, default=1)


class DeploymentChangeSerializer(serializers.Serializer[Any]):
    revision = serializers.CharField(max_length=63, required=False)
    replicas = serializers.IntegerField(min_value=1, max_value=deployments.MAX_REPLICAS, required=False)


class DeploymentFilter(django_filters.FilterSet):
    workspace = django_filters.CharFilter(field_name="workspace__slug")
    model = django_filters.CharFilter(method="find_model", label="workspace/name.")
    search = django_filters.CharFilter(method="find", label="In the deployment's or the model's name.")

    class Meta:
        model = Deployment
        fields: list[str] = []

    def find_model(self, deployments: DeploymentQuerySet, name: str, value: str) -> QuerySet[Deployment]:
        namespace, _, model = value.partition("/")
        return deployments.filter(model__workspace__slug=namespace, model__name=model)

    def find(self, deployments: DeploymentQuerySet, name: str, value: str) -> QuerySet[Deployment]:
        return deployments.filter(Q(name__icontains=value) | Q(model__name__icontains=value))


def _visible(request: Request) -> DeploymentQuerySet:
    deployments: DeploymentQuerySet = Deployment.objects.visible_to(actor_of(request))
    return deployments.select_related("workspace", "model__workspace", "version").prefetch_related(
        "placements__node", "placements__version"
    )


class DeploymentsView(generics.ListAPIView[Deployment]):
    serializer_class = DeploymentSerializer
    filterset_class = DeploymentFilter
    ordering_fields = ["created_at", "name"]
    queryset = Deployment.objects.none()

    def get_queryset(self) -> DeploymentQuerySet:
        return _visible(self.request)

    @extend_schema(operation_id="listDeployments", tags=["serving"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Deployments of one's workspaces, newest first."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="createDeployment",
        tags=["serving"],
        request=NewDeploymentSerializer,
        responses={201: DeploymentSerializer},
    )
    def post(self, request: Request) -> Response:
        """Have serving nodes answer with a version of a model: the newest one, and that for good, unless a revision is
        given. With an alias (or latest) they follow it when it moves, as long as the labels stay the same."""
        given = NewDeploymentSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        data = given.validated_data
        actor = actor_of(request)
        workspace = workspace_of(request, role=Role.EDITOR)
        namespace, _, name = data["model"].partition("/")
        model = (
            Model.objects.visible_to(actor)
            .select_related("workspace")
            .filter(workspace__slug=namespace, name=name)
            .first()
        )
        if model is None:
            raise NotFound(
                Message("There is no model {model} that you can see.", model=data["model"]),
                details=[{"field": "model", "message": Message("unknown")}],
            )
        deployment = deployments.create_deployment(
            actor=actor,
            workspace=workspace,
            model=model,
            revision=data.get("revision", ""),
            name=data.get("name", ""),
            replicas=data["replicas"],
        )
        answer = DeploymentSerializer(_visible(request).get(pk=deployment.pk)).data
        return Response(answer, status=status.HTTP_201_CREATED)


class DeploymentView(generics.GenericAPIView[Deployment]):
    serializer_class = DeploymentSerializer
    queryset = Deployment.objects.none()

    def _deployment(self, deployment_id: UUID) -> Deployment:
        found: Deployment = get_object_or_404(_visible(self.request), pk=deployment_id)
        return found

    @extend_schema(operation_id="getDeployment", tags=["serving"])
    def get(self, request: Request, deployment_id: UUID) -> Response:
        """The deployment and how far each of its nodes is."""
        return Response(DeploymentSerializer(self._deployment(deployment_id)).data)

    @extend_schema(
        operation_id="changeDeployment",
        tags=["serving"],
        request=DeploymentChangeSerializer,
        responses={200: DeploymentSerializer},
    )
    def patch(self, request: Request, deployment_id: UUID) -> Response:
        """Follow another alias or version, or be on more or fewer nodes. The same revision again confirms the labels
        of the version that is offered."""
        deployment = self._deployment(deployment_id)
        actor = actor_of(request)
        actor.require(deployment.workspace, Role.EDITOR)
        given = DeploymentChangeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        if not given.validated_data:
            raise UserError(Message("Send a revision, a number of replicas, or both."))
        deployments.change_deployment(actor=actor, deployment=deployment, **given.validated_data)
        return Response(DeploymentSerializer(self._deployment(deployment_id)).data)

    @extend_schema(operation_id="deleteDeployment", tags=["serving"], responses={204: None})
    def delete(self, request: Request, deployment_id: UUID) -> Response:
        """Stop serving; the nodes let the model go at their next heartbeat."""
        deployment = self._deployment(deployment_id)
        actor = actor_of(request)
        actor.require(deployment.workspace, Role.EDITOR)
        deployments.delete_deployment(actor=actor, deployment=deployment)
        return Response(status=204)


class CallerTokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="To send to the serving nodes of this deployment; it can do nothing else.")
    expires_at = serializers.DateTimeField()


class CallerTokenView(APIView):
    @extend_schema(
        operation_id="createCallerToken", tags=["serving"], request=None, responses={201: CallerTokenSerializer}
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """A token for asking the serving nodes of this deployment for some minutes. For a program that asks for
        longer, make a token of the kind predict."""
        actor = actor_of(request)
        deployments = Deployment.objects.visible_to(actor).select_related("workspace")
        deployment = get_object_or_404(deployments, pk=deployment_id)
        token, secret = callers.issue(actor=actor, deployment=deployment, name="caller")
        return Response({"token": secret, "expires_at": token.expires_at}, status=status.HTTP_201_CREATED)
