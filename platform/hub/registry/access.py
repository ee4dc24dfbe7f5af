"""What lies above the registry has a say in who reads a model and whether it may go, without being imported here.

Apps add their rules in ``AppConfig.ready``.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Q

from hub.accounts.actor import Actor
from hub.registry.models import Model, ModelQuerySet

Reader = Callable[[Actor], Q | None]
"""Which models a node or job may read because of its task, as a condition on :class:`Model`; None: no opinion."""

Guard = Callable[[Model, str | None], None]
"""Called before a model (alias None) or one of its aliases is deleted; raises Conflict where something needs it."""

_readers: list[Reader] = []
_guards: list[Guard] = []


def register_reader(reader: Reader) -> None:
    if reader not in _readers:
        _readers.append(reader)


def register_guard(guard: Guard) -> None:
    if guard not in _guards:
        _guards.append(guard)


def readable_models(actor: Actor) -> ModelQuerySet:
    """Models whose files the actor may read. People: ``visible_to``. Nodes and jobs: what their task needs, only."""
    models: ModelQuerySet = Model.objects.all()
    if actor.user is not None:
        return models.visible_to(actor)
    allowed = Q(pk__in=[])
    for reader in _readers:
        condition = reader(actor)
        if condition is not None:
            allowed |= condition
    # A subquery: the rules join tables in which a model may stand several times.
    return models.filter(pk__in=Model.objects.filter(allowed).values("pk"))


def check_deletable(model: Model, alias: str | None = None) -> None:
    """Raise Conflict when a registered guard objects."""
    for guard in _guards:
        guard(model, alias)
