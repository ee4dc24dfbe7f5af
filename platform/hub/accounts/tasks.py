"""Celery tasks of the accounts: webhook deliveries."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from hub.accounts.services import webhooks


@shared_task(name="webhooks.deliver", time_limit=int(webhooks.HELD.total_seconds()))
def deliver(delivery_id: str) -> None:
    webhooks.deliver(delivery_id=UUID(delivery_id))


@shared_task(name="webhooks.sweep")
def sweep() -> None:
    """Beat: ring for deliveries that are due."""
    webhooks.ring_again()


@shared_task(name="webhooks.forget")
def forget() -> None:
    """Beat: delete deliveries that ended long ago."""
    webhooks.forget_old()
