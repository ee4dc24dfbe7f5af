"""Serves the built frontend: hashed files for ever, index.html for every address the router knows."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse

from hub.core import errors


def index(request: HttpRequest) -> HttpResponse | FileResponse | JsonResponse:
    """A file of the built frontend where the path names one, else its index.html (the router is in the browser)."""
    root: Path = settings.FRONTEND_DIR
    wanted = (root / request.path.lstrip("/")).resolve()
    if not wanted.is_relative_to(root.resolve()):
        return errors.not_found(request, FileNotFoundError())
    if wanted.is_file():
        response = FileResponse(wanted.open("rb"), content_type=mimetypes.guess_type(wanted.name)[0])
        hashed = wanted.parent.name == "assets"
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response
    page = root / "index.html"
    if not page.is_file():
        return HttpResponse("The frontend is not built: run `make frontend`.\n", status=503, content_type="text/plain")
    response = FileResponse(page.open("rb"), content_type="text/html; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    return response


def unknown_endpoint(request: HttpRequest) -> JsonResponse:
    return errors.not_found(request, FileNotFoundError())
