"""One attempt of a job, from its claim to its end."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

from pst.config import Phase
from pst.messages import Message, recall, said
from pst_client import hardware, layout
from pst_client.api.worker import Leased
from pst_client.client import Platform, file_sha256
from pst_client.contract import Claim, Directive, FileRef, Finish, LogData, PhaseData, Release
from pst_client.errors import PlatformError
from pst_worker.child import Child
from pst_worker.inputs import prepare
from pst_worker.meter import Meter
from pst_worker.stream import PATIENCE_SECONDS, JobStream, LeaseLost
from pst_worker.watchdog import Watchdog

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
"""How long a child that shall stop may take to write its checkpoint."""

POLL_SECONDS = 0.1
AGAIN_SECONDS = 2.0
EXPORT = "export"


class Reason(Enum):
    """Why an attempt ends before its work is done."""

    CANCEL = auto()
    PAUSE = auto()
    SHUTDOWN = auto()


class Attempt:
    """Runs in one thread; ``stopping`` is set from outside when the worker itself must end."""

    def __init__(
        self,
        platform: Platform,
        claim: Claim,
        folder: Path,
        cache: Path,
        stopping: threading.Event,
        stuck_seconds: float,
    ) -> None:
        self._platform = platform
        self._claim = claim
        self._folder = folder
        self._cache = cache
        self._stopping = stopping
        self._stuck_seconds = stuck_seconds
        self._leased = Leased(platform.http, claim.spec.job_id, claim.lease.token)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._stream = JobStream(self._leased, claim, folder)
        self._watchdog: Watchdog | None = None
        self._stuck = False

    def run(self) -> None:
        """Do the job, tell the platform how it ended, and leave no file behind. What goes wrong with the job or with
        the platform is told to the platform or logged, not raised."""
        self._stream.start()
        try:
            self._run()
        except LeaseLost:
            log.warning("job %s was taken away; its result is dropped", self._claim.spec.job_id)
        except PlatformError as error:
            log.error("the end of job %s could not be told: %s", self._claim.spec.job_id, error)
        finally:
            self._stream.close()
            # A download that was left behind may still write; what it leaves goes at the worker's next start.
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        fetching = self._fetch()
        while not wait([fetching], POLL_SECONDS).done:
            if (reason := self._reason()) is not None:
                self._stop_early(reason)
                return
        error = fetching.exception()
        if isinstance(error, PlatformError):
            self._finish(_failed(error.message, retriable=error.passing))
            return
        if isinstance(error, OSError):
            sentence = Message("The worker can't keep the job's inputs: {why}.", why=error.strerror or str(error))
            self._finish(_failed(sentence, retriable=True))
            return
        fetching.result()
        child = Child(self._folder, self._from_child, processes=max(1, len(hardware.gpus())))
        try:
            with Meter(self._stream, child.pid):
                reason = self._watch(child)
        finally:
            child.kill()
        self._conclude(child.outcome(), reason)

    def _fetch(self) -> Future[None]:
        """Fetch the inputs in a thread that is left behind when the job must end meanwhile: a library's download
        can't be interrupted, and what it still writes lies in the shared cache."""
        self._stream.add(LogData(message="Fetching rows and base model."))
        fetching: Future[None] = Future()

        def fetch() -> None:
            try:
                prepare(self._platform, self._claim, self._folder, self._cache)
            except BaseException as error:
                fetching.set_exception(error)
            else:
                fetching.set_result(None)

        threading.Thread(target=fetch, name="job-inputs", daemon=True).start()
        return fetching

    def _reason(self) -> Reason | None:
        """Why the attempt must end now. Raises LeaseLost."""
        if self._stream.lost:
            raise LeaseLost
        if self._stream.directive is Directive.CANCEL:
            return Reason.CANCEL
        if self._stream.directive is Directive.PAUSE:
            return Reason.PAUSE
        return Reason.SHUTDOWN if self._stopping.is_set() else None

    def _watch(self, child: Child) -> Reason | None:
        """Wait for the child's end; returns why it was made to end, if it was. Raises LeaseLost."""
        asked: Reason | None = None
        deadline = float("inf")
        self._watchdog = watchdog = Watchdog(child.pid, self._stuck_seconds)
        while not child.wait(POLL_SECONDS):
            reason = self._reason()
            if reason is Reason.CANCEL:
                child.kill()
                child.wait(CHECKPOINT_SECONDS)
                return reason
            if reason is not None and asked is None:
                asked, deadline = reason, time.monotonic() + CHECKPOINT_SECONDS
                child.stop()
            if watchdog.stuck():
                log.error("the child has stood still for %.0f s and is killed", self._stuck_seconds)
                self._stuck = True
                child.kill()
            elif time.monotonic() > deadline:
                log.warning("the child wrote no checkpoint in %.0f s and is killed", CHECKPOINT_SECONDS)
                child.kill()
        return asked

    def _from_child(self, event: dict[str, Any]) -> None:
        if self._watchdog is not None:
            self._watchdog.heard()
        self._stream.from_child(event)

    def _conclude(self, outcome: dict[str, Any], reason: Reason | None) -> None:
        kind = outcome["outcome"]
        if kind == "succeeded":
            self._publish(outcome["report"])
        elif reason is Reason.CANCEL or (reason is not None and kind in ("stopped", "died")):
            self._stop_early(reason)
        elif self._stuck:
            sentence = Message(
                "The training process stood still for {seconds:g} seconds, without progress and without using the "
                "processor, and was ended.",
                seconds=self._stuck_seconds,
            )
            self._finish(_failed(sentence, detail=outcome.get("detail"), retriable=True))
        elif kind == "stopped":
            sentence = Message("The training process was told to stop by something outside this worker.")
            self._finish(_failed(sentence, retriable=True))
        else:
            self._finish(
                _failed(
                    recall(outcome["error"], outcome.get("said")),
                    detail=outcome.get("detail"),
                    retriable=kind == "died",
                )
            )

    def _stop_early(self, reason: Reason) -> None:
        if reason is Reason.CANCEL:
            self._finish(Finish(outcome="cancelled"))
            return
        release = Release(reason="paused" if reason is Reason.PAUSE else "shutdown")
        self._stream.drain(CHECKPOINT_SECONDS)
        self._tell(lambda: self._leased.release(release))

    def _publish(self, report: dict[str, Any]) -> None:
        """Upload the exported files, then finish: the platform makes the version."""
        self._stream.add(PhaseData(phase=Phase.PUBLISH))
        root = self._folder / EXPORT
        files = []
        try:
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                name = path.relative_to(root).as_posix()
                if name in layout.WRITTEN:  # a run leaves its report in the export too; the platform writes it anew
                    continue
                file = FileRef(path=name, sha256=file_sha256(path), size=path.stat().st_size)
                self._tell(partial(self._leased.upload, file, path))
                if self._reason() is Reason.CANCEL:
                    self._stop_early(Reason.CANCEL)
                    return
                files.append(file)
            self._finish(Finish(outcome="succeeded", files=files, report=report))
        except PlatformError as error:
            if error.passing:
                raise
            # A result that the platform refuses is a failed job.
            self._finish(_failed(Message("The result could not be published: {why}", why=error.message)))

    def _finish(self, finish: Finish) -> None:
        self._stream.drain()
        self._tell(lambda: self._leased.finish(finish))

    def _tell(self, call: Callable[[], object]) -> None:
        """Call the platform, and again for as long as it is only out of reach. Raises LeaseLost or PlatformError."""
        start = time.monotonic()
        while True:
            try:
                call()
                return
            except PlatformError as error:
                if error.code == "stale_lease":
                    raise LeaseLost from error
                patience = CHECKPOINT_SECONDS if self._stopping.is_set() else PATIENCE_SECONDS
                if not error.passing or time.monotonic() - start > patience:
                    raise
                log.warning("%s", error)
                time.sleep(AGAIN_SECONDS)


def _failed(error: str, *, detail: str | None = None, retriable: bool = False) -> Finish:
    return Finish(outcome="failed", error=error, said=said(error), detail=detail, retriable=retriable)
