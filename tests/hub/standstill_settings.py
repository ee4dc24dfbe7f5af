"""Settings of a background part whose threads can be made to wait for each other (test_standstill.py)."""

from __future__ import annotations

import threading

from celery import shared_task

from config.settings import *  # noqa: F403

CELERY_IMPORTS = ["tests.hub.standstill_settings"]


@shared_task(name="tests.deadlock", time_limit=2)
def deadlock() -> None:
    lock = threading.Lock()
    with lock, lock:
        raise AssertionError("a lock was taken twice")
