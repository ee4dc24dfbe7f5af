"""One attempt of a job, from its claim to its end."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pst_client.api.worker import Leased
from pst_client.client import Platform, file_sha256
from pst_client.contract import Claim, Directive, EventType, FileRef, Finish, Phase, Release
from pst_client.errors import PlatformError
from pst_worker.child import Child
from pst_worker.inputs import prepare
from pst_worker.stream import PATIENCE_SECONDS, JobStream, LeaseLost

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""How long a child that shall stop may take to write its checkpoint."""

POLL_SECONDS = 0.2
AGAIN_SECONDS = 2.0
EXPORT = "export"


class Attempt:
    """Runs in one thread; ``stopping`` is set from outside when the worker itself must end."""

    def __init__(
        self, platform: Platform, claim: Claim, folder: Path, cache: Path, stopping: threading.Event
    ) -> None:
        self._platform = platform
        self._claim = claim
        self._folder = folder
        self._cache = cache
        self._stopping = stopping
        self._wake = threading.Event()
        self._leased = Leased(platform.http, claim.spec.job_id, claim.lease.token)

    def run(self) -> None:
        """Do the job, tell the platform how it ended, and leave no file behind. Raises nothing that the job caused."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        stream = JobStream(self._leased, self._claim, self._folder, self._wake)
        stream.start()
        try:
            self._run(stream)
        except LeaseLost:
            log.warning("job %s was taken away; its result is dropped", self._claim.spec.job_id)
        finally:
            stream.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, stream: JobStream) -> None:
        try:
            self._prepare(stream)
        except PlatformError as error:
            self._end(stream, Finish(outcome="failed", error=error.message, retriable=error.passing))
            return
        except Interrupted as interrupt:
            self._conclude(stream, {"outcome": "stopped"}, interrupt.reason)
            return
        child = Child(self._folder, stream.from_child)
        try:
            reason = self._watch(stream, child)
        finally:
            child.kill()
        self._conclude(stream, child.outcome(), reason)

    def _prepare(self, stream: JobStream) -> None:
        """Fetch the inputs, in a thread of their own that is left behind when the job shall end meanwhile.
        Raises PlatformError, LeaseLost or Interrupted."""
        stream.add(EventType.LOG, {"level": "info", "message": "Fetching rows and base model."})
        with ThreadPoolExecutor(1, thread_name_prefix="job-inputs") as executor:
            fetching = executor.submit(prepare, self._platform, self._claim, self._folder, self._cache)
            while not wait([fetching], POLL_SECONDS).done:
                if (reason := self._reason(stream)) is not None:
                    executor.shutdown(wait=False)
                    raise Interrupted(reason)
            fetching.result()

    def _watch(self, stream: JobStream, child: Child) -> Directive | None:
        """Wait for the child's end. Returns why it was made to end: CANCEL, PAUSE, CONTINUE for a worker that shuts
        down, or None. Raises LeaseLost after killing it."""
        reason: Directive | None = None
        deadline = float("inf")
        while not child.wait(POLL_SECONDS):
            if stream.lost or stream.directive is Directive.CANCEL:
                child.kill()
                child.wait(CHECKPOINT_SECONDS)
                if stream.lost:
                    raise LeaseLost
                return Directive.CANCEL
            if reason is None and (stream.directive is Directive.PAUSE or self._stopping.is_set()):
                reason = Directive.PAUSE if stream.directive is Directive.PAUSE else Directive.CONTINUE
                deadline = time.monotonic() + CHECKPOINT_SECONDS
                child.stop()
            if time.monotonic() > deadline:
                log.warning("the child wrote no checkpoint in %.0f s and is killed", CHECKPOINT_SECONDS)
                child.kill()
        return reason

    def _conclude(self, stream: JobStream, outcome: dict[str, Any], reason: Directive | None) -> None:
        kind = outcome["outcome"]
        if reason is Directive.CANCEL:
            self._end(stream, Finish(outcome="cancelled"))
        elif kind == "succeeded":
            self._publish(stream, outcome["report"])
        elif reason is not None and kind in ("stopped", "died"):
            release = Release(reason="paused" if reason is Directive.PAUSE else "shutdown")
            stream.drain(CHECKPOINT_SECONDS)
            self._tell(lambda: self._leased.release(release))
        elif kind == "stopped":
            # Somebody else sent the child a SIGTERM; its checkpoint is good.
            sentence = "The training process was told to stop by something outside this worker."
            self._end(stream, Finish(outcome="failed", error=sentence, retriable=True))
        else:
            self._end(
                stream,
                Finish(
                    outcome="failed",
                    error=outcome["error"],
                    detail=outcome.get("detail"),
                    retriable=kind == "died",
                ),
            )

    def _publish(self, stream: JobStream, report: dict[str, Any]) -> None:
        """Upload the exported files, then finish: the platform makes the version."""
        stream.add(EventType.PHASE, {"phase": Phase.PUBLISH.value})
        root = self._folder / EXPORT
        files = []
        try:
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                name = path.relative_to(root).as_posix()
                file = FileRef(path=name, sha256=file_sha256(path), size=path.stat().st_size)
                self._tell(lambda file=file, path=path: self._leased.upload(file, path))  # type: ignore[misc]
                if stream.lost:
                    raise LeaseLost
                if stream.directive is Directive.CANCEL:
                    self._end(stream, Finish(outcome="cancelled"))
                    return
                files.append(file)
            self._end(stream, Finish(outcome="succeeded", files=files, report=report))
        except PlatformError as error:
            if error.passing or error.code == "stale_lease":
                raise LeaseLost from error
            # What the platform refuses to publish is a failed job, not a lost one.
            self._end(stream, Finish(outcome="failed", error=f"The result could not be published: {error.message}"))

    def _end(self, stream: JobStream, finish: Finish) -> None:
        stream.drain()
        self._tell(lambda: self._leased.finish(finish))

    def _tell(self, call: Callable[[], object]) -> None:
        """Call the platform, and again for as long as it is only out of reach. Raises LeaseLost or PlatformError."""
        deadline = time.monotonic() + (CHECKPOINT_SECONDS if self._stopping.is_set() else PATIENCE_SECONDS)
        while True:
            try:
                call()
                return
            except PlatformError as error:
                if error.code == "stale_lease":
                    raise LeaseLost from error
                if not error.passing or time.monotonic() > deadline:
                    raise
                log.warning("%s", error)
                self._stopping.wait(AGAIN_SECONDS)
