"""The platform's own Celery application, in three processes: the reaper with the beat, validation, outbound calls.

Each has its own queue and pool (``python -m config.background PART``), so that a slow receiver of webhooks or a large
file keeps no lease from being looked at. Each says that it is at work (hub.core.parts).
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("sparsewright")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
