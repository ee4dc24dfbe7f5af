"""Is the process alive, and can it reach what it needs?"""

from __future__ import annotations

from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, JsonResponse
from redis.exceptions import RedisError


def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """200 when the database and Redis answer, else 503 naming what does not."""
    failed: dict[str, str] = {}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:  # whatever the driver raises, the answer is the same: not ready, and why
        failed["database"] = type(error).__name__
    try:
        cache.get("readyz")
    except RedisError as error:
        failed["redis"] = type(error).__name__
    return JsonResponse({"status": "unavailable" if failed else "ok", "failed": failed}, status=503 if failed else 200)
