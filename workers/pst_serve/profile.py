"""The node's profile: measured once when the machine is quiet, kept in a file, and told to the platform."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from pst import machine
from pst.plan.latency import Profile
from pst_client.contract import NodeProfile
from pst_serve.measurable import Measurable
from pst_serve.measure import measure, software

log = logging.getLogger(__name__)

FILE = "profile.json"
LOOK_AGAIN_SECONDS = 30.0
QUIET = 0.5
"""Processes that want to run, per core, up to which a machine is quiet."""


def quiet() -> bool:
    """Whether what is measured now would be the machine's own speed, and would disturb nobody."""
    return os.getloadavg()[0] < QUIET * machine.cpus()


class Profiler:
    """:meth:`step` now and then from one thread; :meth:`get` from any. ``engine`` serves every model, ``sparse`` those
    that it has.

    A profile that somebody else wrote meanwhile (``python -m pst_serve --measure``) is taken up.
    """

    def __init__(
        self,
        folder: Path,
        engine: Measurable,
        sparse: Measurable | None = None,
        *,
        measure: Callable[[Measurable], Profile] = measure,
        quiet: Callable[[], bool] = quiet,
    ) -> None:
        self._path = folder / FILE
        self._engine, self._sparse = engine, sparse
        self._measure = measure
        self._quiet = quiet
        self._lock = threading.Lock()
        self._read_at = -1
        self._found: NodeProfile | None = None
        # Not at once: the load of the last minute does not know yet what has just been started.
        self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS

    def get(self) -> NodeProfile | None:
        """The profile, where there is one of this engine, device and software."""
        with self._lock:
            try:
                written_at = self._path.stat().st_mtime_ns
            except FileNotFoundError:
                return None
            if written_at != self._read_at:
                self._read_at, self._found = written_at, self._read()
            return self._found

    def step(self) -> bool:
        """Measure if there is no profile and the machine is quiet; True if that was done."""
        if time.monotonic() < self._look_at or self.get() is not None:
            return False
        self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
        if not self._quiet():
            return False
        self.write()
        return True

    def write(self) -> NodeProfile:
        """Measure now, whatever else the machine does."""
        if not self._quiet():
            log.warning("this machine is busy: measure again when it is quiet, or times will be planned as too long")
        log.info("measuring this node, which takes some seconds")
        begin = time.monotonic()
        made = NodeProfile(
            measured_at=datetime.now(UTC),
            times=self._measure(self._engine),
            sparse=None if self._sparse is None else self._measure(self._sparse),
        )
        partial = self._path.with_suffix(".part")
        partial.write_text(made.model_dump_json(), encoding="utf-8")
        partial.replace(self._path)
        log.info(
            "measured on %s with %s in %.0f s",
            made.times.device,
            made.times.engine if made.sparse is None else f"{made.times.engine} and {made.sparse.engine}",
            time.monotonic() - begin,
        )
        return made

    def _read(self) -> NodeProfile | None:
        try:
            found = NodeProfile.read_json(self._path.read_bytes())
        except (OSError, ValidationError) as error:
            log.warning("%s can't be used and is measured anew: %s", self._path, error)
            return None
        same = _same(found.times, self._engine) and _same(found.sparse, self._sparse)
        return found if same else None


def _same(found: Profile | None, engine: Measurable | None) -> bool:
    if found is None or engine is None:
        return found is None and engine is None
    return (found.engine, found.device, found.software) == (engine.name, engine.device_name, software())
