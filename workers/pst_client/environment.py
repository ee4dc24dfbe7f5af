"""Environment variables that the worker and the serving node share."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

PREFIX = "SPARSEWRIGHT_"
LONGEST_NAME = 63


class SettingsMissing(ValueError):
    """A variable is missing or malformed; the message names it."""


def required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    """The variable's value. Raises :class:`SettingsMissing` saying what to set it to."""
    value = environ.get(PREFIX + name, "").strip()
    if not value:
        raise SettingsMissing(f"Set {PREFIX}{name}: {meaning}.")
    return value


def platform_url(environ: Mapping[str, str]) -> str:
    """``SPARSEWRIGHT_URL``. Raises :class:`SettingsMissing` unless it is an address."""
    url = required(environ, "URL", "the address of the platform, such as https://models.example.org")
    if not re.match(r"^https?://[^/]", url):
        raise SettingsMissing(f"{PREFIX}URL must start with http:// or https://, not {url!r}.")
    return url


def node_name(environ: Mapping[str, str], suffix: str) -> str:
    """``SPARSEWRIGHT_NODE_NAME``, or the host's name with a suffix, cut to what the platform takes as a name."""
    given = environ.get(PREFIX + "NODE_NAME", "").strip()
    if given:
        return given
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).lstrip("._-") or "host"
    return f"{host[: LONGEST_NAME - 1 - len(suffix)]}-{suffix}"
