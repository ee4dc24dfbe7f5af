"""What the cache holds is JSON. Django's default is pickle: whoever can write to Redis could run code here."""

from __future__ import annotations

import json
from typing import Any


class JSONSerializer:
    """As :class:`django.core.cache.backends.redis.RedisSerializer`: integers stay bare, so that Redis can count."""

    def dumps(self, value: Any) -> int | bytes:
        return value if type(value) is int else json.dumps(value, separators=(",", ":")).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)
