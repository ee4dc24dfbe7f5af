"""The platform's own Celery application: beat, the reaper, validation of uploads."""

import os
import threading
import time

from celery import Celery
from celery.signals import beat_embedded_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("sparsewright")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
LOADED_BY = os.getpid()  # in a worker with a beat: the worker, of which the beat is a fork


@beat_embedded_init.connect
def end_with_the_worker(**_: object) -> None:
    """The beat is a process of its own below the worker's: it must not go on alone when that is killed, be it before
    this line."""

    def watch() -> None:
        while os.getppid() == LOADED_BY:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="watch-worker", daemon=True).start()
