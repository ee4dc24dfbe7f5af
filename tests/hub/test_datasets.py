"""Upload, validation, rows, changes and deletion of data sets through the API."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from hub.accounts.models import AuditEvent, Role, Webhook
from hub.core import storage
from hub.datasets.models import Dataset, DatasetState
from hub.datasets.services import datasets
from hub.datasets.tasks import sweep, validate
from tests.factories.accounts import Person, person
from tests.factories.datasets import ROWS, csv_of, uploaded, validated
from tests.factories.jobs import queued_job

pytestmark = pytest.mark.django_db
URL = "/api/v1/datasets"


def send(client: APIClient, content: bytes = csv_of(ROWS), filename: str = "rows.csv", **fields: Any) -> Any:
    return client.post(URL, {"file": SimpleUploadedFile(filename, content), **fields}, format="multipart")


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """What was sent to Celery."""
    sent: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, kwargs, **_: sent.append((name, kwargs)))
    return sent


def test_upload_to_ready(owner: Person, rung: list[Any], django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = send(owner.client, filename="orders.csv")
    assert answer.status_code == 201, answer.json()
    dataset = answer.json()
    assert (dataset["state"], dataset["workspace"], dataset["name"]) == ("validating", "acme", "orders")
    assert dataset["created_by"] == "olga" and dataset["report"] == {} and dataset["splits"] == []
    assert dataset["files"][0]["sha256"] == hashlib.sha256(csv_of(ROWS)).hexdigest()
    assert rung == [("datasets.validate", {"dataset_id": dataset["id"]})]

    validate(dataset["id"])
    ready = owner.client.get(f"{URL}/{dataset['id']}").json()
    assert ready["state"] == "ready" and ready["errors"] == [] and ready["labels"] == ["a", "b"]
    assert {item["split"]: item["rows"] for item in ready["splits"]} == {"train": 10, "validation": 2}
    assert ready["found"]["encoding"] == "utf-8" and ready["found"]["text_column"] == "text"
    assert ready["found"]["validation"] == {"from": "train", "share": 0.2, "seed": 42}
    assert ready["report"]["splits"]["train"]["classes"][0] == {"label": "a", "count": 5, "share": 0.5}
    assert len(ready["sha256"]) == 64 and ready["validated_at"] is not None
    assert AuditEvent.objects.filter(action="dataset.created", object_id=dataset["id"]).exists()


def test_errors_are_listed_and_nothing_is_imported(owner: Person) -> None:
    answer = send(owner.client, b"text,label\nhello,a\n,b\nbye,\nx,y,z\n")
    validate(answer.json()["id"])
    dataset = owner.client.get(f"{URL}/{answer.json()['id']}").json()
    assert dataset["state"] == "invalid" and dataset["splits"] == [] and dataset["sha256"] == ""
    assert [(error["file"], error["line"], error["column"]) for error in dataset["errors"]] == [
        ("rows.csv", 3, "text"),
        ("rows.csv", 4, "label"),
        ("rows.csv", 5, None),
    ]
    assert dataset["report"]["splits"]["train"]["empty_texts"] == 1
    rows = owner.client.get(f"{URL}/{dataset['id']}/rows")
    assert rows.status_code == 409 and "invalid" in rows.json()["error"]["message"]


def test_stored_rows_are_canonical_and_identity_depends_on_content_alone(owner: Person) -> None:
    first = validated(owner, {"train": csv_of(ROWS), "test": csv_of(ROWS[:2])})
    second = validated(
        owner, {"train": b"\xef\xbb\xbf" + csv_of(ROWS).replace(b"\n", b"\r\n"), "test": csv_of(ROWS[:2])}
    )
    assert first.sha256 == second.sha256 != validated(owner, {"train": csv_of(ROWS[:-2])}).sha256
    split = first.splits.get(split="test")
    with storage.open_blob(split.sha256) as blob:
        content = blob.read()
    assert hashlib.sha256(content).hexdigest() == split.sha256 and len(content) == split.size
    assert [json.loads(line) for line in content.splitlines()] == [
        {"text": "please send order 0", "label": "a"},
        {"text": "please stop order 0", "label": "b"},
    ]


def test_validating_again_changes_nothing(owner: Person, django_capture_on_commit_callbacks: Any) -> None:
    dataset = uploaded(owner)
    Webhook.objects.create(workspace=owner.workspace, url="https://example.com", events=["dataset.ready"], secret="s")
    validate(str(dataset.id))
    dataset.refresh_from_db()
    before = (dataset.sha256, dataset.validated_at, list(dataset.splits.values()))
    validate(str(dataset.id))
    dataset.refresh_from_db()
    assert (dataset.sha256, dataset.validated_at, list(dataset.splits.values())) == before
    delivery = Webhook.objects.get().deliveries.get()
    assert delivery.event == "dataset.ready" and delivery.payload["rows"] == {"train": 10, "validation": 2}


def test_an_answer_about_an_older_revision_is_dropped(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = uploaded(owner)
    real = datasets.validate

    def slow(*args: Any) -> Any:
        outcome = real(*args)
        answer = owner.client.patch(f"{URL}/{dataset.id}", {"text_column": "nope"})
        assert answer.status_code == 200
        return outcome

    monkeypatch.setattr(datasets, "validate", slow)
    assert datasets.validate_dataset(dataset_id=dataset.id) is None
    dataset.refresh_from_db()
    assert dataset.state == DatasetState.VALIDATING and dataset.revision == 2
    monkeypatch.undo()
    validate(str(dataset.id))
    dataset.refresh_from_db()
    assert dataset.state == DatasetState.INVALID and "no column" in dataset.errors[0]["message"]


def test_lost_doorbells_are_rung_again(owner: Person, rung: list[Any], django_capture_on_commit_callbacks: Any) -> None:
    dataset = uploaded(owner)
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert rung == []
    Dataset.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
        sweep()
    assert rung == [("datasets.validate", {"dataset_id": str(dataset.id)})]


def test_a_validation_that_keeps_dying_ends(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = uploaded(owner)

    def die(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(datasets, "validate", die)
    for _ in range(datasets.MAX_ATTEMPTS):
        with pytest.raises(MemoryError):
            validate(str(dataset.id))
        dataset.refresh_from_db()
        assert dataset.state == DatasetState.VALIDATING and dataset.due_at < timezone.now() + timedelta(minutes=2)
    validate(str(dataset.id))
    dataset.refresh_from_db()
    assert dataset.state == DatasetState.INVALID and "3 times" in dataset.errors[0]["message"]
    monkeypatch.undo()
    assert owner.client.patch(f"{URL}/{dataset.id}", {"seed": 42}).json()["state"] == "validating"
    validate(str(dataset.id))
    dataset.refresh_from_db()
    assert dataset.state == DatasetState.READY


def test_rows_are_paged_and_filtered(owner: Person) -> None:
    dataset = validated(owner, validation_share=0.0)
    url = f"{URL}/{dataset.id}/rows"
    page = owner.client.get(url, {"page_size": 5, "page": 2}).json()
    assert page["count"] == 12 and page["next"] and page["previous"]
    first = {"row": 6, "text": "please stop order 2", "text_pair": None, "label": "b", "references": []}
    assert page["results"][0] == first
    only = owner.client.get(url, {"label": "b", "page_size": 200}).json()
    assert only["count"] == 6 and {row["label"] for row in only["results"]} == {"b"}
    assert [row["row"] for row in only["results"]] == [2, 4, 6, 8, 10, 12]
    assert owner.client.get(url, {"label": "nobody"}).json()["count"] == 0
    assert owner.client.get(url, {"split": "test"}).status_code == 404
    assert owner.client.get(url, {"split": "sideways"}).status_code == 400
    assert owner.client.get(url, {"page": 99}).status_code == 404


def test_a_label_inside_a_text_is_no_label(owner: Person) -> None:
    tricky = [('the end","label":"a"}', "b"), ("x", "a"), ("y", "a"), ("z", 'q"}')]
    dataset = validated(owner, {"train": csv_of(tricky)}, validation_share=0.0)
    for label, count in (("a", 2), ("b", 1), ('q"}', 1)):
        found = owner.client.get(f"{URL}/{dataset.id}/rows", {"label": label}).json()
        assert found["count"] == count and all(row["label"] == label for row in found["results"])


def test_patch_validates_anew(owner: Person) -> None:
    content = b"Quality;a;b\n1;hello there;hi you\n0;bye bye;see you\n1;good day;hello sir\n0;ciao now;bye sir\n"
    dataset = validated(owner, {"train": content})
    assert dataset.state == DatasetState.READY and not dataset.text_pair
    answer = owner.client.patch(f"{URL}/{dataset.id}", {"name": "pairs", "text_column": "a", "text_pair_column": "b"})
    assert answer.status_code == 200 and answer.json()["state"] == "validating" and answer.json()["name"] == "pairs"
    assert answer.json()["sha256"] == "" and answer.json()["splits"] == []
    validate(str(dataset.id))
    row = owner.client.get(f"{URL}/{dataset.id}/rows").json()["results"][0]
    assert row["text"] == "hello there" and row["text_pair"] == "hi you" and row["label"] == "1"
    renamed = owner.client.patch(f"{URL}/{dataset.id}", {"name": "again"})
    assert renamed.json()["state"] == "ready"


def test_sample(owner: Person) -> None:
    answer = owner.client.post(f"{URL}/sample", {})
    assert answer.status_code == 201
    validate(answer.json()["id"])
    dataset = owner.client.get(f"{URL}/{answer.json()['id']}").json()
    assert dataset["state"] == "ready" and dataset["errors"] == [] and len(dataset["labels"]) == 12
    assert {item["split"]: item["rows"] for item in dataset["splits"]} == {"train": 576, "validation": 144, "test": 180}
    assert dataset["report"]["warnings"] == []


def test_preview_stores_nothing(owner: Person) -> None:
    content = "问题;标签\n你好吗;甲\n再见了;乙\n".encode("gb18030")
    answer = owner.client.post(f"{URL}/preview", {"file": SimpleUploadedFile("a.csv", content)}, format="multipart")
    assert answer.status_code == 200, answer.json()
    preview = answer.json()
    assert (preview["format"], preview["encoding"], preview["delimiter"]) == ("csv", "gb18030", ";")
    broken = owner.client.post(f"{URL}/preview", {"file": SimpleUploadedFile("a.csv", b"a,b\0\n")}, format="multipart")
    assert broken.status_code == 400 and broken.json()["error"]["details"][0]["line"] == 1
    assert not Dataset.objects.exists()


def test_list_filters(owner: Person, outsider: Person) -> None:
    one, other = validated(owner), uploaded(owner)
    Dataset.objects.filter(pk=other.pk).update(name="Zebra")
    validated(outsider)
    everything = owner.client.get(URL).json()
    assert everything["count"] == 2 and everything["results"][0]["id"] == str(other.id)
    assert [item["id"] for item in owner.client.get(URL, {"state": "ready"}).json()["results"]] == [str(one.id)]
    assert [item["name"] for item in owner.client.get(URL, {"search": "zeb"}).json()["results"]] == ["Zebra"]
    ordered = owner.client.get(URL, {"ordering": "name"}).json()["results"]
    assert [item["name"] for item in ordered] == ["Zebra", "orders"]
    assert owner.client.get(URL, {"workspace": "acme"}).json()["count"] == 2
    assert owner.client.get(URL, {"workspace": "elsewhere"}).status_code == 404
    assert owner.client.get(URL, {"state": "lost"}).status_code == 400


def test_delete(owner: Person) -> None:
    dataset = validated(owner)
    assert owner.client.delete(f"{URL}/{dataset.id}").status_code == 204
    assert owner.client.get(f"{URL}/{dataset.id}").status_code == 404


def test_what_a_job_uses_stays_as_it_is(owner: Person) -> None:
    dataset = queued_job(owner).dataset
    url = f"{URL}/{dataset.id}"
    for answer in (owner.client.delete(url), owner.client.patch(url, {"seed": 7})):
        assert answer.status_code == 409 and "used by jobs" in answer.json()["error"]["message"]
    assert owner.client.patch(url, {"name": "renamed"}).json()["state"] == "ready"
    dataset.refresh_from_db()
    assert dataset.name == "renamed" and dataset.splits.exists()


def test_another_workspace_gets_404(owner: Person, outsider: Person) -> None:
    dataset = validated(owner)
    url = f"{URL}/{dataset.id}"
    assert outsider.client.get(url).status_code == 404
    assert outsider.client.patch(url, {"name": "mine"}).status_code == 404
    assert outsider.client.delete(url).status_code == 404
    assert outsider.client.get(f"{url}/rows").status_code == 404
    assert send(outsider.client, workspace="acme").status_code == 404
    assert outsider.client.post(f"{URL}/sample", {"workspace": "acme"}).status_code == 404


def test_roles(owner: Person) -> None:
    dataset = validated(owner)
    viewer = person("vera", workspace="acme", role=Role.VIEWER).client
    editor = person("edda", workspace="acme", role=Role.EDITOR).client
    assert viewer.get(f"{URL}/{dataset.id}").status_code == 200
    assert send(viewer).status_code == 403 and send(editor).status_code == 201
    assert viewer.patch(f"{URL}/{dataset.id}", {"name": "x"}).status_code == 403
    assert editor.patch(f"{URL}/{dataset.id}", {"name": "x"}).status_code == 200
    assert editor.delete(f"{URL}/{dataset.id}").status_code == 403
    assert APIClient().get(f"{URL}/{dataset.id}").status_code == 401


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"delimiter": "ab"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"encoding": "ebcdic"}, "encoding"),
        ({"header": "maybe"}, "header"),
        ({"validation_share": "0.9"}, "validation_share"),
        ({"seed": "-1"}, "seed"),
        ({"name": "x" * 101}, "name"),
        ({"text_column": "a\0b"}, "text_column"),
    ],
)
def test_bad_options(owner: Person, fields: dict[str, str], field: str) -> None:
    answer = send(owner.client, **fields)
    assert answer.status_code == 400 and answer.json()["error"]["details"][0]["field"] == field
    assert not Dataset.objects.exists()


def test_upload_needs_a_file_of_bounded_size(owner: Person, settings: Any) -> None:
    assert owner.client.post(URL, {"name": "x"}, format="multipart").status_code == 400
    assert send(owner.client, b"").status_code == 400
    assert owner.client.post(URL, {"file": "x"}).status_code == 400
    assert owner.client.generic("POST", URL, b"x", content_type="text/csv").status_code == 415
    settings.UPLOAD_MAX_BYTES = 50
    answer = send(owner.client, b"text,label\n" + b"x" * 60)
    assert answer.status_code == 413 and "50 bytes" in answer.json()["error"]["message"]
    assert not Dataset.objects.exists()
    settings.UPLOAD_MAX_BYTES = -(10**6)
    assert send(owner.client).status_code == 413


def test_file_names_are_harmless(owner: Person) -> None:
    answer = send(owner.client, filename="../../etc/passwd.csv")
    assert answer.json()["files"][0]["name"] == "passwd.csv"
    assert default_storage.exists(storage.blob_name(answer.json()["files"][0]["sha256"]))


def test_explicit_delimiter_and_header(owner: Person) -> None:
    answer = send(owner.client, b"text\tlabel\nb c\t1\nd e\t2\n", delimiter="tab", header="false")
    assert answer.json()["options"]["delimiter"] == "\t"
    validate(answer.json()["id"])
    dataset = owner.client.get(f"{URL}/{answer.json()['id']}").json()
    assert dataset["found"]["columns"] == ["column_1", "column_2"] and dataset["labels"] == ["1", "2", "label"]


def test_a_validation_that_died_with_its_process_is_rung_for_at_once(owner: Person, rung: list[Any]) -> None:
    """It once waited until any validation must be over: 15 minutes."""
    dataset = uploaded(owner)
    begun = timezone.now() - timedelta(seconds=40)
    Dataset.objects.filter(pk=dataset.pk).update(attempts=1, due_at=begun + datasets.TAKES_AT_MOST)
    assert datasets.ring_again() == 0, "the process that validates is older than this"
    cache.set("part:datasets", [time.time(), time.time() - 10])
    assert datasets.ring_again() == 1
    assert datasets.ring_again() == 0, "it has been rung for"
