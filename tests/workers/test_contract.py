"""One side may be newer than the other: readers pass over what they do not know, writers know what they write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import uuid4

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from pytest_django.live_server_helper import LiveServer

from hub.registry.models import ModelKind, ModelVersion
from jobs.api import schemas, worker
from jobs.models import Job
from pst_client import contract, supervise
from pst_client.client import Platform
from pst_client.contract import EventType, JobState, Message
from pst_worker.agent import Agent
from pst_worker.settings import Settings
from tests.factories.accounts import Person, predict_secret
from tests.factories.serving import profile
from tests.workers.conftest import Start, eventually, publish_folder, rows_dataset, state, submit
from tests.workers.scripted import newer
from tests.workers.test_serve import Served, deploy, publish_text

CANDIDATES = (
    *("a" * 64, "a" * 40, "acme/desk", "a name", "name", {}, [], 1, 0.9, 2.0, None, str(uuid4())),
    *(datetime.now(UTC).isoformat(), {"sparsity": 0.9}, profile()["times"]),
)
MODULES = (contract.__name__, worker.__name__)


def kinds(of: type[Message] = Message) -> Iterator[type[Message]]:
    for kind in of.__subclasses__():
        if kind.__module__ in MODULES:
            yield kind
        yield from kinds(kind)


def messages_in(annotation: Any) -> bool:
    own = isinstance(annotation, type) and issubclass(annotation, Message)
    return own or any(messages_in(part) for part in get_args(annotation))


def example(annotation: Any) -> Any:
    """Something that the type takes, with every message in it filled."""
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return {
            name: example(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
            for name, field in annotation.model_fields.items()
        }
    inner = [part for part in get_args(annotation) if messages_in(part)]
    if inner:
        return [example(inner[0])] if get_origin(annotation) is list else example(inner[0])
    tries: Any = CANDIDATES
    if get_origin(annotation) is Literal:
        tries = get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        tries = list(annotation)
    for candidate in tries:
        try:
            TypeAdapter(annotation).validate_python(candidate)
        except ValidationError:
            continue
        return candidate
    raise AssertionError(f"no example of {annotation}: add one")


KINDS = sorted(set(kinds()), key=lambda kind: kind.__name__)


def test_the_messages_are_found() -> None:
    assert {"Claim", "NodeOrders", "Heartbeat", "EventBatch", "NextQuery", "Manifest"} <= {k.__name__ for k in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_reader_passes_over_what_it_does_not_know(kind: type[Message]) -> None:
    known = kind.read(example(kind))
    more = newer.added(known, known.model_dump(mode="json"))
    assert newer.MORE in more
    assert kind.read(more) == known
    with pytest.raises(ValidationError, match=newer.MORE):
        kind(**more)


def test_a_reader_of_events_passes_over_what_it_does_not_know() -> None:
    at = datetime.now(UTC)
    for kind, holds in contract.DATA.items():
        data = holds.read(example(holds))
        written = contract.event(seq=1, at=at, data=data)
        more = newer.added(written, written.model_dump(mode="json"))
        read = contract.read_event(more)
        assert read == written and read is not None and read.type == kind and type(read.data) is holds
        with pytest.raises(ValidationError, match=newer.MORE):
            contract.EVENTS.validate_python(more)
    song = {"seq": 2, "at": at.isoformat(), "type": "song", "data": {"verse": 3}}
    state = {"seq": 3, "at": at.isoformat(), "type": "state", "data": {"state": "archived"}}
    assert contract.read_event(song) is contract.read_event(state) is None
    assert contract.EventBatch.read({"events": [song]}).events == []


@pytest.mark.parametrize("kind", [schemas.JobSubmission, schemas.EstimateQuery], ids=lambda kind: kind.__name__)
def test_what_people_send_is_still_refused(kind: type[Message]) -> None:
    with pytest.raises(ValidationError, match=newer.MORE):
        kind.model_validate({newer.MORE: 1})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("side", ["the worker", "the platform"])
def test_a_job_runs_though_one_side_is_newer(
    start: Start,
    owner: Person,
    light_base: ModelVersion,
    queue: str,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
) -> None:
    settings.NODE_HEARTBEAT_SECONDS = 0.3
    settings.LEASE_SECONDS = 3
    job = submit(owner, rows_dataset(owner.workspace), {"epochs": 1}, queue=queue)
    if side == "the platform":
        newer.install(monkeypatch.setattr)
    environment = {"NEWER": "1"} if side == "the worker" else {}
    worker = start("pst_worker", script="slowly", SPARSEWRIGHT_QUEUES=queue, **environment)
    eventually(lambda: state(job) in (JobState.SUCCEEDED, JobState.FAILED), what="the job's end")
    assert job.state == JobState.SUCCEEDED, (job.error, job.error_detail)
    assert Job.objects.get(pk=job.pk).events.filter(type=EventType.RESOURCES).exists()
    assert "Traceback" not in worker.output() and "refused" not in worker.output()


@pytest.mark.django_db(transaction=True)
def test_a_serving_node_serves_though_both_sides_are_newer(
    live_server: LiveServer,
    owner: Person,
    serve_token: str,
    tmp_path: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.NODE_HEARTBEAT_SECONDS = 0.1
    publish_text(owner, tmp_path / "model", "one")  # the manifest is as signed: of today
    newer.install(monkeypatch.setattr)
    publish_folder(
        tmp_path / "model", workspace=owner.workspace, name="newer", kind=ModelKind.SPARSE
    )  # and this one of tomorrow
    served = Served(live_server.url, serve_token, tmp_path / "cache")
    try:
        deploy(owner, "v1")
        assert owner.client.post("/api/v1/deployments", {"model": "acme/newer", "revision": "v1"}).status_code == 201
        served.until_version("acme/intents", 1)
        served.until_version("acme/newer", 1)
        assert served.authenticator.caller(predict_secret(owner)).workspace == "acme"
    finally:
        served.node.stop()
        served.store.close()
        served.platform.close()


def test_a_loop_that_raises_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[float] = []
    ended = threading.Event()

    def turn() -> None:
        turns.append(time.monotonic())
        if len(turns) in (1, 2, 4):
            raise KeyError("something that nobody foresaw")
        if len(turns) == 6:
            ended.set()

    supervise.supervise(turn, until=ended, first=0.05)
    assert len(turns) == 6 and caplog.text.count("\nKeyError: 'something") == 3
    pauses = [after - before for before, after in pairwise(turns)]
    assert pauses[0] > 0.04 and pauses[1] > 0.09 and pauses[3] > 0.04, "it backs off, and starts anew when it went well"
    assert supervise.Pauses(1, 30).next() == 1
    forever = supervise.Pauses(1, 30)
    assert [forever.next() for _ in range(5000)][-1] == 30


def test_the_worker_s_heartbeat_outlives_an_answer_that_nobody_foresaw(tmp_path: Path) -> None:
    answers: list[Any] = [{"wanted": 5}, [], "x", {"wanted": []}]
    beats: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("register"):
            return httpx.Response(200, json={"node_id": str(uuid4()), "heartbeat_seconds": 0.01})
        if request.url.path.endswith("next"):
            return httpx.Response(200, json={"job_id": None})
        beats.append(request.url.path)
        return httpx.Response(200, json=answers.pop(0) if len(answers) > 1 else answers[0])

    values = {"url": "http://p", "node_token": "t", "redis_url": "redis://x", "queues": ("q",)}
    made = Agent(
        Settings(**values, node_name="w", work_dir=tmp_path),  # type: ignore[arg-type]
        Platform("http://p", "t", transport=httpx.MockTransport(answer), tries=1),
    )
    made.prepare()
    made.register()
    made.start(lambda job_id: None)
    eventually(lambda: len(beats) > 6, what="heartbeats after the strange answers")
    made.stop()
    assert made._thread is not None
    made._thread.join(10)
    assert not made._thread.is_alive()
    made._lock.close()
