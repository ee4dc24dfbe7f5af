"""The worker as the platform sees it: registered, online, running at most one job."""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from pst_client import hardware
from pst_client.client import Platform
from pst_client.contract import NodeRegistration, NodeStatus
from pst_client.errors import PlatformError
from pst_client.supervise import supervise
from pst_worker.attempt import Attempt
from pst_worker.settings import Settings

log = logging.getLogger(__name__)

REGISTER_AGAIN_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 5.0


class AlreadyRunning(RuntimeError):
    """Another worker of the same name uses the same work folder."""


class Agent:
    """Owns the work folder, tells the platform every few seconds that it lives, and runs the jobs it is given."""

    def __init__(self, settings: Settings, platform: Platform) -> None:
        self._settings = settings
        self._platform = platform
        self._root = settings.work_dir / settings.node_name
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._was_idle = False
        self._job: UUID | None = None
        self._node_id: UUID | None = None
        self._heartbeat_seconds = REGISTER_AGAIN_SECONDS
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def prepare(self) -> None:
        """Take the work folder and clear what a killed worker left there. Raises :class:`AlreadyRunning`."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._lock = (self._root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise AlreadyRunning(
                f"A worker named {self._settings.node_name} runs already on {self._root}: "
                "give each worker of a machine a SPARSEWRIGHT_NODE_NAME of its own."
            ) from None
        shutil.rmtree(self._root / "jobs", ignore_errors=True)

    def register(self) -> None:
        """Register, waiting for a platform that is not up yet. Raises PlatformError when it refuses this worker."""
        while not self._stopping.is_set():
            try:
                self._register()
                return
            except PlatformError as error:
                if not error.passing:
                    raise
                log.warning("waiting for the platform: %s", error)
            self._stopping.wait(REGISTER_AGAIN_SECONDS)

    def start(self, ring: Callable[[UUID], None]) -> None:
        """Begin to tell the platform that this worker lives. ``ring`` puts a job's message into the queues again; it is
        called for jobs that wait although their message is lost."""
        self._thread = threading.Thread(
            target=supervise,
            args=(partial(self._live, ring),),
            kwargs={"until": self._ended, "longest": LONGEST_PAUSE_SECONDS},
            name="node-heartbeat",
            daemon=True,
        )
        self._thread.start()

    def run_job(self, job_id: UUID) -> None:
        """Claim the job and run one attempt of it; returns when the attempt has ended. A job that can't be had
        (taken, ended, unknown) is left alone: its message was an old one."""
        if self._stopping.is_set() or self._node_id is None:
            return
        try:
            claim = self._platform.worker.claim(job_id, self._node_id)
        except PlatformError as error:
            log.info("job %s is not to be had: %s", job_id, error)
            return
        log.info("job %s, attempt %d, begins", job_id, claim.spec.attempt)
        folder = self._root / "jobs" / f"{job_id}-{claim.spec.attempt}"
        self._job = job_id
        try:
            cache, stuck = self._settings.work_dir / "cache", self._settings.stuck_seconds
            Attempt(self._platform, claim, folder, cache, self._stopping, stuck).run()
        finally:
            self._job = None
            log.info("job %s, attempt %d, is over", job_id, claim.spec.attempt)

    def stop(self) -> None:
        """Take no more jobs; a running one writes its checkpoint and is given back. Returns at once."""
        self._stopping.set()

    def _register(self) -> None:
        answer = self._platform.node.register(
            NodeRegistration(
                name=self._settings.node_name,
                kind="worker",
                version=hardware.version(),
                queues=list(self._settings.queues),
                hardware=hardware.describe(),
            )
        )
        self._node_id, self._heartbeat_seconds = answer.node_id, answer.heartbeat_seconds
        log.info("registered as %s (%s), queues %s", self._settings.node_name, answer.node_id, self._settings.queues)

    def _live(self, ring: Callable[[UUID], None]) -> None:
        """One turn of the heartbeat."""
        idle = self._job is None
        try:
            self._tell()
            # A message that is on its way needs a moment: ask only in the second idle moment in a row.
            if self._was_idle and idle and not self._stopping.is_set():
                self._ring_again(ring)
        except PlatformError as error:
            log.warning("%s", error)
            if error.code == "unknown_node":
                # Somebody made the platform forget this node.
                self._register_quietly()
        self._was_idle = idle
        # While stopping, the node stays online until its job has been given back.
        if self._stopping.wait(self._heartbeat_seconds):
            if self._job is None:
                self._ended.set()
            else:
                time.sleep(self._heartbeat_seconds)

    def _register_quietly(self) -> None:
        try:
            self._register()
        except PlatformError as error:
            log.error("can't register: %s", error)

    def _tell(self) -> None:
        if self._node_id is None:
            raise RuntimeError("register before start")
        self._platform.node.heartbeat(NodeStatus(node_id=self._node_id, load=self._load()))

    def _load(self) -> dict[str, Any]:
        job = None if self._job is None else str(self._job)
        return {"busy": job is not None, "job_id": job, **hardware.load()}

    def _ring_again(self, ring: Callable[[UUID], None]) -> None:
        """Messages can be lost, rows can't: whoever is idle asks for the row and rings for it again."""
        if self._node_id is None:
            return
        job_id = self._platform.worker.next(self._node_id, list(self._settings.queues))
        if job_id is not None and self._job is None:
            log.info("job %s waits without a message: ringing", job_id)
            ring(job_id)
