"""Celery tasks of the data sets."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from hub.datasets.services import datasets, uploads


@shared_task(name="datasets.validate", time_limit=int(datasets.TAKES_AT_MOST.total_seconds()))
def validate(dataset_id: str) -> None:
    datasets.validate_dataset(dataset_id=UUID(dataset_id))


@shared_task(name="datasets.sweep")
def sweep() -> None:
    """Beat: ring again for validations that nobody heard of or finished."""
    datasets.ring_again()


@shared_task(name="uploads.sweep")
def sweep_uploads() -> None:
    """Beat: discard uploads that nobody has continued."""
    uploads.sweep()
