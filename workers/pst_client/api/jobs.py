"""Estimates and jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pst_client.api import API, Json, given
from pst_client.contract import JobState

if TYPE_CHECKING:
    from pst_client.client import Http

ENDED = frozenset({JobState.SUCCEEDED.value, JobState.FAILED.value, JobState.CANCELLED.value})
EVENTS_PER_REQUEST = 200


class Jobs:
    def __init__(self, http: Http) -> None:
        self._http = http

    def estimate(
        self,
        *,
        base_model: str | dict[str, str],
        target: dict[str, Any],
        settings: dict[str, Any] | None = None,
        num_labels: int | None = None,
        dataset: str | None = None,
    ) -> Json:
        """``{"plan", "seconds", "queue"}`` of a job before it is submitted; nothing is stored."""
        body = given(base_model=base_model, target=target, settings=settings, num_labels=num_labels, dataset=dataset)
        return self._http.mapping("POST", f"{API}/estimates", json=body, idempotent=True)

    def submit(
        self,
        *,
        dataset: str,
        base_model: str | dict[str, str],
        target: dict[str, Any],
        settings: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        **options: str | None,
    ) -> Json:
        """Submit a job. ``options``: workspace, name, model_name, queue. With ``idempotency_key`` the same request
        made again returns the same job."""
        body = given(
            dataset=dataset,
            base_model=base_model,
            target=target,
            settings=settings,
            idempotency_key=idempotency_key,
            **options,
        )
        return self._http.mapping("POST", f"{API}/jobs", json=body, idempotent=idempotency_key is not None)

    def get(self, job_id: str) -> Json:
        return self._http.mapping("GET", f"{API}/jobs/{job_id}")

    def find(self, **filters: str | int | None) -> Json:
        return self._http.mapping("GET", f"{API}/jobs", params=given(**filters))

    def cancel(self, job_id: str) -> Json:
        return self._act(job_id, "cancel")

    def pause(self, job_id: str) -> Json:
        return self._act(job_id, "pause")

    def resume(self, job_id: str) -> Json:
        return self._act(job_id, "resume")

    def retry(self, job_id: str) -> Json:
        return self._act(job_id, "retry")

    def report(self, job_id: str) -> Json:
        return self._http.mapping("GET", f"{API}/jobs/{job_id}/report")

    def events(self, job_id: str, *, after: int = 0, limit: int = EVENTS_PER_REQUEST) -> list[Json]:
        """Events with an id above ``after``, oldest first: ``{"id", "attempt", "seq", "type", "at", "data"}``."""
        answer = self._http.mapping("GET", f"{API}/jobs/{job_id}/events", params={"after": after, "limit": limit})
        events: list[Json] = answer["events"]
        return events

    def follow(self, job_id: str, *, after: int = 0, interval: float = 1.0) -> Iterator[Json]:
        """Events as they come, until the job has ended and its last event was yielded."""
        while True:
            # Read the state first: events written before the end are then in the batches that follow.
            ended = self.get(job_id)["state"] in ENDED
            while batch := self.events(job_id, after=after):
                yield from batch
                after = batch[-1]["id"]
            if ended:
                return
            time.sleep(interval)

    def _act(self, job_id: str, action: str) -> Json:
        return self._http.mapping("POST", f"{API}/jobs/{job_id}/{action}", json={})
