"""Deleting files that nothing refers to any more. Of the apps that store files, this is the one that sees them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from django.db import transaction

from hub.core import storage
from hub.datasets.models import DatasetFile, DatasetSplit
from hub.registry.models import Blob, VersionFile
from jobs.models import FINAL, Job, JobArtifact, JobQuerySet

AT_ONCE = 500
UNFINISHED = timedelta(days=1)
"""No file takes longer to be written."""
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Unused:
    files: int
    bytes: int


def delete_unused(*, before: datetime, really: bool = True) -> Unused:
    """Delete the blobs that were last stored ``before`` and that no version, data set or job needs. A job that ended
    before needs none: what it uploaded is in its version, and if it is tried again it begins anew.

    Uploads may go on: content that is stored again is young from then on, and each blob is looked at once more in a
    transaction that keeps others from renewing it. Without ``really`` nothing is changed, only counted.
    """
    if really:
        storage.forget_unfinished(older=UNFINISHED)
        for job_id in _ended(before).filter(artifacts__isnull=False).distinct().values_list("pk", flat=True):
            _let_go(job_id=job_id, before=before)
    files = size = 0
    old = ((sha256, length) for sha256, when, length in storage.stored() if when < before)
    while chunk := dict(islice(old, AT_ONCE)):
        for sha256 in chunk.keys() - _needed(chunk, before):
            if not really or _delete(sha256=sha256, before=before):
                files += 1
                size += chunk[sha256]
    return Unused(files, size)


def delete_at_once(*, sha256s: Iterable[str]) -> None:
    """Delete those of these blobs, which a job has just let go of, that nothing needs. Only what a job uploads under
    its lease may be among them: whoever stores such content looks, alone, whether it is still there."""
    for sha256 in sha256s:
        with storage.alone(sha256):
            if not _needed([sha256], NEVER):
                Blob.objects.filter(pk=sha256).delete()  # refuses where a row refers to it that is not known here
                storage.delete(sha256)


def _ended(before: datetime) -> JobQuerySet:
    return Job.objects.filter(state__in=[state.value for state in FINAL], finished_at__lt=before)


def _needed(sha256s: Iterable[str], before: datetime) -> set[str]:
    """Those that some row refers to."""
    some = list(sha256s)
    return {
        *VersionFile.objects.filter(blob__in=some).values_list("blob_id", flat=True),
        *JobArtifact.objects.filter(blob__in=some).exclude(job__in=_ended(before)).values_list("blob_id", flat=True),
        *DatasetFile.objects.filter(sha256__in=some).values_list("sha256", flat=True),
        *DatasetSplit.objects.filter(sha256__in=some).values_list("sha256", flat=True),
        *DatasetSplit.objects.filter(lines_sha256__in=some).values_list("lines_sha256", flat=True),
    }


@transaction.atomic
def _let_go(*, job_id: UUID, before: datetime) -> None:
    job = _ended(before).select_for_update(of=("self",)).filter(pk=job_id).first()
    if job is None:  # tried again meanwhile
        return
    job.artifacts.all().delete()
    job.checkpoint = None
    job.save(update_fields=["checkpoint"])


def _delete(*, sha256: str, before: datetime) -> bool:
    with storage.alone(sha256):
        when = storage.stored_at(sha256)
        if when is None or when >= before or _needed([sha256], before):
            return False
        Blob.objects.filter(pk=sha256).delete()  # refuses where a row refers to it that is not known here
        storage.delete(sha256)
        return True
