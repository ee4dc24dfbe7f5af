"""The serving node's settings, from environment variables alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pst_client.environment import PREFIX, node_name, platform_url, required


@dataclass(frozen=True)
class Settings:
    url: str
    node_token: str
    node_name: str
    cache_dir: Path
    public_url: str | None
    """Where callers reach this node; None: the address that it listens on."""
    inner_url: str | None = None
    """Where the platform reaches it, if elsewhere."""
    measures: bool = True
    """Whether the node measures itself when it is quiet."""
    metrics_token: str | None = None
    """Who sends it reads the metrics; None: nobody does."""


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises :class:`pst_client.environment.SettingsMissing`."""
    return Settings(
        url=platform_url(environ),
        node_token=required(environ, "NODE_TOKEN", "a node token, made on the platform"),
        node_name=node_name(environ, "serve"),
        cache_dir=cache_dir(environ),
        public_url=environ.get(PREFIX + "NODE_URL", "").strip() or None,
        inner_url=environ.get(PREFIX + "NODE_INNER_URL", "").strip() or None,
        measures=environ.get(PREFIX + "MEASURE", "").strip().lower() not in {"0", "off", "no"},
        metrics_token=environ.get(PREFIX + "METRICS_TOKEN", "").strip() or None,
    )


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where pulled versions and the profile lie."""
    return Path(environ.get(PREFIX + "CACHE_DIR") or Path.home() / ".cache" / "sparsewright" / "serve").resolve()
