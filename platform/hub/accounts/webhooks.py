"""Telling other systems of a workspace's events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from hub.accounts.models import Webhook, WebhookDelivery, Workspace
from hub.core.queue import enqueue


class WebhookEvent(StrEnum):
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    VERSION_PUBLISHED = "version.published"
    ALIAS_MOVED = "alias.moved"
    DATASET_READY = "dataset.ready"
    DATASET_INVALID = "dataset.invalid"


def notify(*, workspace: Workspace, event: str, payload: dict[str, Any]) -> None:
    """Write one delivery per webhook that wants ``event``, in the caller's transaction; they leave when it commits."""
    name = WebhookEvent(event).value
    for webhook in Webhook.objects.filter(workspace=workspace):
        if name in webhook.events:
            delivery = WebhookDelivery.objects.create(webhook=webhook, event=name, payload=payload)
            enqueue("webhooks.deliver", delivery_id=delivery.id)
