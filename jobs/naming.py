"""The registry's name for what a job publishes, made from the job's name where the user gives none."""

from __future__ import annotations

import itertools
import re

from anyascii import anyascii

from hub.accounts.models import Workspace
from hub.datasets.models import Dataset
from hub.registry.models import Model
from jobs.models import Job

MAX_MODEL_NAME = 96


def default_model_name(*, workspace: Workspace, dataset: Dataset, name: str) -> str:
    """A name that is free, or that jobs of this name on this data set have published to before: such a job makes the
    next version. Whatever else comes to the same letters gets a number behind it, and is never merged in silence."""
    stem = slug(name)
    candidates = itertools.chain([stem], (_numbered(stem, number) for number in itertools.count(2)))
    return next(candidate for candidate in candidates if _is_ours(candidate, workspace, dataset, name))


def slug(name: str) -> str:
    """``name`` in the letters that a model's name may have, other scripts transliterated."""
    letters = re.sub(r"[^A-Za-z0-9._-]+", "-", anyascii(name)).strip("-._").lower()
    return letters[:MAX_MODEL_NAME].rstrip("-._") or "model"


def _numbered(stem: str, number: int) -> str:
    end = f"-{number}"
    return stem[: MAX_MODEL_NAME - len(end)].rstrip("-._") + end


def _is_ours(candidate: str, workspace: Workspace, dataset: Dataset, name: str) -> bool:
    jobs = Job.objects.filter(workspace=workspace, model_name=candidate)
    if jobs.exists():
        return not jobs.exclude(name=name, dataset=dataset).exists()
    return not Model.objects.filter(workspace=workspace, name=candidate).exists()
