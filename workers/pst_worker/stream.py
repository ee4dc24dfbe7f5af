"""What an attempt tells the platform while it runs: events in numbered batches, checkpoints, heartbeats.

Two threads: one sends events and checkpoints, the other renews the lease, so that a long upload can't lose it.
The platform may be away for a while: the child goes on, and what it said is kept. The lease's token decides in the end.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pst.config import Phase
from pst_client.api.worker import Leased
from pst_client.client import file_sha256
from pst_client.contract import (
    DATA,
    CheckpointData,
    CheckpointReport,
    Claim,
    Directive,
    Event,
    EventBatch,
    EventData,
    EventType,
    FileRef,
    LogData,
    ProgressData,
    Resources,
    event,
)
from pst_client.errors import PlatformError

log = logging.getLogger(__name__)

BATCH = 200
MAX_WAITING_EVENTS = 5_000
FLUSH_SECONDS = 0.5
LONGEST_HEARTBEAT_SECONDS = 3.0
PATIENCE_SECONDS = 24 * 3600.0
"""How long a job goes on, and its end waits to be told, while the platform is away: it ends no lease for that time."""
"""How long a platform may be silent before the job is given up."""

CURVES = (ProgressData, Resources)
GONE = frozenset({"authentication_failed", "not_authenticated", "forbidden", "permission_denied", "not_found"})
"""The platform's own words. A proxy before it may answer 404 for a moment, in words of its own."""


class LeaseLost(Exception):
    """The job is no longer this worker's: whatever it still produces must be dropped."""


class JobStream:
    """:attr:`directive` and :attr:`lost` say what the platform wants; read them often."""

    def __init__(self, leased: Leased, claim: Claim, folder: Path) -> None:
        self.directive = Directive.CONTINUE
        self.lost = False
        self._leased = leased
        self._folder = folder
        self._uploads = folder / "uploads"
        self._uploads.mkdir(parents=True)
        self._interval = min(claim.lease.seconds / 3, LONGEST_HEARTBEAT_SECONDS)
        self._timeout = max(claim.lease.seconds / 3, 1.0)
        self._next_seq = claim.next_seq
        self._waiting: deque[tuple[datetime, EventData]] = deque()
        self._unsent: list[Event] = []
        self._checkpoint: dict[str, Any] | None = None
        self._held = set(claim.spec.checkpoint_needs)
        self._hashed: dict[tuple[str, int, int], FileRef] = {}
        self._lock = threading.Lock()
        self._heard = time.monotonic()
        self._something = threading.Event()
        self._draining = threading.Event()
        self._closed = threading.Event()
        self._sender = threading.Thread(target=self._send_loop, name="job-events", daemon=True)
        self._keeper = threading.Thread(target=self._keep_loop, name="job-lease", daemon=True)

    def start(self) -> None:
        self._sender.start()
        self._keeper.start()

    def add(self, data: EventData) -> None:
        """Queue an event for the platform. Any thread."""
        with self._lock:
            self._waiting.append((datetime.now(UTC), data))
            if len(self._waiting) > MAX_WAITING_EVENTS:
                self._thin_out()
        self._something.set()

    def from_child(self, told: dict[str, Any]) -> None:
        """Take an event of the child; a checkpoint is put aside at once, since the child keeps only the newest two."""
        data = dict(told)
        kind = data.pop("type", None)
        if kind == EventType.CHECKPOINT:
            self._put_aside(data)
            return
        try:
            self.add(DATA[EventType(kind)].model_validate(data))
        except ValueError:  # no such kind, or not what one of it has
            self.add(LogData(level="warning", message=f"unknown event: {told!r}"[:500]))

    def drain(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Send what is left, the newest checkpoint included; what can't be sent in time is dropped.

        The lease is still kept afterwards. Raises :class:`LeaseLost`.
        """
        self._deadline = time.monotonic() + seconds
        self._draining.set()
        self._something.set()
        self._sender.join()
        if self.lost:
            raise LeaseLost

    def close(self) -> None:
        """Stop telling anything."""
        self._deadline = 0.0
        self._draining.set()
        self._closed.set()
        self._something.set()
        self._sender.join()
        self._keeper.join()

    def _thin_out(self) -> None:
        """The platform has been away for long: the older half of the curves is of no use to anybody."""
        surplus = (sum(isinstance(item[1], CURVES) for item in self._waiting) + 1) // 2
        kept = []
        for item in self._waiting:
            if surplus and isinstance(item[1], CURVES):
                surplus -= 1
            else:
                kept.append(item)
        self._waiting = deque(kept[-MAX_WAITING_EVENTS:])

    def _put_aside(self, data: dict[str, Any]) -> None:
        source = self._folder / str(data["path"])
        target = self._uploads / source.name
        try:
            os.link(source, target)
        except FileExistsError:
            return
        except OSError as error:
            # Replaced already, or no space: the job goes on, and so does the thread that hears the child.
            log.warning("checkpoint %s could not be kept: %s", source.name, error)
            return
        with self._lock:
            older, self._checkpoint = self._checkpoint, {**data, "path": str(target)}
        if older is not None:
            Path(older["path"]).unlink()
        self._something.set()

    def _send_loop(self) -> None:
        while not self.lost:
            self._something.wait(FLUSH_SECONDS)
            self._something.clear()
            draining = self._draining.is_set()
            self._guard(self._send_checkpoint)
            self._guard(self._send_events)
            if draining:
                with self._lock:
                    if not (self._waiting or self._unsent or self._checkpoint) or time.monotonic() > self._deadline:
                        return
            # Gathers what comes meanwhile, and spaces the tries when the platform is away.
            if draining:
                time.sleep(FLUSH_SECONDS / 5)
            else:
                self._draining.wait(FLUSH_SECONDS)

    def _keep_loop(self) -> None:
        while not self._closed.wait(self._interval) and not self.lost:
            self._guard(self._heartbeat)
            if time.monotonic() - self._heard > PATIENCE_SECONDS:
                log.error("the platform has been silent for %.0f s: the job is given up", PATIENCE_SECONDS)
                self.lost = True

    def _heartbeat(self) -> None:
        self.directive = self._leased.heartbeat(timeout=self._timeout).directive
        self._heard = time.monotonic()

    def _send_checkpoint(self) -> None:
        with self._lock:
            data, self._checkpoint = self._checkpoint, None
        if data is None:
            return
        path = Path(data["path"])
        file = FileRef(path=path.name, sha256=file_sha256(path), size=path.stat().st_size)
        try:
            needs = [self._needed(name) for name in data.get("needs", [])]
            self._leased.upload(file, path)
            self._leased.checkpoint(
                CheckpointReport(file=file, needs=needs, step=data["step"], phase=Phase(data["phase"]))
            )
        except PlatformError as error:
            with self._lock:
                if error.passing and self._checkpoint is None:  # else a newer one has come meanwhile
                    self._checkpoint = data
                else:
                    path.unlink()
            raise
        path.unlink()
        self.add(CheckpointData(step=data["step"], phase=data["phase"], bytes=file.size))

    def _needed(self, name: str) -> FileRef:
        """A file on which checkpoints build, uploaded unless the platform has it. Only a new run of the phase that
        wrote it replaces it, by another of the same place."""
        path = self._folder / name
        found = path.stat()
        key = name, found.st_mtime_ns, found.st_size
        if key not in self._hashed:
            self._hashed[key] = FileRef(path=name, sha256=file_sha256(path), size=found.st_size)
        file = self._hashed[key]
        if file not in self._held:
            self._leased.upload(file, path)
            self._held.add(file)
        return file

    def _send_events(self) -> None:
        """Send one batch: a child that talks faster than it can be told must not hold up its checkpoints."""
        if not self._gather():
            return
        try:
            self.directive = self._leased.events(EventBatch(events=self._unsent))
        except PlatformError as error:
            if not error.passing:
                self._unsent = []
            raise
        self._unsent = []

    def _gather(self) -> bool:
        """Number the next batch, unless one is still unsent. False: there is nothing to send."""
        if not self._unsent:
            with self._lock:
                taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            for at, data in taken:
                self._unsent.append(event(seq=self._next_seq, at=at, data=data))
                self._next_seq += 1
        return bool(self._unsent)

    def _guard(self, call: Callable[[], None]) -> None:
        """Run a call to the platform: a stale lease is final, silence passes, what is refused was dropped. Whatever
        else goes wrong must not end the loop: the lease would be lost, and the job with it."""
        try:
            call()
        except PlatformError as error:
            if error.code == "stale_lease" or error.code in GONE:
                log.warning("the lease is gone: %s", error)
                self.lost = True
            elif error.passing:
                log.warning("%s", error)
            else:
                log.error("the platform refused a message (%s): %s", error.code, error)
        except Exception:
            log.exception("telling the platform failed; it goes on")
