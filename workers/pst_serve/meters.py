"""What the node counts for Prometheus. The registry is the process's own, which also tells its memory and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from pst_serve.cache import ModelCache

REQUESTS = Counter("sparsewright_requests", "Questions, by interface and HTTP status", ["interface", "status"])
ROWS = Counter("sparsewright_rows", "Inputs that were answered", ["model"])
SECONDS = Histogram(
    "sparsewright_answer_seconds",
    "From the whole question to its answer, waiting included",
    ["model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PASS_ROWS = Histogram("sparsewright_pass_rows", "Inputs of one pass of a model", buckets=(1, 2, 4, 8, 16, 32, 64))
WAITING = Gauge("sparsewright_waiting_rows", "Inputs that are not answered yet", ["model"])
VERSIONS = Gauge("sparsewright_loaded_versions", "Versions in memory")


def look(cache: ModelCache) -> None:
    """Set what is not counted as it happens."""
    names = cache.names()
    WAITING.clear()
    for name, version in names.items():
        WAITING.labels(name).set(version.batcher.held())
    VERSIONS.set(len({version.commit for version in names.values()}))
