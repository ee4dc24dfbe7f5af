"""OpenAPI: every operation also documents the one error shape."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers


class ErrorBodySerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField(help_text="One sentence: what is wrong, where, and what to do.")
    details = serializers.ListField(child=serializers.DictField(), help_text="Per field, or per file, line and column.")
    request_id = serializers.CharField(allow_null=True)


class ErrorSerializer(serializers.Serializer[Any]):
    error = ErrorBodySerializer()


class Schema(AutoSchema):
    """Adds the error shape to every operation, also to those that ``extend_schema(responses=...)`` describes."""

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        found: dict[str, Any] = super()._get_response_bodies(direction)
        error: dict[str, Any] = self._get_response_for_code(  # type: ignore[no-untyped-call]
            ErrorSerializer, "default", direction=direction
        )
        return {**found, "default": error}
