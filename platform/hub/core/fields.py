"""Fields of serializers that every part of the platform may use."""

from __future__ import annotations

from rest_framework import serializers

from hub.core.language import say


class SentenceField(serializers.CharField):
    """A sentence that is stored in English and shown in the reader's language."""

    def __init__(self) -> None:
        super().__init__(read_only=True)

    def to_representation(self, value: str) -> str:
        return say(value)
