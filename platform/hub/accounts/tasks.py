"""Celery tasks of the accounts: webhook deliveries."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from hub.accounts import webhooks


# The limits end a receiver that answers a byte at a time.
@shared_task(name="webhooks.deliver", soft_time_limit=40, time_limit=50)
def deliver(delivery_id: str) -> None:
    webhooks.deliver(delivery_id=UUID(delivery_id))


@shared_task(name="webhooks.sweep")
def sweep() -> None:
    """Beat: ring for deliveries that are due, and forget old ones."""
    webhooks.ring_again()
    webhooks.forget_old()
