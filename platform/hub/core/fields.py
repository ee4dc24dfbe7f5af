"""Fields of serializers that every part of the platform may use."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from hub.core.language import say
from pst.messages import recall


class SentenceField(serializers.CharField):
    """A sentence that is stored in English, with how it is said beside it (``NAME_said``), and shown in the reader's
    language."""

    def __init__(self) -> None:
        super().__init__(read_only=True)

    def get_attribute(self, instance: Any) -> str:
        return recall(super().get_attribute(instance) or "", getattr(instance, f"{self.source}_said"))

    def to_representation(self, value: str) -> str:
        return say(value)
