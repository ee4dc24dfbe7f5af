"""What an installation takes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.datasets.services import uploads


class LimitsSerializer(serializers.Serializer[Any]):
    """What this installation takes."""

    upload_bytes = serializers.IntegerField(help_text="Of one file of rows.")
    upload_hours = serializers.IntegerField(help_text="How long an upload that stopped may be taken up again.")
    uploads = serializers.IntegerField(help_text="Under way at once, for each user.")
    dataset_rows = serializers.IntegerField()
    dataset_columns = serializers.IntegerField()
    dataset_cell_characters = serializers.IntegerField()
    dataset_classes = serializers.IntegerField()
    base_model_bytes = serializers.IntegerField()
    public_models = serializers.BooleanField(help_text="Whether workers may fetch models of the public Hub by name.")


class LimitsView(APIView):
    @extend_schema(operation_id="getLimits", tags=["datasets"], responses=LimitsSerializer)
    def get(self, request: Request) -> Response:
        """How much one may send, as whoever runs the installation has set it."""
        return Response(
            {
                "upload_bytes": settings.UPLOAD_MAX_BYTES,
                "upload_hours": settings.UPLOAD_HOURS,
                "uploads": uploads.MOST,
                "dataset_rows": settings.DATASET_MAX_ROWS,
                "dataset_columns": settings.DATASET_MAX_COLUMNS,
                "dataset_cell_characters": settings.DATASET_MAX_CELL_CHARS,
                "dataset_classes": settings.DATASET_MAX_CLASSES,
                "base_model_bytes": settings.BASE_MODEL_MAX_BYTES,
                "public_models": settings.ALLOW_PUBLIC_MODELS,
            }
        )
