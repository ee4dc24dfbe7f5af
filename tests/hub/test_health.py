"""The probes that a load balancer asks."""

import pytest
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


def test_live_and_ready(api: APIClient) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    answer = api.get("/readyz")
    assert answer.status_code == 200 and answer.json() == {"status": "ok", "failed": {}}


def test_not_ready_without_redis(api: APIClient, settings, tmp_path) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"unix://{tmp_path}/none"}
    }
    answer = api.get("/readyz")
    assert answer.status_code == 503 and answer.json()["failed"] == {"redis": "ConnectionError"}
