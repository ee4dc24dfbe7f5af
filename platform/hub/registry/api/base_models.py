"""Base models: the list that a job chooses from, and the upload of one's own."""

from __future__ import annotations

from typing import Any

import django_filters
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import Role
from hub.accounts.uploading import EditorsUpload
from hub.core.errors import UserError
from hub.registry.api.folders import FolderParser
from hub.registry.api.models import shown_versions, with_newest
from hub.registry.api.serializers import BaseModelSerializer
from hub.registry.models import MODEL_NAME, Model, ModelKind
from hub.registry.services.base_models import Source, add_base_model
from pst.messages import Message

MAX_FILES = 100
FORM_BYTES = 1024 * 1024
"""Of a form beside its files."""


class UploadSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=96, validators=[MODEL_NAME])
    workspace = serializers.CharField(required=False, help_text="Its slug; needed when one is in several.")
    title = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)
    license = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    files = serializers.ListField(
        child=serializers.FileField(allow_empty_file=True),
        allow_empty=False,
        max_length=MAX_FILES,
        help_text="config.json, *.safetensors and the tokenizer's files, one part each.",
    )


class UploadedBaseModelSerializer(BaseModelSerializer):
    """A base model that has just come in."""

    left_out = serializers.ListField(
        child=serializers.CharField(), help_text="Files that were sent and belong to no base model: they were not kept."
    )


class BaseModelFilter(django_filters.FilterSet):
    workspace = django_filters.CharFilter(field_name="workspace__slug")

    class Meta:
        model = Model
        fields: list[str] = []


class BaseModelsView(EditorsUpload, generics.ListAPIView[Model]):
    serializer_class = BaseModelSerializer
    filterset_class = BaseModelFilter
    ordering_fields = ["name", "created_at"]
    queryset = Model.objects.none()
    parser_classes = [FolderParser]

    @staticmethod
    def largest_body() -> int:
        return int(settings.BASE_MODEL_MAX_BYTES) + FORM_BYTES

    def get_queryset(self) -> QuerySet[Model]:
        models = Model.objects.visible_to(actor_of(self.request)).filter(kind=ModelKind.BASE, versions__number=1)
        return with_newest(models, shown_versions()).order_by("name")

    @extend_schema(operation_id="listBaseModels", tags=["registry"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The pretrained models that a job can start from: the installation's, and one's workspaces' own."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="uploadBaseModel",
        tags=["registry"],
        request={"multipart/form-data": UploadSerializer},
        responses={201: UploadedBaseModelSerializer},
    )
    def post(self, request: Request) -> Response:
        """Upload a pretrained model: safetensors only, since other weight files can run code. The same name again
        makes its next version, unless the files are those of the newest one. Config, weights and tokenizer must belong
        together; other files of a public repository are left out. The files' names may have folders: those beside the
        config.json that has a model_type are the model's."""
        given = UploadSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        data = given.validated_data
        workspace = workspace_of(request, role=Role.EDITOR)
        uploads: list[UploadedFile[Any]] = data["files"]
        version, _, left_out = add_base_model(
            workspace=workspace,
            name=data["name"],
            sources=[_source(upload) for upload in uploads],
            user=actor_of(request).user,
            title=data["title"],
            license=data["license"],
        )
        found = with_newest(Model.objects.filter(pk=version.model_id), shown_versions()).get()
        answer = BaseModelSerializer(found).data | {"left_out": left_out}
        return Response(answer, status=status.HTTP_201_CREATED)


def _source(upload: UploadedFile[Any]) -> Source:
    if upload.name is None or upload.size is None or upload.file is None:
        raise UserError(
            Message("Each file needs a name."),
            details=[{"field": "files", "message": Message("a file without a name")}],
        )
    return Source(getattr(upload, "path", upload.name), upload.file, upload.size)
