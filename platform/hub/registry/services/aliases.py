"""What moves and deletes aliases."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.services import webhooks
from hub.accounts.services.audit import record
from hub.core.errors import NotFound, UserError
from hub.registry.access import check_deletable
from hub.registry.models import (
    ALIAS,
    ALIAS_RULE,
    Alias,
    Model,
    ModelVersion,
)
from hub.registry.services.versions import LATEST
from pst.messages import Message


@transaction.atomic
def move_alias(*, actor: Actor, model: Model, name: str, version: ModelVersion) -> Alias:
    """Point the alias at the version; made when it is missing. ``latest`` is the platform's own."""
    if name == LATEST:
        raise UserError(Message("latest always names the newest version; choose another alias."))
    try:
        ALIAS(name)
    except ValidationError:
        raise UserError(
            Message("{name} can't be an alias. {why}", name=repr(name[:80]), why=ALIAS_RULE),
            details=[{"field": "alias", "message": ALIAS_RULE}],
        ) from None
    Model.objects.select_for_update().get(pk=model.pk)
    before = Alias.objects.select_related("version").filter(model=model, name=name).first()
    alias, _ = Alias.objects.update_or_create(
        model=model, name=name, defaults={"version": version, "moved_by": actor.user, "moved_at": timezone.now()}
    )
    data = {
        "model": model.repo_id,
        "alias": name,
        "version": version.number,
        "commit": version.commit,
        "from": before.version.number if before else None,
    }
    record(actor=actor, action="alias.moved", on=model, **data)
    webhooks.notify(workspace=model.workspace, event="alias.moved", payload=data)
    return alias


@transaction.atomic
def delete_alias(*, actor: Actor, model: Model, name: str) -> None:
    """Raises NotFound, UserError for ``latest``, and Conflict while a deployment follows the alias."""
    if name == LATEST:
        raise UserError(Message("latest always names the newest version; it can't be deleted."))
    alias = None
    if re.match(ALIAS.regex, name):
        alias = Alias.objects.select_related("version").filter(model=model, name=name).first()
    if alias is None:
        raise NotFound(Message("{repo_id} has no alias {name}.", repo_id=model.repo_id, name=repr(name[:80])))
    Model.objects.select_for_update(of=("self",)).get(pk=model.pk)  # a deployment that is being made waits, or is seen
    check_deletable(model, name)
    alias.delete()
    record(actor=actor, action="alias.deleted", on=model, alias=name, version=alias.version.number)
