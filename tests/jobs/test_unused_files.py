"""Files that nothing refers to are deleted, and only those, also while somebody stores the same content."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from hub.core import storage
from hub.registry.models import Blob, VersionFile
from hub.registry.services.versions import store_blob
from jobs.models import Job, JobArtifact
from jobs.services import attempts, unused
from jobs.services.unused import delete_unused
from jobs.tasks import sweep_files
from tests.factories.accounts import Person
from tests.factories.datasets import validated
from tests.factories.jobs import Worker, queued_job, worker
from tests.factories.registry import published

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def files(settings: Any, tmp_path: Path) -> None:
    """A storage of the test's own: the sweep looks at all there is."""
    kind = {"BACKEND": "hub.core.folder.FolderStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "default": kind}


def path_of(sha256: str) -> Path:
    return Path(default_storage.path(storage.blob_name(sha256)))


def age(*sha256s: str, days: float = 8) -> None:
    """As if they had been stored so long ago."""
    when = timezone.now().timestamp() - days * 86_400
    for sha256 in sha256s:
        os.utime(path_of(sha256), (when, when))


def left(content: bytes, *, days: float = 8) -> str:
    """A blob that nothing refers to."""
    sha256 = store_blob(parts=[content], max_bytes=10**6).sha256
    age(sha256, days=days)
    return sha256


def test_only_what_is_old_and_unused_goes(owner: Person) -> None:
    version = published(owner.workspace)
    dataset = validated(owner)
    needed = [*version.files.values_list("blob_id", flat=True)]
    needed += [*dataset.files.values_list("sha256", flat=True), *dataset.splits.values_list("sha256", flat=True)]
    needed += dataset.splits.values_list("lines_sha256", flat=True)
    age(*needed)
    old, young = left(b"of a model that was deleted"), left(b"just uploaded", days=6)
    loose, _ = storage.put([b"of an upload that failed"], max_bytes=100)  # has no row at all
    age(loose)
    sweep_files()
    assert all(path_of(sha256).is_file() for sha256 in (*needed, young))
    assert not path_of(old).exists() and not path_of(loose).exists()
    assert not Blob.objects.filter(pk=old).exists() and Blob.objects.filter(pk=young).exists()

    assert owner.client.delete(f"/api/v1/datasets/{dataset.id}").status_code == 204
    sweep_files()
    kept = set(version.files.values_list("blob_id", flat=True))
    assert {sha256 for sha256 in needed if path_of(sha256).exists()} == kept < set(needed)


def test_content_that_is_stored_again_is_young() -> None:
    sha256 = left(b"twice")
    assert store_blob(parts=[b"twice"], max_bytes=10).sha256 == sha256
    sweep_files()
    assert path_of(sha256).read_bytes() == b"twice"


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Has something happen after the sweep has found what nothing refers to, before it deletes."""

    def arrange(happens: Callable[[], Any]) -> None:
        delete = unused._delete

        def later(**given: Any) -> bool:
            happens()
            return delete(**given)

        monkeypatch.setattr(unused, "_delete", later)

    return arrange


def test_an_upload_during_the_sweep_keeps_its_file(between: Callable[[Callable[[], Any]], None]) -> None:
    sha256 = left(b"again")
    between(lambda: store_blob(parts=[b"again"], max_bytes=10))
    assert delete_unused(before=timezone.now() - timedelta(days=7)).files == 0
    assert path_of(sha256).is_file() and Blob.objects.filter(pk=sha256).exists()


def test_a_version_published_during_the_sweep_keeps_its_files(
    owner: Person, between: Callable[[Callable[[], Any]], None]
) -> None:
    version, sha256 = published(owner.workspace), left(b"slow to be published")
    between(lambda: VersionFile.objects.get_or_create(version=version, path="x", blob_id=sha256))
    sweep_files()
    assert path_of(sha256).is_file() and Blob.objects.filter(pk=sha256).exists()


def checkpointed(owner: Person) -> tuple[Job, Worker, str]:
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    gpu.checkpoint(job, b"weights so far")
    sha256 = hashlib.sha256(b"weights so far").hexdigest()
    age(sha256)
    return job, gpu, sha256


def test_checkpoints_go_some_days_after_their_job(owner: Person) -> None:
    job, gpu, sha256 = checkpointed(owner)
    sweep_files()
    assert path_of(sha256).is_file(), "a job that runs goes on from it"
    gpu.finish(job, {"outcome": "failed", "error": "Broken."})
    age(sha256)
    sweep_files()
    assert path_of(sha256).is_file(), "who tries it again soon goes on from it"
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=8))
    sweep_files()
    assert not path_of(sha256).exists() and not JobArtifact.objects.filter(job=job).exists()
    assert owner.client.post(f"/api/v1/jobs/{job.id}/retry").status_code == 200
    assert gpu.claim(job).json()["spec"]["checkpoint"] is None


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def held_by_disk(*contents: bytes) -> list[bool]:
    return [path_of(sha(content)).is_file() for content in contents]


@pytest.mark.django_db(transaction=True)
def test_a_superseded_checkpoint_goes_at_once(owner: Person) -> None:
    """The order is that of progress, whenever a checkpoint comes; the dense model stays as long as one needs it."""
    job, other, gpu, gpu_2 = queued_job(owner), queued_job(owner), worker(), worker("gpu-2")
    gpu.claim(job)
    gpu_2.claim(other)
    assert gpu.checkpoint(job, b"dense 5", step=5, phase="dense").status_code == 204
    assert gpu_2.checkpoint(other, b"another job's", step=1, phase="train", needs=b"teacher").status_code == 204
    assert gpu.checkpoint(job, b"train 0", step=0, needs=b"teacher").status_code == 204
    assert held_by_disk(b"dense 5", b"train 0", b"teacher") == [False, True, True]
    assert gpu.checkpoint(job, b"train 9", step=9, needs=b"teacher").status_code == 204
    assert held_by_disk(b"train 0", b"train 9", b"teacher") == [False, True, True]
    assert not Blob.objects.filter(pk=sha(b"train 0")).exists()
    # A phase that was run again takes nothing from what came further.
    assert gpu.checkpoint(job, b"dense 7", step=7, phase="dense").status_code == 204
    assert gpu.checkpoint(job, b"train 3", step=3).status_code == 204
    assert held_by_disk(b"dense 7", b"train 3", b"train 9", b"teacher") == [False, False, True, True]
    gpu.release(job)
    spec = gpu.claim(job).json()["spec"]
    assert spec["checkpoint"]["sha256"] == sha(b"train 9")
    assert [(file["path"], file["sha256"]) for file in spec["checkpoint_needs"]] == [
        ("dense/model.safetensors", sha(b"teacher"))
    ]
    # A version that is published goes on from nothing.
    assert gpu.finish(job, gpu.success(job)).json()["state"] == "succeeded"
    assert held_by_disk(b"train 9", b"teacher", b"another job's") == [False, True, True]
    assert Job.objects.get(pk=job.pk).checkpoint is None
    assert gpu_2.finish(other, gpu_2.success(other)).json()["state"] == "succeeded"
    assert held_by_disk(b"teacher", b"another job's") == [False, False]


@pytest.mark.django_db(transaction=True)
def test_what_a_checkpoint_shares_with_a_version_stays(owner: Person) -> None:
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    end = gpu.success(job)
    shared = end["files"][1]["sha256"]
    content = path_of(shared).read_bytes()
    assert gpu.checkpoint(job, content, step=3).status_code == 204
    assert gpu.finish(job, end).json()["state"] == "succeeded"
    assert path_of(shared).is_file()


@pytest.mark.django_db(transaction=True)
def test_what_is_let_go_while_another_job_stores_it_is_sent_again(
    owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the storing of a file and the row that says whose it is, another job lets go of the same bytes."""
    job, other, gpu, gpu_2 = queued_job(owner), queued_job(owner), worker(), worker("gpu-2")
    gpu.claim(job)
    gpu_2.claim(other)
    gpu.checkpoint(job, b"the same", step=1)
    store, once = attempts.store_blob, iter([True])

    def stored(**more: Any) -> Blob:
        blob = store(**more)
        if next(once, False):
            assert gpu.checkpoint(job, b"next", step=2).status_code == 204
        return blob

    monkeypatch.setattr(attempts, "store_blob", stored)
    answer = gpu_2.upload(other, b"the same")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_again")
    assert gpu_2.upload(other, b"the same").status_code == 201
    assert held_by_disk(b"the same") == [True]


def test_the_command_says_what_it_does(owner: Person) -> None:
    job, gpu, checkpoint = checkpointed(owner)
    gpu.finish(job, {"outcome": "failed", "error": "Broken."})
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=8))
    sha256, out = left(b"0123456789"), StringIO()
    call_command("delete_unused_files", "--dry-run", stdout=out)
    assert out.getvalue() == "2 files (24 bytes) would be deleted.\n"
    assert path_of(sha256).is_file() and path_of(checkpoint).is_file() and job.artifacts.exists()
    call_command("delete_unused_files", "--days", "9", stdout=out)
    assert path_of(sha256).is_file()
    call_command("delete_unused_files", stdout=out)
    assert out.getvalue().splitlines()[1:] == ["0 files (0 bytes) deleted.", "2 files (24 bytes) deleted."]
    assert not path_of(sha256).exists() and not path_of(checkpoint).exists()


@pytest.mark.django_db(transaction=True)
def test_who_stores_what_is_being_deleted_waits_and_stores_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections: the sweep has decided, and an upload of the same content comes before the file is gone."""
    sha256 = left(b"contended")
    deciding, uploading = threading.Event(), threading.Event()
    delete = storage.delete

    def slowly(name: str) -> None:
        deciding.set()
        assert not uploading.wait(0.5), "the upload did not wait for the sweep"
        delete(name)

    monkeypatch.setattr(storage, "delete", slowly)

    def upload() -> None:
        try:
            assert deciding.wait(10)
            storage.put([b"contended"], max_bytes=10)
            uploading.set()
        finally:
            connection.close()

    thread = threading.Thread(target=upload)
    thread.start()
    sweep_files()
    thread.join()
    assert uploading.is_set() and path_of(sha256).read_bytes() == b"contended"
    assert timezone.now() - (storage.stored_at(sha256) or timezone.now()) < timedelta(minutes=1)


def test_the_platform_sweeps_by_itself(settings: Any) -> None:
    assert settings.CELERY_BEAT_SCHEDULE["files.sweep"]["task"] == sweep_files.name
