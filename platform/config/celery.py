"""The platform's own Celery application: beat, the reaper, validation of uploads."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("sparsewright")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
