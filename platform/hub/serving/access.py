"""Serving's rules in the registry: a node reads the models it was told to hold, and what is deployed stays."""

from __future__ import annotations

from django.db.models import Q

from hub.accounts.actor import Actor
from hub.core.errors import Conflict
from hub.registry.models import Model
from hub.serving.models import Deployment
from pst.messages import Message


def models_of_node(actor: Actor) -> Q | None:
    if not actor.is_serving_node:
        return None
    return Q(deployments__placements__node__token=actor.token)


def refuse_deployed(model: Model, alias: str | None) -> None:
    """Raise Conflict where a deployment serves the model, or follows the alias."""
    deployments = Deployment.objects.filter(model=model).select_related("workspace")
    if alias is not None:
        deployments = deployments.filter(revision=alias)
    if deployment := deployments.first():
        raise Conflict(
            Message(
                "The deployment {deployment} serves {model}; change or delete it first.",
                deployment=deployment,
                model=model,
            )
            if alias is None
            else Message(
                "The deployment {deployment} follows {alias}; change or delete it first.",
                deployment=deployment,
                alias=alias,
            )
        )
