"""The worker's settings, from environment variables alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pst_client.environment import PREFIX, SettingsMissing, node_name, platform_url, required

STUCK_SECONDS = 300


@dataclass(frozen=True)
class Settings:
    url: str
    node_token: str
    redis_url: str
    queues: tuple[str, ...]
    node_name: str
    work_dir: Path
    stuck_seconds: float = STUCK_SECONDS
    """A training process that stands still for so long is ended."""


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises :class:`SettingsMissing`."""
    queues = tuple(name.strip() for name in environ.get(PREFIX + "QUEUES", "default").split(",") if name.strip())
    if not queues:
        raise SettingsMissing(
            f"{PREFIX}QUEUES names no queue: give at least one, or leave it out for the queue default."
        )
    stuck = environ.get(PREFIX + "STUCK_SECONDS", "").strip() or str(STUCK_SECONDS)
    if not stuck.isdigit() or int(stuck) == 0:
        raise SettingsMissing(f"{PREFIX}STUCK_SECONDS is {stuck!r}; it must be a whole number of seconds.")
    return Settings(
        url=platform_url(environ),
        node_token=required(environ, "NODE_TOKEN", "a node token, made on the platform"),
        redis_url=required(environ, "REDIS_URL", "the broker's address, such as redis://host:6379/0"),
        queues=queues,
        node_name=node_name(environ, "worker"),
        work_dir=Path(environ.get(PREFIX + "WORK_DIR") or Path.home() / ".cache" / "sparsewright" / "worker").resolve(),
        stuck_seconds=float(stuck),
    )
