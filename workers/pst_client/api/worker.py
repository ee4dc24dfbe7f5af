"""What a worker tells the platform about the attempt that it runs. Node token; writes carry the lease."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pst_client.api import API, Json
from pst_client.contract import (
    LEASE_HEADER,
    CheckpointReport,
    Claim,
    Directive,
    EventBatch,
    FileRef,
    Finish,
    Heartbeat,
    Release,
    SplitRef,
)

if TYPE_CHECKING:
    from pst_client.client import Http


class Worker:
    def __init__(self, http: Http) -> None:
        self._http = http

    def next(self, node_id: UUID, queues: list[str]) -> UUID | None:
        """The job that has waited longest in these queues, if any."""
        body = {"node_id": str(node_id), "queues": queues}
        found = self._http.mapping("POST", f"{API}/worker/next", json=body, idempotent=True)["job_id"]
        return None if found is None else UUID(found)

    def claim(self, job_id: UUID, node_id: UUID) -> Claim:
        """Take the job. Raises PlatformError with status 409 when it can't be had."""
        return Claim.read(self._http.json("POST", f"{API}/worker/jobs/{job_id}/claim", json={"node_id": str(node_id)}))

    def download_split(self, job_id: UUID, split: str, file: SplitRef, target: Path, *, job_token: str) -> None:
        """The rows, and beside them where they stand in the user's file: see :func:`pst.model.data.places_beside`."""
        path = f"{API}/worker/jobs/{job_id}/splits/{split}"
        self._http.download(path, target, sha256=file.sha256, size=file.size, token=job_token)
        if file.lines is not None:
            at = target.with_suffix(".lines.json")
            self._http.download(f"{path}/lines", at, sha256=file.lines.sha256, size=file.lines.size, token=job_token)

    def download_artifact(self, job_id: UUID, file: FileRef, target: Path, *, job_token: str) -> None:
        path = f"{API}/worker/jobs/{job_id}/artifacts/{file.sha256}"
        self._http.download(path, target, sha256=file.sha256, size=file.size, token=job_token)


class Leased:
    """The calls of one attempt: each carries its lease. A lost lease is a PlatformError with code ``stale_lease``.

    All may be sent twice: the platform ignores an event, a file or an end that it has already.
    """

    def __init__(self, http: Http, job_id: UUID, lease_token: str) -> None:
        self._http = http
        self._path = f"{API}/worker/jobs/{job_id}"
        self._headers = {LEASE_HEADER: lease_token}

    def heartbeat(self, *, timeout: float) -> Heartbeat:
        """Asked once: the next heartbeat comes soon enough."""
        return Heartbeat.read(self._post("heartbeat", {}, tries=1, timeout=timeout))

    def events(self, batch: EventBatch) -> Directive:
        return Directive(self._post("events", batch.model_dump(mode="json", exclude_unset=True))["directive"])

    def upload(self, file: FileRef, source: Path) -> None:
        self._http.upload(f"{self._path}/artifacts/{file.sha256}", source, headers=self._headers)

    def checkpoint(self, report: CheckpointReport) -> None:
        self._post("checkpoint", report.model_dump(mode="json"))

    def finish(self, finish: Finish) -> Json:
        return self._post("finish", finish.model_dump(mode="json"))

    def release(self, release: Release) -> None:
        self._post("release", release.model_dump(mode="json"))

    def _post(self, action: str, body: Json, **options: Any) -> Json:
        path = f"{self._path}/{action}"
        return self._http.json("POST", path, json=body, headers=self._headers, idempotent=True, **options) or {}
