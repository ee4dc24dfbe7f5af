"""The platform's operations, one class per noun. They describe requests; :class:`pst_client.client.Http` sends them.

Objects that people see are returned as the JSON mappings that the OpenAPI schema documents; what workers and serving
nodes exchange with the platform are the messages of :mod:`pst_client.contract`.
"""

from __future__ import annotations

from typing import Any

API = "/api/v1"
UPLOAD_SECONDS = 3600.0
Json = dict[str, Any]


def given(**values: Any) -> Json:
    """The values that are not None: what a caller leaves out is left out of the request."""
    return {name: value for name, value in values.items() if value is not None}
