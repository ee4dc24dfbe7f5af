"""Answers with the built frontend's page at every address that only its router knows; its files are WhiteNoise's."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse

from hub.core import errors


def index(request: HttpRequest) -> HttpResponse | FileResponse | JsonResponse:
    """The page; 404 for a file of another build."""
    if request.path.startswith("/assets/"):
        return errors.not_found(request, FileNotFoundError())
    root: Path = settings.FRONTEND_DIR
    page = root / "index.html"
    if not page.is_file():
        return HttpResponse("The frontend is not built: run `make frontend`.\n", status=503, content_type="text/plain")
    response = FileResponse(page.open("rb"), content_type="text/html; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    return response


def unknown_endpoint(request: HttpRequest) -> JsonResponse:
    return errors.not_found(request, FileNotFoundError())
