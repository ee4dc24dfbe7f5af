"""Answers with the bytes of a blob: HEAD, a single Range, If-None-Match and If-Range, the sha256 as a strong ETag."""

from __future__ import annotations

import re
from collections.abc import Iterable

import structlog
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import patch_cache_control
from django.utils.http import content_disposition_header, parse_etags, quote_etag
from rest_framework import status
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from hub.core import storage
from hub.core.errors import UserError
from hub.core.streams import Reading
from hub.registry.models import VersionFile
from pst.messages import Message

log = structlog.get_logger(__name__)

BYTE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# Never HTML or SVG: a file comes from a user, and the browser would run it on our own address.
CONTENT_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


class ContentMissing(UserError):
    status = status.HTTP_503_SERVICE_UNAVAILABLE
    code = "content_missing"


class AnyAccept(DefaultContentNegotiation):
    """Bytes come as they are, whatever Accept says; ``?format=`` is the view's own."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first, last) of a single range, both inclusive; None: send it all (no range, several, or not understood).

    Raises IndexError when no byte of the file lies in the range.
    """
    found = BYTE_RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        length = int(found[2])
        if length == 0 or size == 0:
            raise IndexError
        return max(size - length, 0), size - 1
    first = int(found[1])
    last = int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise IndexError
    return first, min(last, size - 1)


def read_content(sha256: str, path: str, first: int = 0, length: int | None = None) -> Reading:
    """The blob of a file, or a part of it. Raises :class:`ContentMissing` where the storage has lost it."""
    try:
        return storage.read(sha256, first, length)
    except FileNotFoundError:
        log.error("blob_missing", sha256=sha256, path=path)
        raise ContentMissing(
            Message(
                "The content of {path} (sha256 {sha256}) is missing in the storage; the operator must restore it.",
                path=path,
                sha256=sha256,
            )
        ) from None


def send(request: Request, file: VersionFile, *, headers: dict[str, str] | None = None) -> HttpResponseBase:
    """The file, its part, 304, or 416. ``file.blob`` must be loaded."""
    size, name = file.blob.size, file.path.rsplit("/", 1)[-1]
    etag = quote_etag(file.blob_id)
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    kind = CONTENT_TYPES.get(suffix, "application/octet-stream")
    common = {"ETag": etag, "Accept-Ranges": "bytes", **(headers or {})}
    if (wanted := request.headers.get("If-None-Match")) and {"*", etag} & {
        item.removeprefix("W/") for item in parse_etags(wanted)
    }:
        return _private(HttpResponse(status=304, headers=common))
    ranged = request.headers.get("Range")
    if request.headers.get("If-Range", etag) != etag:
        ranged = None
    try:
        part = byte_range(ranged, size) if request.method == "GET" else None
    except IndexError:
        return _private(HttpResponse(status=416, headers={**common, "Content-Range": f"bytes */{size}"}))
    first, last = part or (0, size - 1)
    common |= {
        "Content-Length": str(last - first + 1),
        "Content-Disposition": content_disposition_header(True, name) or "attachment",
    }
    if request.method == "HEAD":  # a HEAD knows no ranges
        return _private(HttpResponse(content_type=kind, headers={**common, "Content-Length": str(size)}))
    content = read_content(file.blob_id, file.path, first, last - first + 1)
    if part is not None:
        common["Content-Range"] = f"bytes {first}-{last}/{size}"
    return _private(StreamingHttpResponse(content, status=206 if part else 200, content_type=kind, headers=common))


def _private(response: HttpResponseBase) -> HttpResponseBase:
    # Shared caches must ask again: access depends on who asks.
    patch_cache_control(response, private=True, no_cache=True)
    return response
