"""The playground's one endpoint: a question to a deployment, through the platform."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from pydantic import Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from hub.accounts.actor import actor_of
from hub.core.messages import read
from hub.serving import playground
from hub.serving.models import Deployment
from pst_client.contract import Message

MOST_INPUTS = 16
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class PlaygroundInput(Message):
    text: Text
    text_pair: Text | None = None


class PlaygroundQuestion(Message):
    inputs: list[PlaygroundInput] = Field(min_length=1, max_length=MOST_INPUTS)
    top_k: int | None = Field(None, ge=1, le=1000, description="Only the likeliest so many labels.")


class PredictView(APIView):
    @extend_schema(
        operation_id="askDeployment",
        tags=["serving"],
        request=PlaygroundQuestion,
        responses={200: playground.Answer},
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Have a ready node answer, for trying a deployment out. Programs ask the serving nodes themselves: it is
        faster, and takes more at once. 409 while no node is ready, 502 when none can be reached."""
        deployments = Deployment.objects.visible_to(actor_of(request)).select_related("workspace")
        deployment = get_object_or_404(deployments, pk=deployment_id)
        question = read(PlaygroundQuestion, request.data).model_dump(exclude_none=True)
        answer = playground.ask(actor=actor_of(request), deployment=deployment, question=question)
        return Response(answer.model_dump(mode="json"))
