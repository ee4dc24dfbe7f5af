"""Models and their aliases."""

from __future__ import annotations

import re
from typing import Any

import django_filters
from django.db.models import OuterRef, Prefetch, Q, QuerySet, Subquery
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.accounts.models import Role
from hub.registry import signing
from hub.registry.api.serializers import AliasSerializer, ModelRowSerializer, ModelSerializer
from hub.registry.models import MODEL_NAME, Model, ModelKind, ModelQuerySet, ModelVersion
from hub.registry.services import aliases, models, versions


def shown_versions() -> QuerySet[ModelVersion]:
    """Versions with all that their serializer reads."""
    return ModelVersion.objects.select_related("created_by").prefetch_related("files__blob", "aliases")


def listed_versions() -> QuerySet[ModelVersion]:
    """Versions with all that their row in a list reads."""
    return shown_versions().defer("manifest", "report")


def with_newest(models: QuerySet[Model], versions: QuerySet[ModelVersion]) -> QuerySet[Model]:
    """Models with their aliases, and ``newest``: a list of the newest of ``versions``, if there is one."""
    newest = ModelVersion.objects.filter(model=OuterRef("model")).order_by("-number").values("pk")[:1]
    return models.select_related("workspace").prefetch_related(
        Prefetch("aliases__version", ModelVersion.objects.only("number")),
        Prefetch("versions", versions.filter(pk=Subquery(newest)), to_attr="newest"),
    )


def find_model(request: Request, namespace: str, name: str) -> Model:
    """The model of that name that the person sees; Http404 otherwise."""
    if not re.match(MODEL_NAME.regex, name):
        raise Http404
    model = (
        Model.objects.visible_to(actor_of(request))
        .select_related("workspace")
        .filter(workspace__slug=namespace, name=name)
        .first()
    )
    if model is None:
        raise Http404
    return model


class ModelFilter(django_filters.FilterSet):
    workspace = django_filters.CharFilter(field_name="workspace__slug")
    kind = django_filters.ChoiceFilter(choices=ModelKind.choices)
    search = django_filters.CharFilter(method="find", label="In the name or the description.")

    class Meta:
        model = Model
        fields: list[str] = []

    def find(self, models: ModelQuerySet, name: str, value: str) -> QuerySet[Model]:
        return models.filter(Q(name__icontains=value) | Q(description__icontains=value))


class ModelsView(generics.ListAPIView[Model]):
    serializer_class = ModelRowSerializer
    filterset_class = ModelFilter
    ordering_fields = ["created_at", "name"]
    queryset = Model.objects.none()

    def get_queryset(self) -> QuerySet[Model]:
        return with_newest(Model.objects.visible_to(actor_of(self.request)), listed_versions())

    @extend_schema(operation_id="listModels", tags=["registry"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Models of one's workspaces and the installation's base models."""
        return super().get(request, *args, **kwargs)


class ModelView(APIView):
    @extend_schema(operation_id="getModel", tags=["registry"], responses={200: ModelSerializer})
    def get(self, request: Request, namespace: str, name: str) -> Response:
        """A model with its newest version and its aliases."""
        found = with_newest(Model.objects.filter(pk=find_model(request, namespace, name).pk), shown_versions()).get()
        return Response(ModelSerializer(found).data)

    @extend_schema(operation_id="deleteModel", tags=["registry"], responses={204: None})
    def delete(self, request: Request, namespace: str, name: str) -> Response:
        """Delete a model and all its versions; 409 while a deployment or a job needs it."""
        model = find_model(request, namespace, name)
        actor = actor_of(request)
        actor.require(model.workspace, Role.OWNER)
        models.delete_model(actor=actor, model=model)
        return Response(status=204)


class AliasesView(APIView):
    @extend_schema(operation_id="listAliases", tags=["registry"], responses={200: AliasSerializer(many=True)})
    def get(self, request: Request, namespace: str, name: str) -> Response:
        """The model's aliases; not paged, since a model has a handful."""
        aliases = find_model(request, namespace, name).aliases.select_related("version", "moved_by")
        return Response(AliasSerializer(aliases, many=True).data)


class AliasTargetSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="The version's number.")


class AliasView(APIView):
    @extend_schema(
        operation_id="moveAlias", tags=["registry"], request=AliasTargetSerializer, responses={200: AliasSerializer}
    )
    def put(self, request: Request, namespace: str, name: str, alias: str) -> Response:
        """Point an alias at a version; it is made when it is missing. Deployments that follow it roll over."""
        model = find_model(request, namespace, name)
        actor = actor_of(request)
        actor.require(model.workspace, Role.EDITOR)
        given = AliasTargetSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        version = versions.resolve(model, f"v{given.validated_data['version']}")
        moved = aliases.move_alias(actor=actor, model=model, name=alias, version=version)
        return Response(AliasSerializer(moved).data)

    @extend_schema(operation_id="deleteAlias", tags=["registry"], responses={204: None})
    def delete(self, request: Request, namespace: str, name: str, alias: str) -> Response:
        """Delete an alias; 409 while a deployment follows it."""
        model = find_model(request, namespace, name)
        actor = actor_of(request)
        actor.require(model.workspace, Role.EDITOR)
        aliases.delete_alias(actor=actor, model=model, name=alias)
        return Response(status=204)


class SigningKeySerializer(serializers.Serializer[Any]):
    algorithm = serializers.CharField()
    public_key = serializers.CharField(help_text="Base64 of the 32 bytes.")
    pem = serializers.CharField()


class SigningKeyView(APIView):
    permission_classes = [AllowAny]

    @extend_schema(operation_id="getSigningKey", tags=["registry"], responses={200: SigningKeySerializer})
    def get(self, request: Request) -> Response:
        """The public key of the signatures: ``manifest.sig`` is the base64 of a signature over ``manifest.json``."""
        return Response(signing.public_key())
