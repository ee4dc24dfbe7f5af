"""A version as one tar or zip."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from typing import Any

import pytest

from hub.registry.models import ModelVersion
from tests.factories.accounts import Person
from tests.factories.registry import files, published

pytestmark = pytest.mark.django_db
ARCHIVE = "/api/v1/models/acme/tickets/versions/1/archive"
DEEP = "/".join(["folder-with-a-name"] * 8) + "/ünïcode.txt"


@pytest.fixture
def version(owner: Person) -> ModelVersion:
    return published(owner.workspace, contents=files(**{DEEP: b"deep"}))


def download(owner: Person, query: str = "") -> tuple[Any, bytes]:
    answer = owner.client.get(ARCHIVE + query)
    assert answer.status_code == 200
    content = b"".join(answer.streaming_content)
    assert len(content) == int(answer["Content-Length"])
    return answer, content


def check(version: ModelVersion, found: dict[str, bytes]) -> None:
    expected = {file.path: file.blob_id for file in version.files.all()}
    assert {path: hashlib.sha256(content).hexdigest() for path, content in found.items()} == expected


def test_tar(version: ModelVersion, owner: Person) -> None:
    answer, content = download(owner)
    assert answer["Content-Disposition"] == 'attachment; filename="tickets-v1.tar"'
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        members = archive.getmembers()
        assert [item.name for item in members] == sorted(item.name for item in members)
        assert all(item.isreg() and item.mode == 0o644 and item.uid == 0 for item in members)
        check(version, {item.name: archive.extractfile(item).read() for item in members})  # type: ignore[union-attr]
    assert download(owner, "?format=tar")[1] == content


def test_zip(version: ModelVersion, owner: Person) -> None:
    answer, content = download(owner, "?format=zip")
    assert answer["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(archive.namelist())
        assert all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
        check(version, {name: archive.read(name) for name in archive.namelist()})


@pytest.mark.parametrize("accept", ["application/zip", "text/html", "*/*"])
def test_head_and_accept(version: ModelVersion, owner: Person, accept: str) -> None:
    head = owner.client.head(ARCHIVE, HTTP_ACCEPT=accept)
    assert head.status_code == 200 and int(head["Content-Length"]) == len(download(owner)[1])


def test_unknown_format(version: ModelVersion, owner: Person) -> None:
    for kind in ("rar", "", "json"):
        answer = owner.client.get(f"{ARCHIVE}?format={kind}")
        assert answer.status_code == 400 and "tar or zip" in answer.json()["error"]["message"]
