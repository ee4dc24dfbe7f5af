"""Is the process alive, and can it reach what it needs?"""

from __future__ import annotations

from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, JsonResponse
from redis.exceptions import RedisError

from hub.core import parts, storage


def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> JsonResponse:
    """200 when the database, Redis and the storage answer, the last two take what is written, and every part of the
    platform is at work; else 503 naming what does not."""
    failed: dict[str, str] = {}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:  # whatever the driver raises, the answer is the same: not ready, and why
        failed["database"] = type(error).__name__
    try:
        cache.set("ready", True, timeout=60)  # a Redis that can't save its log reads, and refuses to write
        failed |= parts.silent()
    except RedisError as error:
        failed["redis"] = type(error).__name__
    try:
        storage.reachable()
    except Exception as error:  # whatever the bucket's client or the file system raises
        failed["storage"] = type(error).__name__
    return JsonResponse({"status": "unavailable" if failed else "ok", "failed": failed}, status=503 if failed else 200)
