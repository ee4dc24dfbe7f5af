"""Resumable uploads over tus 1.0 with the extensions creation, expiration and termination (https://tus.io)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import IO, Any, cast
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils.http import http_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.accounts.models import Workspace
from hub.core.errors import NotFound, UserError
from hub.core.streams import CHUNK
from hub.datasets.models import Upload
from hub.datasets.services import uploads
from pst.messages import Message

VERSION = "1.0.0"
OFFSET_STREAM = "application/offset+octet-stream"
LONGEST_METADATA = 4096

TUS = OpenApiParameter("Tus-Resumable", str, OpenApiParameter.HEADER, required=True, enum=[VERSION])


class WrongVersion(UserError):
    status = 412
    code = "wrong_version"


class UploadSerializer(serializers.ModelSerializer[Upload]):
    workspace = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    offset = serializers.SerializerMethodField(help_text="Bytes that have arrived.")

    class Meta:
        model = Upload
        fields = ["id", "workspace", "name", "size", "offset", "created_at", "expires_at"]
        read_only_fields = fields

    def get_offset(self, upload: Upload) -> int:
        return uploads.received(upload)


class OffsetStream(BaseParser):
    """Leaves the body unread: the view writes it down as it comes."""

    media_type = OFFSET_STREAM

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> Any:
        return stream


def _number(request: Request, header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise UserError(
            Message("Send the header {header}: a whole number of bytes.", header=header),
            details=[{"field": header, "message": Message("required")}],
        )
    return int(text)


def _metadata(request: Request) -> dict[str, str]:
    """``key base64,key base64`` as tus writes it. Raises UserError."""
    raw = request.headers.get("Upload-Metadata", "")
    found = {}
    try:
        if len(raw) > LONGEST_METADATA:
            raise ValueError(Message("too long"))
        for pair in filter(None, (part.strip() for part in raw.split(","))):
            key, _, value = pair.partition(" ")
            found[key] = base64.b64decode(value, validate=True).decode()
            if "\0" in found[key]:
                raise ValueError("a NUL character")
    except (binascii.Error, ValueError) as error:
        raise UserError(
            Message("Upload-Metadata must be pairs of a key and a value in base64: {error}.", error=error),
            details=[{"field": "Upload-Metadata", "message": Message("malformed")}],
        ) from None
    return found


class TusView(APIView):
    """Checks the protocol's version and names it in every answer."""

    parser_classes = [OffsetStream]

    @staticmethod
    def largest_body() -> int:
        return int(settings.UPLOAD_MAX_BYTES)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in {"GET", "OPTIONS"} and request.headers.get("Tus-Resumable") != VERSION:
            raise WrongVersion(Message("Send the header Tus-Resumable: {version}.", version=VERSION))

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().finalize_response(request, response, *args, **kwargs)
        answer.headers["Tus-Resumable"] = answer.headers["Tus-Version"] = VERSION
        return answer


class UploadsView(TusView):
    @extend_schema(
        operation_id="createUpload",
        tags=["datasets"],
        parameters=[
            TUS,
            OpenApiParameter("Upload-Length", int, OpenApiParameter.HEADER, required=True),
            OpenApiParameter(
                "Upload-Metadata",
                str,
                OpenApiParameter.HEADER,
                description="filename and workspace (needed if you have several), each followed by its base64.",
            ),
        ],
        request=None,
        responses={201: UploadSerializer},
    )
    def post(self, request: Request) -> Response:
        """Announce a file; PATCH its bytes to the Location of the answer. tus 1.0: creation, expiration, termination.

        Once it is complete, name its id as `upload` of a new data set.
        """
        size, metadata = _number(request, "Upload-Length"), _metadata(request)
        actor = actor_of(request)
        slug = metadata.get("workspace", "")
        within = Workspace.objects.visible_to(actor)
        found = list((within.filter(slug=slug) if slug else within)[:2])
        if not found:
            raise NotFound(Message("There is no workspace {slug} that you can see.", slug=repr(slug)))
        if len(found) > 1:
            raise UserError(
                Message("You are in several workspaces; name one in Upload-Metadata."),
                details=[{"field": "workspace", "message": Message("required")}],
            )
        name = metadata.get("filename", "").replace("\\", "/").rsplit("/", 1)[-1][:255] or "upload"
        upload = uploads.begin_upload(actor=actor, workspace=found[0], name=name, size=size)
        headers = {
            "Location": f"/api/v1/uploads/{upload.id}",
            "Upload-Offset": "0",
            "Upload-Expires": http_date(upload.expires_at.timestamp()),
        }
        return Response(UploadSerializer(upload).data, status=201, headers=headers)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """What this server can do, as tus asks for it."""
        headers = {
            "Tus-Extension": "creation,expiration,termination",
            "Tus-Max-Size": str(settings.UPLOAD_MAX_BYTES),
        }
        return Response(status=204, headers=headers)


class UploadView(TusView):
    def _upload(self, request: Request, upload_id: UUID) -> Upload:
        return get_object_or_404(Upload.objects.visible_to(actor_of(request)).select_related("workspace"), pk=upload_id)

    @extend_schema(operation_id="getUpload", tags=["datasets"], responses={200: UploadSerializer})
    def get(self, request: Request, upload_id: UUID) -> Response:
        """How far an upload is; HEAD says it in the headers Upload-Offset and Upload-Length."""
        upload = self._upload(request, upload_id)
        data = UploadSerializer(upload).data
        headers = {
            "Upload-Offset": str(data["offset"]),
            "Upload-Length": str(upload.size),
            "Upload-Expires": http_date(upload.expires_at.timestamp()),
            "Cache-Control": "no-store",
        }
        return Response(data, headers=headers)

    @extend_schema(
        operation_id="appendToUpload",
        tags=["datasets"],
        parameters=[TUS, OpenApiParameter("Upload-Offset", int, OpenApiParameter.HEADER, required=True)],
        request={OFFSET_STREAM: OpenApiTypes.BINARY},
        responses={204: None},
    )
    def patch(self, request: Request, upload_id: UUID) -> Response:
        """Send the bytes from Upload-Offset on. 409 where the upload stands elsewhere, 423 while it is written to."""
        upload = self._upload(request, upload_id)
        body = cast("IO[bytes]", request.data)  # 415 unless it is a stream of bytes
        end = uploads.append(upload=upload, offset=_number(request, "Upload-Offset"), parts=_parts(body))
        headers = {"Upload-Offset": str(end), "Upload-Expires": http_date(upload.expires_at.timestamp())}
        return Response(status=204, headers=headers)

    @extend_schema(operation_id="deleteUpload", tags=["datasets"], parameters=[TUS], responses={204: None})
    def delete(self, request: Request, upload_id: UUID) -> Response:
        """Cancel an upload, and forget what has arrived of it."""
        uploads.discard(upload=self._upload(request, upload_id))
        return Response(status=204)


def _parts(body: IO[bytes]) -> Iterator[bytes]:
    while part := body.read(CHUNK):
        yield part
