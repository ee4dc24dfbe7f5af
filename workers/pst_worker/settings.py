"""The worker's settings, from environment variables alone."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "SPARSEWRIGHT_"


class SettingsMissing(ValueError):
    """A variable is missing or malformed; the message names it."""


@dataclass(frozen=True)
class Settings:
    url: str
    node_token: str
    redis_url: str
    queues: tuple[str, ...]
    node_name: str
    work_dir: Path


def required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(PREFIX + name, "").strip()
    if not value:
        raise SettingsMissing(f"Set {PREFIX}{name}: {meaning}.")
    return value


def node_name(environ: Mapping[str, str], suffix: str) -> str:
    """``SPARSEWRIGHT_NODE_NAME``, or the host's name with a suffix, cut to what the platform takes as a name."""
    given = environ.get(PREFIX + "NODE_NAME", "").strip()
    if given:
        return given
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).lstrip("._-") or "host"
    return f"{host[: 62 - len(suffix)]}-{suffix}"


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises :class:`SettingsMissing`."""
    queues = tuple(name.strip() for name in environ.get(PREFIX + "QUEUES", "default").split(",") if name.strip())
    if not queues:
        raise SettingsMissing(
            f"{PREFIX}QUEUES names no queue: give at least one, or leave it out for the queue default."
        )
    return Settings(
        url=required(environ, "URL", "the address of the platform, such as https://models.example.org"),
        node_token=required(environ, "NODE_TOKEN", "a node token, made on the platform"),
        redis_url=required(environ, "REDIS_URL", "the broker's address, such as redis://host:6379/0"),
        queues=queues,
        node_name=node_name(environ, "worker"),
        work_dir=Path(environ.get(PREFIX + "WORK_DIR") or Path.home() / ".cache" / "sparsewright" / "worker").resolve(),
    )
