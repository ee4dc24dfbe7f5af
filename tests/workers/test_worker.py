from __future__ import annotations

import pytest

from hub.registry.models import ModelVersion
from pst_client.contract import JobState
from tests.factories.accounts import Person
from tests.workers.conftest import SETTINGS, Start, eventually, rows_dataset, state, submit

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_job_from_the_queue_to_a_published_version(
    start: Start, owner: Person, tiny_base: ModelVersion, queue: str
) -> None:
    worker = start("pst_worker", SPARSEWRIGHT_QUEUES=queue)
    job = submit(owner, rows_dataset(owner.workspace), SETTINGS, queue=queue)
    eventually(lambda: state(job) in {JobState.SUCCEEDED, JobState.FAILED}, seconds=60, what="the job's end")
    assert job.state == JobState.SUCCEEDED, job.error + job.error_detail
    assert worker.stop() == 0
    for e in job.events.order_by("at"): print(e.at, e.type, e.attempt, e.seq, str(e.data)[:150])
    assert 0
