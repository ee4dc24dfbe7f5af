"""Versions of a model, their files, and a version as an archive."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.core.errors import UserError
from hub.registry.api.models import find_model, listed_versions, shown_versions
from hub.registry.api.serializers import VersionRowSerializer, VersionSerializer
from hub.registry.archive import FORMATS, archive
from hub.registry.downloads import AnyAccept, send
from hub.registry.files import path_problem
from hub.registry.models import ModelVersion
from pst.messages import Message


def find_version(request: Request, namespace: str, name: str, number: int) -> ModelVersion:
    model = find_model(request, namespace, name)
    version: ModelVersion = get_object_or_404(shown_versions(), model=model, number=number)
    version.model = model  # its workspace is loaded
    return version


class VersionsView(generics.ListAPIView[ModelVersion]):
    serializer_class = VersionRowSerializer
    ordering_fields = ["number", "created_at"]
    queryset = ModelVersion.objects.none()

    def get_queryset(self) -> QuerySet[ModelVersion]:
        return listed_versions().filter(model=find_model(self.request, self.kwargs["namespace"], self.kwargs["name"]))

    @extend_schema(operation_id="listVersions", tags=["registry"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Versions of a model, newest first."""
        return super().get(request, *args, **kwargs)


class VersionView(APIView):
    @extend_schema(operation_id="getVersion", tags=["registry"], responses={200: VersionSerializer})
    def get(self, request: Request, namespace: str, name: str, number: int) -> Response:
        """A version with its files, manifest, report and card."""
        version = find_version(request, namespace, name, number)
        return Response(VersionSerializer(version).data)


class FileView(APIView):
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="downloadFile",
        tags=["registry"],
        parameters=[OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range: bytes=0-99.")],
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (206, "application/octet-stream"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, namespace: str, name: str, number: int, path: str) -> HttpResponseBase:
        """A file of a version. Its ETag is its sha256; Range, If-Range, If-None-Match and HEAD are understood."""
        version = find_version(request, namespace, name, number)
        file = None
        if path_problem(path) is None:
            file = version.files.select_related("blob").filter(path=path).first()
        if file is None:
            raise Http404
        return send(request, file, headers={"X-Repo-Commit": version.commit})


class ArchiveView(APIView):
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="downloadArchive",
        tags=["registry"],
        parameters=[OpenApiParameter("format", str, enum=sorted(FORMATS), default="tar")],
        responses={
            (200, "application/x-tar"): OpenApiTypes.BINARY,
            (200, "application/zip"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, namespace: str, name: str, number: int) -> HttpResponseBase:
        """All files of a version as one uncompressed tar or zip, by the paths of the manifest."""
        version = find_version(request, namespace, name, number)
        kind = request.query_params.get("format", "tar")
        if kind not in FORMATS:
            raise UserError(
                Message("format must be {formats}.", formats=" or ".join(sorted(FORMATS))),
                details=[{"field": "format"}],
            )
        body = archive(version, format=kind)
        content_type = FORMATS[kind][1]
        headers = {
            "Content-Length": str(len(body)),
            "Content-Disposition": content_disposition_header(True, f"{name}-v{number}.{kind}") or "attachment",
            "Cache-Control": "private, no-cache",
            "X-Repo-Commit": version.commit,
        }
        if request.method == "HEAD":
            return HttpResponse(content_type=content_type, headers=headers)
        return StreamingHttpResponse(iter(body), content_type=content_type, headers=headers)
