"""Entry point of the web tier for gunicorn. WSGI: downloads are streamed from files by threads (docs/adr/0001)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()
