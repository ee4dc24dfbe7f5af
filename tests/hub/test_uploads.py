"""Resumable uploads: the protocol, who may continue one, what is swept, and 200 MB over a connection that breaks."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient

from hub.accounts.models import Role
from hub.datasets.models import Dataset, Upload
from hub.datasets.services import uploads
from hub.datasets.tasks import sweep_uploads, validate
from tests.factories.accounts import Person, bearer, node_secret, person
from tests.factories.datasets import ROWS, csv_of

URL = "/api/v1/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
CONTENT = csv_of(ROWS)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def begin(client: APIClient, size: int = len(CONTENT), name: str = "rows.csv", **headers: str) -> Any:
    metadata = f"filename {encoded(name)},workspace {encoded('acme')}"
    return client.post(URL, headers=TUS | {"Upload-Length": str(size), "Upload-Metadata": metadata} | headers)


def append(client: APIClient, where: str, content: bytes, offset: int, **headers: str) -> Any:
    return client.generic(
        "PATCH",
        where,
        content,
        content_type="application/offset+octet-stream",
        headers=TUS | {"Upload-Offset": str(offset)} | headers,
    )


def arrived(person: Person, content: bytes = CONTENT, name: str = "rows.csv") -> str:
    """The id of a complete upload."""
    answer = begin(person.client, len(content), name)
    assert append(person.client, answer["Location"], content, 0).status_code == 204
    return str(answer.json()["id"])


@pytest.mark.django_db
def test_pieces_become_a_data_set(owner: Person) -> None:
    made = begin(owner.client)
    assert made.status_code == 201, made.content
    where = made["Location"]
    assert made["Tus-Resumable"] == "1.0.0" and made["Upload-Expires"].endswith("GMT")
    assert (made.json()["name"], made.json()["offset"], made.json()["workspace"]) == ("rows.csv", 0, "acme")

    assert append(owner.client, where, CONTENT[:40], 0)["Upload-Offset"] == "40"
    head = owner.client.head(where, headers=TUS)
    assert (head.status_code, head["Upload-Offset"], head["Upload-Length"]) == (200, "40", str(len(CONTENT)))
    assert head["Cache-Control"] == "no-store"
    early = owner.client.post("/api/v1/datasets", {"upload": made.json()["id"]})
    assert early.status_code == 409 and early.json()["error"]["code"] == "incomplete"

    rest = append(owner.client, where, CONTENT[40:], 40)
    assert (rest.status_code, rest["Upload-Offset"]) == (204, str(len(CONTENT)))
    taken = made.json()["id"], arrived(owner, name="t.csv")
    answer = owner.client.post(
        "/api/v1/datasets",
        {"upload": taken[0], "test_upload": taken[1], "name": "mine", "label_column": "label"},
    )
    assert answer.status_code == 201, answer.content
    assert [(file["split"], file["name"], file["sha256"]) for file in answer.json()["files"]] == [
        ("train", "rows.csv", hashlib.sha256(CONTENT).hexdigest()),
        ("test", "t.csv", hashlib.sha256(CONTENT).hexdigest()),
    ]
    validate(answer.json()["id"])
    assert Dataset.objects.get().state == "ready" and Dataset.objects.get().options["label_column"] == "label"
    assert owner.client.head(where, headers=TUS).status_code == 404
    assert not Upload.objects.exists() and not any(uploads.path_of(UUID(one)).exists() for one in taken)


@pytest.mark.django_db
def test_what_the_protocol_refuses(owner: Person, settings: Any) -> None:
    client = owner.client
    assert client.post(URL, headers={"Upload-Length": "5"}).status_code == 412
    assert client.post(URL, headers=TUS).json()["error"]["details"][0]["field"] == "Upload-Length"
    assert begin(client, 0).status_code == 400
    assert begin(client, settings.UPLOAD_MAX_BYTES + 1).status_code == 413
    for wrong in ("filename ???", "filename " + encoded("a\0b"), "workspace " + base64.b64encode(b"\xff").decode()):
        assert begin(client, **{"Upload-Metadata": wrong}).status_code == 400, wrong
    options = client.options(URL)
    assert options.status_code == 204 and options["Tus-Max-Size"] == str(settings.UPLOAD_MAX_BYTES)

    where = begin(client, 10)["Location"]
    assert append(client, where, b"abc", 1).json()["error"]["code"] == "wrong_offset"
    assert append(client, where, b"abc", 0, **{"Tus-Resumable": "0.2"}).status_code == 412
    assert client.patch(where, {"a": 1}, headers=TUS | {"Upload-Offset": "0"}).status_code == 415
    assert append(client, where, b"x" * 11, 0).status_code == 413
    assert append(client, where, b"x" * 10, 0).status_code == 204
    assert append(client, where, b"x", 10).status_code == 413
    for _ in range(uploads.MOST - 1):
        assert begin(client).status_code == 201
    assert begin(client).status_code == 409


@pytest.mark.django_db
def test_two_connections_do_not_write_at_once(owner: Person) -> None:
    answer = begin(owner.client)

    def parts() -> Iterator[bytes]:
        yield CONTENT[:10]
        assert append(owner.client, answer["Location"], CONTENT[10:], 10).status_code == 423
        yield CONTENT[10:20]

    assert uploads.append(upload=Upload.objects.get(), offset=0, parts=parts()) == 20
    assert append(owner.client, answer["Location"], CONTENT[20:], 20).status_code == 204


@pytest.mark.django_db
def test_an_upload_is_its_user_s_alone(owner: Person, outsider: Person, api: APIClient) -> None:
    answer = begin(owner.client)
    where, upload = answer["Location"], answer.json()["id"]
    colleague = person("carl", workspace="acme", role=Role.EDITOR)
    for other in (outsider.client, colleague.client, bearer(node_secret("n"))):
        expected = {403, 404}
        assert other.get(where).status_code in expected
        assert append(other, where, CONTENT, 0).status_code in expected
        assert other.delete(where, headers=TUS).status_code in expected
    arrival = arrived(owner)
    assert outsider.client.post("/api/v1/datasets", {"upload": arrival}).status_code == 404
    assert colleague.client.post("/api/v1/datasets", {"upload": arrival}).status_code == 404
    assert api.get(where).status_code == 401
    assert begin(outsider.client).status_code == 404  # its metadata names acme
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    assert begin(viewer.client).status_code == 403
    assert owner.client.delete(where, headers=TUS).status_code == 204
    assert not Upload.objects.filter(pk=upload).exists()


@pytest.mark.django_db
def test_a_file_name_is_harmless(owner: Person) -> None:
    assert begin(owner.client, name="../../etc/passwd").json()["name"] == "passwd"
    assert begin(owner.client, name="..\\C:\\rows.csv").json()["name"] == "rows.csv"
    assert begin(owner.client, **{"Upload-Metadata": ""}).json()["name"] == "upload"


@pytest.mark.django_db
def test_what_nobody_continues_is_swept(owner: Person) -> None:
    kept, left = begin(owner.client).json()["id"], begin(owner.client).json()["id"]
    Upload.objects.filter(pk=left).update(expires_at=timezone.now() - timedelta(seconds=1))
    folder = uploads.path_of(Upload.objects.get(pk=kept).id).parent
    orphan = folder / f"{'0' * 32}.part"
    orphan.touch()
    os.utime(orphan, (1, 1))
    sweep_uploads()
    assert [str(pk) for pk in Upload.objects.values_list("pk", flat=True)] == [kept]
    assert not orphan.exists() and uploads.path_of(Upload.objects.get().id).exists()
    uploads.path_of(Upload.objects.get().id).unlink()
    assert owner.client.get(f"{URL}/{kept}").status_code == 404


@pytest.mark.django_db
def test_limits_are_told(owner: Person, api: APIClient, settings: Any) -> None:
    settings.UPLOAD_MAX_BYTES = 77
    assert owner.client.get("/api/v1/limits").json()["upload_bytes"] == 77
    assert api.get("/api/v1/limits").status_code == 401


PIECE = 1 << 20
PIECES = 200
NOISE = random.Random(7).randbytes(PIECE)


def piece(number: int) -> bytes:
    return number.to_bytes(8, "big") + NOISE[8:]


def body(begin: int) -> Iterator[bytes]:
    """The 200 MiB from ``begin`` on."""
    first, skip = divmod(begin, PIECE)
    for number in range(first, PIECES):
        yield piece(number)[skip if number == first else 0 :]


def send_and_break(server: str, where: str, token: str, offset: int, length: int) -> None:
    """PATCH all that is left, and cut the connection after ``length`` bytes."""
    address = urlsplit(server)
    head = (
        f"PATCH {where} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {PIECES * PIECE - offset}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 80)) as line:
        line.sendall(head.encode())
        for part in body(offset):
            line.sendall(part[:length])
            length -= len(part)
            if length <= 0:
                break
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_200_mb_cut_off_twice_arrive_whole(owner: Person, live_server: LiveServer) -> None:
    whole = hashlib.sha256()
    for part in body(0):
        whole.update(part)
    with httpx.Client(base_url=live_server.url, headers=TUS | {"Authorization": f"Bearer {owner.token}"}) as client:
        made = client.post(URL, headers={"Upload-Length": str(PIECES * PIECE)})
        where, offset = made.headers["Location"], 0

        def stands() -> int:
            return int(client.head(where).headers["Upload-Offset"])

        for cut in (70 * PIECE + 12_345, 60 * PIECE + 1):
            send_and_break(live_server.url, where, owner.token, offset, cut)
            until = time.monotonic() + 20
            before, offset = offset, stands()
            while time.monotonic() < until and (offset != (now := stands()) or offset == before):
                offset = now
                time.sleep(0.1)
            assert before < offset < PIECES * PIECE
        rest = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        length = {"Content-Length": str(PIECES * PIECE - offset)}
        answer = client.patch(where, content=body(offset), headers=rest | length, timeout=60)
        assert answer.status_code == 204, answer.text
        assert stands() == PIECES * PIECE
        done = client.post("/api/v1/datasets", json={"upload": made.json()["id"]}, timeout=60)
    assert done.json()["files"] == [
        {"split": "train", "name": "upload", "size": PIECES * PIECE, "sha256": whole.hexdigest()}
    ]
