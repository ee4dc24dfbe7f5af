"""Serving's rules in the registry: a node reads the models it was told to hold, and what is deployed stays."""

from __future__ import annotations

from django.db.models import Q

from hub.accounts.actor import Actor
from hub.core.errors import Conflict
from hub.registry.models import Model
from hub.serving.models import Deployment


def models_of_node(actor: Actor) -> Q | None:
    if not actor.is_node:
        return None
    return Q(deployments__placements__node__token=actor.token)


def refuse_deployed(model: Model, alias: str | None) -> None:
    """Raise Conflict where a deployment serves the model, or follows the alias."""
    deployments = Deployment.objects.filter(model=model).select_related("workspace")
    if alias is not None:
        deployments = deployments.filter(revision=alias)
    if deployment := deployments.first():
        what = f"The deployment {deployment} " + (f"follows {alias}" if alias is not None else f"serves {model}")
        raise Conflict(f"{what}; change or delete it first.")
