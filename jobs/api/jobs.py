"""Jobs for people: estimate, submit, follow, and steer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters
import django_filters.rest_framework
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of, workspace_of
from hub.accounts.models import Role
from hub.core.errors import NotFound, UserError
from hub.core.messages import MOST, read
from hub.core.parsers import JSONParser
from jobs.api import schemas
from jobs.api.estimates import asked_base_model
from jobs.api.present import present, related, shown_events
from jobs.models import STATES, Job, JobQuerySet
from jobs.services import control, submission
from pst.messages import Message, word

MAX_EVENTS = 2000


def _shown(job_id: UUID) -> dict[str, Any]:
    [job] = present([related(Job.objects.all()).get(pk=job_id)])
    return job.model_dump(mode="json")


class JobFilter(django_filters.FilterSet):
    workspace = django_filters.CharFilter(field_name="workspace__slug", label="Slug of the workspace.")
    state = django_filters.ChoiceFilter(choices=STATES)
    dataset = django_filters.UUIDFilter(field_name="dataset", label="Id of the data set.")

    class Meta:
        model = Job
        fields: list[str] = []


class JobsView(generics.ListAPIView[Job]):
    parser_classes = [JSONParser]
    queryset = Job.objects.none()
    filter_backends = [django_filters.rest_framework.DjangoFilterBackend, SearchFilter, OrderingFilter]
    filterset_class = JobFilter
    search_fields = ["name", "model_name", "dataset__name"]
    ordering_fields = ["created_at", "finished_at", "name", "state"]

    def get_queryset(self) -> JobQuerySet:
        return related(Job.objects.visible_to(actor_of(self.request)))

    @extend_schema(operation_id="listJobs", tags=["jobs"], responses={200: schemas.Job})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Jobs of one's workspaces, the newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []
        return self.get_paginated_response([job.model_dump(mode="json") for job in present(page)])

    @extend_schema(
        operation_id="submitJob",
        tags=["jobs"],
        request=schemas.JobSubmission,
        responses={201: schemas.Job, 200: schemas.Job},
    )
    def post(self, request: Request) -> Response:
        """Queue a job: 201. 200 with the job that was made before, where the idempotency key was used already."""
        asked = read(schemas.JobSubmission, request.data)
        actor, workspace = actor_of(request), workspace_of(request, role=Role.EDITOR)
        job, new = submission.submit(
            actor=actor,
            workspace=workspace,
            dataset_id=asked.dataset,
            base=asked_base_model(actor, asked.base_model),
            target=asked.target,
            settings=asked.settings,
            name=asked.name,
            model_name=asked.model_name,
            queue=asked.queue,
            idempotency_key=asked.idempotency_key,
        )
        return Response(_shown(job.id), status=status.HTTP_201_CREATED if new else status.HTTP_200_OK)


class JobView(APIView):
    @extend_schema(operation_id="getJob", tags=["jobs"], responses={200: schemas.Job})
    def get(self, request: Request, job_id: UUID) -> Response:
        """One job as it stands."""
        get_object_or_404(Job.objects.visible_to(actor_of(request)), pk=job_id)
        return Response(_shown(job_id))


class CancelView(APIView):
    @extend_schema(operation_id="cancelJob", tags=["jobs"], request=None, responses={200: schemas.Job})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Cancel a job that waits, at once, or one that runs, as soon as its worker has stopped."""
        control.cancel(actor=actor_of(request), job_id=job_id)
        return Response(_shown(job_id))


class PauseView(APIView):
    @extend_schema(operation_id="pauseJob", tags=["jobs"], request=None, responses={200: schemas.Job})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Pause a job; one that runs is paused as soon as its worker has saved a checkpoint."""
        control.pause(actor=actor_of(request), job_id=job_id)
        return Response(_shown(job_id))


class ResumeView(APIView):
    @extend_schema(operation_id="resumeJob", tags=["jobs"], request=None, responses={200: schemas.Job})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Queue a paused job again, from its last checkpoint."""
        control.resume(actor=actor_of(request), job_id=job_id)
        return Response(_shown(job_id))


class RetryView(APIView):
    @extend_schema(operation_id="retryJob", tags=["jobs"], request=None, responses={200: schemas.Job})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Queue a failed job again, from its last checkpoint."""
        control.retry(actor=actor_of(request), job_id=job_id)
        return Response(_shown(job_id))


class JobEventsView(APIView):
    @extend_schema(
        operation_id="listJobEvents",
        tags=["jobs"],
        parameters=[
            OpenApiParameter("after", int, description="Only entries with a greater id; 0 from the start."),
            OpenApiParameter("limit", int, description=f"At most so many; 200 by default, {MAX_EVENTS} at most."),
        ],
        responses={200: schemas.JobEvents},
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """The job's record from where one left off, in its order. Nothing in it ever changes."""
        job = get_object_or_404(Job.objects.visible_to(actor_of(request)), pk=job_id)
        after = _whole_number(request, "after", default=0, most=MOST)
        limit = _whole_number(request, "limit", default=200, most=MAX_EVENTS)
        events = list(job.events.filter(id__gt=after).order_by("id")[:limit])
        answer = schemas.JobEvents(events=shown_events(events), last=events[-1].id if events else after)
        return Response(answer.model_dump(mode="json", exclude_unset=True))


class JobReportView(APIView):
    @extend_schema(operation_id="getJobReport", tags=["jobs"], responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, job_id: UUID) -> Response:
        """What the job measured: quality dense and sparse, sparsity reached, sizes, seconds."""
        job = get_object_or_404(Job.objects.visible_to(actor_of(request)), pk=job_id)
        if job.report is None:
            raise NotFound(
                Message("The job is {state} and has no report yet.", state=word(job.state)), code="no_report"
            )
        return Response(job.report)


def _whole_number(request: Request, name: str, *, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise UserError(
            Message("{name} must be a whole number from 0 to {most}.", name=name, most=most),
            details=[{"field": name, "message": Message("must be a whole number from 0 to {most}", most=most)}],
        )
    return int(text)
