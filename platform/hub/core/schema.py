"""OpenAPI: every operation also documents the one error shape."""

from __future__ import annotations

from typing import Any

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
    def get_response_serializers(self) -> Any:
        found = super().get_response_serializers()
        if not isinstance(found, dict):
            method = self.method.lower()
            code = "204" if method == "delete" else "201" if method == "post" and self._is_create() else "200"
            found = {code: found}
        return {**found, "default": ErrorSerializer}

    def _is_create(self) -> bool:
        return getattr(self.view, "action", None) == "create" or hasattr(self.view, "perform_create")
