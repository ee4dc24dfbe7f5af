"""What a job would come to, before it is submitted."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import Actor, actor_of, workspace_of
from hub.accounts.models import Role
from hub.core.errors import NotFound, UserError
from hub.core.messages import read
from hub.core.parsers import JSONParser
from hub.datasets.models import Dataset
from jobs import planning, waiting
from jobs.api import schemas
from jobs.api.present import shown_plan
from jobs.naming import default_model_name
from jobs.planning import BaseModel
from pst.messages import Message


def asked_base_model(actor: Actor, name: str | schemas.PublicModel) -> BaseModel:
    if isinstance(name, schemas.PublicModel):
        return planning.public_model(name=name.public)
    return planning.registry_model(actor=actor, name=name)


class EstimatesView(APIView):
    parser_classes = [JSONParser]

    @extend_schema(
        operation_id="estimate", tags=["jobs"], request=schemas.EstimateQuery, responses={200: schemas.Estimate}
    )
    def post(self, request: Request) -> Response:
        """What a job would prune, how large the result would be, and how long it may take. Nothing is queued."""
        asked = read(schemas.EstimateQuery, request.data)
        actor, workspace = actor_of(request), workspace_of(request, role=Role.VIEWER)
        base = asked_base_model(actor, asked.base_model)
        dataset = None
        task = asked.task
        num_labels = {"regression": 1, "generation": 0}.get(task, asked.num_labels)
        if asked.dataset is not None:
            dataset = Dataset.objects.visible_to(actor).filter(pk=asked.dataset).first()
            if dataset is None:
                raise NotFound(
                    Message("There is no data set {dataset}, or you have no access to it.", dataset=asked.dataset)
                )
            task, num_labels = dataset.task, dataset.outputs
        if num_labels is None:
            raise UserError(
                Message("Name a data set, or say how many labels there are."),
                details=[{"field": "num_labels", "message": Message("required without dataset")}],
            )
        plan = planning.plan_of(
            actor=actor,
            workspace=workspace,
            base=base,
            target=asked.target,
            settings=asked.settings,
            task=task,
            num_labels=num_labels,
        )
        if dataset is not None:
            planning.check_targets(base=base, settings=asked.settings, dataset=dataset)
        seconds = planning.seconds_of(actor=actor, base=base, settings=asked.settings, dataset=dataset)
        online = waiting.listening(waiting.online_workers(), queue=asked.queue, workspace_id=workspace.id)
        answer = schemas.Estimate(
            plan=None if plan is None else shown_plan(plan),
            seconds=schemas.SecondsEstimate(estimate=seconds),
            queue=schemas.QueueReport(
                name=asked.queue, position=len(waiting.places([asked.queue])) + 1, workers_online=len(online)
            ),
            model_name=None
            if dataset is None
            else default_model_name(workspace=workspace, dataset=dataset, name=asked.name or dataset.name),
        )
        return Response(answer.model_dump(mode="json"))
