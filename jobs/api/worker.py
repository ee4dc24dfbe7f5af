"""Jobs for workers: claim, report, finish; and the data that a job's own token reads."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import BaseModel
from rest_framework import status
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.accounts.permissions import IsWorker
from hub.core.errors import BrokeOff, UserError
from hub.core.messages import read_sent
from hub.core.parsers import JSONParser
from hub.core.streams import CHUNK
from hub.datasets.models import DatasetSplit
from hub.registry import downloads
from hub.registry.models import Blob, VersionFile
from jobs.models import Job, JobArtifact
from jobs.services import attempts, lease
from pst import messages
from pst_client.contract import (
    LEASE_HEADER,
    CheckpointReport,
    Claim,
    Directive,
    EventBatch,
    Finish,
    Heartbeat,
    JobState,
    Message,
    Release,
    Sha256,
)

LEASE = OpenApiParameter(
    LEASE_HEADER, str, OpenApiParameter.HEADER, required=True, description="The claim's lease token; 409 when stale."
)


class Claiming(Message):
    node_id: UUID


class NextQuery(Message):
    node_id: UUID
    queues: list[str]


class NextJob(BaseModel):
    job_id: UUID | None


class Accepted(BaseModel):
    accepted: int
    directive: Directive


class StoredArtifact(BaseModel):
    sha256: Sha256
    size: int


class Finished(BaseModel):
    state: JobState
    version: int | None
    commit: str | None


class Released(BaseModel):
    state: JobState


class IsJob(BasePermission):
    """The token that a claim gave out for its job."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return actor_of(request).job_id is not None


def _lease_token(request: Request) -> str:
    return request.headers.get(LEASE_HEADER, "")


def _answer(message: BaseModel) -> Response:
    return Response(message.model_dump(mode="json"))


class WorkerView(APIView):
    permission_classes = [IsWorker]
    parser_classes = [JSONParser]


class NextView(WorkerView):
    @extend_schema(operation_id="nextJob", tags=["worker"], request=NextQuery, responses={200: NextJob})
    def post(self, request: Request) -> Response:
        """The job that waits longest in these queues: for a worker that starts or was idle, since doorbells can be
        lost. It is not claimed yet."""
        asked = read_sent(NextQuery, request.data)
        actor = actor_of(request)
        lease.worker(actor=actor, node_id=asked.node_id)
        job = Job.objects.visible_to(actor).waiting().filter(queue__in=asked.queues).first()
        return _answer(NextJob(job_id=None if job is None else job.id))


class ClaimView(WorkerView):
    @extend_schema(operation_id="claimJob", tags=["worker"], request=Claiming, responses={200: Claim})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Take a queued job. 409 `taken` when it isn't queued any more."""
        asked = read_sent(Claiming, request.data)
        return _answer(lease.claim(actor=actor_of(request), job_id=job_id, node_id=asked.node_id))


class HeartbeatView(WorkerView):
    @extend_schema(
        operation_id="jobHeartbeat", tags=["worker"], parameters=[LEASE], request=None, responses={200: Heartbeat}
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Renew the lease, and learn whether to go on, to cancel or to pause."""
        return _answer(lease.renew(actor=actor_of(request), job_id=job_id, token=_lease_token(request)))


class EventsView(WorkerView):
    @extend_schema(
        operation_id="addJobEvents",
        tags=["worker"],
        parameters=[LEASE],
        request=EventBatch,
        responses={200: Accepted},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Add events of the attempt; those known already, by `seq`, are passed over."""
        batch = read_sent(EventBatch, request.data)
        accepted, directive = attempts.add_events(
            actor=actor_of(request), job_id=job_id, token=_lease_token(request), events=batch.events
        )
        return _answer(Accepted(accepted=accepted, directive=directive))


class CheckpointView(WorkerView):
    @extend_schema(
        operation_id="reportCheckpoint",
        tags=["worker"],
        parameters=[LEASE],
        request=CheckpointReport,
        responses={204: None},
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Name the uploaded file from which a later attempt resumes."""
        attempts.save_checkpoint(
            actor=actor_of(request),
            job_id=job_id,
            token=_lease_token(request),
            report=read_sent(CheckpointReport, request.data),
        )
        return Response(status=status.HTTP_204_NO_CONTENT)


class FinishView(WorkerView):
    @extend_schema(
        operation_id="finishJob", tags=["worker"], parameters=[LEASE], request=Finish, responses={200: Finished}
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """End the attempt; a success publishes the version. Sent again, it gets the same answer."""
        answer = attempts.finish(
            actor=actor_of(request),
            job_id=job_id,
            token=_lease_token(request),
            report=read_sent(Finish, request.data),
        )
        return _answer(Finished.model_validate(answer))


class ReleaseView(WorkerView):
    @extend_schema(
        operation_id="releaseJob", tags=["worker"], parameters=[LEASE], request=Release, responses={200: Released}
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Give an unfinished job back, because the worker stops or the job was paused."""
        job = lease.release(
            actor=actor_of(request),
            job_id=job_id,
            token=_lease_token(request),
            reason=read_sent(Release, request.data).reason,
        )
        return _answer(Released(state=JobState(job.state)))


class ArtifactView(APIView):
    """PUT is the worker's with its lease, GET the job's token's."""

    content_negotiation_class = downloads.AnyAccept

    @staticmethod
    def largest_body() -> int:
        return 2**62  # streamed, and counted there

    def get_permissions(self) -> list[BasePermission]:
        return [IsWorker()] if self.request.method == "PUT" else [IsJob()]

    @extend_schema(
        operation_id="uploadArtifact",
        tags=["worker"],
        parameters=[LEASE],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses={201: StoredArtifact},
    )
    def put(self, request: Request, job_id: UUID, sha256: str) -> Response:
        """Upload a file of the attempt: its bytes are the body, and its name is their sha256."""
        blob = attempts.store_artifact(
            actor=actor_of(request),
            job_id=job_id,
            token=_lease_token(request),
            sha256=sha256,
            parts=_body(request),
        )
        return Response({"sha256": blob.sha256, "size": blob.size}, status=status.HTTP_201_CREATED)

    @extend_schema(
        operation_id="readArtifact",
        tags=["worker"],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, job_id: UUID, sha256: str) -> HttpResponseBase:
        """A file that the job uploaded before: the checkpoint to resume from. Range works."""
        jobs = Job.objects.visible_to(actor_of(request))
        found = JobArtifact.objects.filter(job__in=jobs).select_related("blob")
        artifact = get_object_or_404(found, job=job_id, blob=sha256)
        return downloads.send(request, VersionFile(path=sha256, blob=artifact.blob))


class SplitView(APIView):
    permission_classes = [IsJob]
    content_negotiation_class = downloads.AnyAccept

    @extend_schema(
        operation_id="readSplit",
        tags=["worker"],
        responses={(200, "application/jsonl"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, job_id: UUID, split: str) -> HttpResponseBase:
        """The rows of a split as JSON lines. Range works."""
        job = get_object_or_404(Job.objects.visible_to(actor_of(request)), pk=job_id)
        found = get_object_or_404(DatasetSplit, dataset=job.dataset_id, split=split)
        blob = Blob(sha256=found.sha256, size=found.size)
        return downloads.send(request, VersionFile(path=f"{split}.jsonl", blob=blob))


class LinesView(APIView):
    permission_classes = [IsJob]
    content_negotiation_class = downloads.AnyAccept

    @extend_schema(
        operation_id="readSplitLines",
        tags=["worker"],
        responses={(200, "application/json"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, job_id: UUID, split: str) -> HttpResponseBase:
        """Where the rows of a split stand in the user's file: its name, and each row's line."""
        job = get_object_or_404(Job.objects.visible_to(actor_of(request)), pk=job_id)
        found = get_object_or_404(DatasetSplit.objects.exclude(lines_sha256=""), dataset=job.dataset_id, split=split)
        blob = Blob(sha256=found.lines_sha256, size=found.lines_size)
        return downloads.send(request, VersionFile(path=f"{split}.lines.json", blob=blob))


def _body(request: Request) -> Iterator[bytes]:
    """The request's bytes as they come in; Django parses none of them."""
    try:
        expected = int(request.headers["Content-Length"])
    except (KeyError, ValueError):
        raise LengthRequired(messages.Message("Say how long the file is, in the header Content-Length.")) from None
    received = 0
    while chunk := request.stream.read(CHUNK) if request.stream else b"":
        received += len(chunk)
        yield chunk
    if received != expected:
        raise BrokeOff(
            messages.Message(
                "The upload broke off: {received:,} of {expected:,} bytes came; send the file again.",
                received=received,
                expected=expected,
            )
        )


class LengthRequired(UserError):
    status = status.HTTP_411_LENGTH_REQUIRED
    code = "length_required"
