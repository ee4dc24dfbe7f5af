"""The REST API of data sets."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.shortcuts import get_object_or_404
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import Role
from hub.accounts.uploading import EditorsUpload
from hub.core.errors import Conflict, NotFound, TooLarge, UserError
from hub.core.pagination import Pages
from hub.core.parsers import JSONParser
from hub.datasets.api.pages import RowPages
from hub.datasets.api.serializers import (
    OPTION_NAMES,
    DatasetFromUploadsSerializer,
    DatasetListedSerializer,
    DatasetPatchSerializer,
    DatasetPreviewSerializer,
    DatasetPreviewUploadSerializer,
    DatasetRowQuerySerializer,
    DatasetRowSerializer,
    DatasetSampleSerializer,
    DatasetSerializer,
    DatasetUploadSerializer,
)
from hub.datasets.formats.columns import suggest
from hub.datasets.formats.problems import Problems, Unreadable
from hub.datasets.formats.tables import open_table
from hub.datasets.models import Dataset, DatasetQuerySet, DatasetState, Split
from hub.datasets.services import datasets, uploads
from pst.messages import Message, word

PREVIEW_ROWS = 10
PREVIEW_BYTES = 4 * 1024 * 1024
"""Of a file, from its beginning: enough for the rows that are shown and for finding how it is written."""
FORM_BYTES = 1024 * 1024
"""Of a form beside its files."""
FILES = {"file": Split.TRAIN, "validation_file": Split.VALIDATION, "test_file": Split.TEST}
UPLOADS = {"upload": Split.TRAIN, "validation_upload": Split.VALIDATION, "test_upload": Split.TEST}


def visible(request: Request) -> DatasetQuerySet:
    return (
        Dataset.objects.visible_to(actor_of(request))
        .select_related("workspace", "created_by")
        .prefetch_related("files", "splits")
    )


def options_in(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in OPTION_NAMES if name in data}


class BoundedUpload(EditorsUpload):
    @staticmethod
    def largest_body() -> int:
        return int(len(FILES) * settings.UPLOAD_MAX_BYTES) + FORM_BYTES


class DatasetFilter(filters.FilterSet):
    state = filters.ChoiceFilter(choices=DatasetState.choices)

    class Meta:
        model = Dataset
        fields = ["state"]


class DatasetsView(BoundedUpload, generics.ListAPIView[Dataset]):
    queryset = Dataset.objects.none()
    serializer_class = DatasetListedSerializer
    filter_backends = [filters.DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_class = DatasetFilter
    search_fields = ["name"]
    ordering_fields = ["name", "state", "created_at"]

    def get_parsers(self) -> list[Any]:
        return [MultiPartParser(), JSONParser()]

    def get_queryset(self) -> DatasetQuerySet:
        found = visible(self.request)
        if "workspace" in self.request.query_params:
            found = found.filter(workspace=workspace_of(self.request, role=Role.VIEWER))
        return found.defer("report", "errors")

    @extend_schema(
        operation_id="listDatasets",
        tags=["datasets"],
        parameters=[OpenApiParameter("workspace", description="A slug.")],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The data sets within reach, newest first."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="createDataset",
        tags=["datasets"],
        request={"multipart/form-data": DatasetUploadSerializer, "application/json": DatasetFromUploadsSerializer},
        responses={201: DatasetSerializer},
    )
    def post(self, request: Request) -> Response:
        """Upload rows, or name uploads that are complete. They are validated in the background: look at `state` until
        it is `ready` or `invalid`."""
        workspace = workspace_of(request, role=Role.EDITOR)
        in_body = request.content_type.startswith("multipart/")
        given = (DatasetUploadSerializer if in_body else DatasetFromUploadsSerializer)(data=request.data)
        given.is_valid(raise_exception=True)
        data = given.validated_data
        actor = actor_of(request)
        arrived = {
            split: uploads.finished(actor=actor, workspace=workspace, upload_id=data[field])
            for field, split in UPLOADS.items()
            if field in data
        }
        files = {split: _upload(data[field]) for field, split in FILES.items() if field in data}
        dataset = datasets.create_dataset(
            actor=actor,
            workspace=workspace,
            name=data.get("name", ""),
            files=files
            | {split: datasets.Upload(item.name, uploads.contents(item)) for split, item in arrived.items()},
            options=options_in(data),
        )
        for item in arrived.values():
            uploads.discard(upload=item)
        return Response(DatasetSerializer(dataset).data, status=status.HTTP_201_CREATED)


def beginning(file: UploadedFile[bytes], most: int) -> bytes:
    """The first ``most`` bytes, without the line that they cut in two; the whole file where it is shorter."""
    found: bytes = file.read(most)
    if len(found) < most:
        return found
    found = found[: found.rfind(b"\n") + 1] or found
    # Of UTF-16 a character has two bytes, and an end of the line one of them.
    return found[: len(found) // 2 * 2] if b"\0" in found else found


def _upload(file: UploadedFile[bytes]) -> datasets.Upload:
    return datasets.Upload(file.name or "upload", file.chunks())


class SampleView(APIView):
    @extend_schema(
        operation_id="createSampleDataset",
        tags=["datasets"],
        request=DatasetSampleSerializer,
        responses={201: DatasetSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a data set from the messages that come with the product, to try things out."""
        workspace = workspace_of(request, role=Role.EDITOR)
        dataset = datasets.create_sample(actor=actor_of(request), workspace=workspace)
        return Response(DatasetSerializer(dataset).data, status=status.HTTP_201_CREATED)


class PreviewView(BoundedUpload, APIView):
    parser_classes = [MultiPartParser]

    @extend_schema(
        operation_id="previewDataset",
        tags=["datasets"],
        request={"multipart/form-data": DatasetPreviewUploadSerializer},
        responses=DatasetPreviewSerializer,
    )
    def post(self, request: Request) -> Response:
        """How a file would be read: its format, its first rows, which column is probably which. Stores nothing."""
        given = DatasetPreviewUploadSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        file: UploadedFile[bytes] = given.validated_data["file"]
        if (file.size or 0) > settings.UPLOAD_MAX_BYTES:
            raise TooLarge(
                Message(
                    "The file is larger than the {most:,} bytes that are taken.",
                    most=settings.UPLOAD_MAX_BYTES,
                )
            )
        options = datasets.options_of(options_in(given.validated_data))
        problems = Problems()
        try:
            table = open_table(
                file.name or "upload", beginning(file, PREVIEW_BYTES), options, datasets.limits(), problems
            )
        except Unreadable:
            raise UserError(
                Message("The file cannot be read: {why}", why=problems.first[0].message),
                details=problems.listed(),
                code="unreadable",
            ) from None
        sample = table.sample()
        roles = suggest(table.columns, sample, task=options.task)
        return Response(
            {
                "format": table.layout.format,
                "encoding": table.layout.encoding,
                "delimiter": table.layout.delimiter,
                "header": table.layout.header,
                "columns": table.columns,
                "rows": sample[:PREVIEW_ROWS],
                "suggested": {
                    "text_column": roles.text,
                    "text_pair_column": roles.text_pair,
                    "label_column": roles.label,
                    "references_column": roles.references,
                },
            }
        )


class DatasetView(APIView):
    def _get(self, request: Request, dataset_id: UUID) -> Dataset:
        return get_object_or_404(visible(request), pk=dataset_id)

    @extend_schema(operation_id="getDataset", tags=["datasets"], responses=DatasetSerializer)
    def get(self, request: Request, dataset_id: UUID) -> Response:
        """A data set with its report and errors."""
        return Response(DatasetSerializer(self._get(request, dataset_id)).data)

    @extend_schema(
        operation_id="updateDataset", tags=["datasets"], request=DatasetPatchSerializer, responses=DatasetSerializer
    )
    def patch(self, request: Request, dataset_id: UUID) -> Response:
        """Rename, or read the files in another way: then it is validated anew. 409 when jobs use its rows."""
        dataset = self._get(request, dataset_id)
        given = DatasetPatchSerializer(data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        datasets.update_dataset(
            actor=actor_of(request),
            dataset=dataset,
            name=given.validated_data.get("name"),
            options=options_in(given.validated_data),
        )
        return Response(DatasetSerializer(self._get(request, dataset_id)).data)

    @extend_schema(operation_id="deleteDataset", tags=["datasets"], responses={204: None})
    def delete(self, request: Request, dataset_id: UUID) -> Response:
        """Delete a data set. 409 when jobs use it."""
        datasets.delete_dataset(actor=actor_of(request), dataset=self._get(request, dataset_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class RowsView(generics.GenericAPIView[Any]):
    queryset = Dataset.objects.none()
    serializer_class = DatasetRowSerializer
    pagination_class = Pages
    filter_backends = []

    @extend_schema(
        operation_id="listDatasetRows",
        tags=["datasets"],
        parameters=[DatasetRowQuerySerializer],
        responses=DatasetRowSerializer(many=True),
    )
    def get(self, request: Request, dataset_id: UUID) -> Response:
        """Pages of a split's rows as jobs see them."""
        given = DatasetRowQuerySerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        dataset = get_object_or_404(visible(request), pk=dataset_id)
        if dataset.state != DatasetState.READY:
            raise Conflict(Message("The data set has no rows yet: it is {state}.", state=word(dataset.state)))
        split = dataset.splits.filter(split=given.validated_data["split"]).first()
        if split is None:
            raise NotFound(Message("The data set has no {split} rows.", split=word(given.validated_data["split"])))
        page = self.paginate_queryset(RowPages(split, given.validated_data.get("label")))  # type: ignore[arg-type]
        return self.get_paginated_response(DatasetRowSerializer(page or [], many=True).data)
