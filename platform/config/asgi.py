"""The web tier, for uvicorn."""

from config.front import Front
from config.wsgi import application as django
from hub.core import parts

application = Front(django)
parts.beating(parts.WEB, alone=False)
