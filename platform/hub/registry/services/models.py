"""What makes and deletes models."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError

from hub.accounts.actor import Actor
from hub.accounts.models import User, Workspace
from hub.accounts.services.audit import record
from hub.core.errors import Conflict, UserError
from hub.registry.access import check_deletable
from hub.registry.models import (
    MODEL_NAME,
    MODEL_NAME_RULE,
    Model,
    ModelKind,
)
from pst.messages import Message, word


@transaction.atomic
def ensure_model(
    *, workspace: Workspace, name: str, kind: ModelKind, user: User | None = None, description: str = ""
) -> Model:
    """The workspace's model of that name, made when it is missing.

    Raises UserError for a name that is not allowed and Conflict when a model of another kind has it.
    """
    try:
        MODEL_NAME(name)
    except ValidationError:
        raise UserError(
            Message("{name} can't name a model. {why}", name=repr(name), why=MODEL_NAME_RULE),
            details=[{"field": "name", "message": MODEL_NAME_RULE}],
        ) from None
    model, _ = Model.objects.get_or_create(
        workspace=workspace, name=name, defaults={"kind": kind, "created_by": user, "description": description}
    )
    if model.kind != kind:
        raise Conflict(
            Message(
                "{repo_id} is a {kind} model already; choose another name.",
                repo_id=model.repo_id,
                kind=word(model.kind),
            )
        )
    return model


@transaction.atomic
def delete_model(*, actor: Actor, model: Model) -> None:
    """Delete a model with its versions and aliases. Raises Conflict while a deployment or a job needs it."""
    Model.objects.select_for_update(of=("self",)).get(pk=model.pk)  # a deployment that is being made waits, or is seen
    check_deletable(model)
    repo = model.repo_id
    record(actor=actor, action="model.deleted", on=model)
    try:
        model.delete()
    except ProtectedError:
        raise Conflict(Message("{repo} is used by a job or a deployment and can't be deleted.", repo=repo)) from None
