"""Jobs' rule in the registry: while it runs, a job reads its base model with its own token."""

from __future__ import annotations

from django.db.models import Q

from hub.accounts.actor import Actor
from jobs.models import LEASED, Job


def base_model_of_job(actor: Actor) -> Q | None:
    if actor.job_id is None:
        return None
    return Q(pk__in=Job.objects.visible_to(actor).filter(state__in=LEASED).values("base_model__model"))
