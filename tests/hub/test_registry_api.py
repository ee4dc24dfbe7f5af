"""The registry's REST API: models, versions, files with ranges, aliases, and what other workspaces see."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from hub.accounts.models import BASE_WORKSPACE, Role, Workspace
from hub.core.storage import blob_name
from hub.registry.downloads import byte_range
from hub.registry.models import Model, ModelKind, ModelVersion
from tests.factories.accounts import Person, bearer, node_secret, person
from tests.factories.registry import REPORT, files, published

pytestmark = pytest.mark.django_db
MODEL = "/api/v1/models/acme/tickets"
SPARSE = f"{MODEL}/versions/1/files/sparse/model.sparse.safetensors"
WHOLE = bytes(range(256)) * 40
DIGEST = hashlib.sha256(WHOLE).hexdigest()


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


@pytest.fixture
def version(owner: Person) -> ModelVersion:
    return published(owner.workspace)


ENDPOINTS = [
    ("get", ""),
    ("delete", ""),
    ("get", "/versions"),
    ("get", "/versions/1"),
    ("get", "/versions/1/files/config.json"),
    ("head", "/versions/1/files/config.json"),
    ("get", "/versions/1/archive"),
    ("get", "/versions/1/archive?format=zip"),
    ("get", "/aliases"),
    ("put", "/aliases/production"),
    ("delete", "/aliases/latest"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_another_workspace_gets_404(
    version: ModelVersion, outsider: Person, api: APIClient, method: str, path: str
) -> None:
    data = {"version": 1} if method == "put" else None
    assert getattr(outsider.client, method)(MODEL + path, data).status_code == 404
    assert getattr(api, method)(MODEL + path, data).status_code == 401
    node = bearer(node_secret("n"))
    assert getattr(node, method)(MODEL + path, data).status_code == 403
    assert Model.objects.get().aliases.count() == 1


def test_lists_show_one_s_own(version: ModelVersion, owner: Person, outsider: Person) -> None:
    assert outsider.client.get("/api/v1/models").json()["count"] == 0
    answer = owner.client.get("/api/v1/models?workspace=acme&kind=sparse&search=TICK").json()
    assert answer["count"] == 1
    (found,) = answer["results"]
    assert (found["repo"], found["workspace"], found["name"], found["kind"]) == (
        "acme/tickets",
        "acme",
        "tickets",
        "sparse",
    )
    assert found["latest"]["commit"] == version.commit and "card" not in found["latest"]
    assert found["aliases"] == [{"name": "latest", "version": 1}]
    for query in ("workspace=elsewhere", "kind=base", "search=nothing"):
        assert owner.client.get(f"/api/v1/models?{query}").json()["count"] == 0
    assert owner.client.get("/api/v1/models?search=%00").status_code == 400


def test_the_list_takes_as_many_queries_for_two_as_for_one(
    version: ModelVersion, owner: Person, django_assert_max_num_queries: Any
) -> None:
    for index in range(4):
        published(owner.workspace, f"m{index}")
        published(owner.workspace, f"m{index}")
    with django_assert_max_num_queries(14):
        results = owner.client.get("/api/v1/models").json()["results"]
    assert {item["name"]: item["latest"]["number"] for item in results} == {
        "tickets": 1,
        "m0": 2,
        "m1": 2,
        "m2": 2,
        "m3": 2,
    }


def test_a_model_and_its_versions(version: ModelVersion, owner: Person) -> None:
    second = published(owner.workspace)
    model = owner.client.get(MODEL).json()
    assert model["latest"]["number"] == 2 and model["latest"]["card"].startswith("---\n")
    listed = owner.client.get(f"{MODEL}/versions").json()
    assert [item["number"] for item in listed["results"]] == [2, 1]
    one = owner.client.get(f"{MODEL}/versions/2").json()
    assert one["commit"] == second.commit and one["aliases"] == ["latest"] and one["job_id"] is None
    assert one["manifest"] == second.manifest and one["report"] == second.report
    by_path = {item["path"]: item for item in one["files"]}
    assert by_path["sparse/model.sparse.safetensors"] == {
        "path": "sparse/model.sparse.safetensors",
        "size": 10240,
        "sha256": DIGEST,
    }
    sizes = {item["path"]: item["size"] for item in one["files"]}
    compact, dense = sizes["sparse/model.sparse.safetensors"], sizes["model.safetensors"]
    assert one["bytes"] == {"total": sum(sizes.values()), "compact": compact, "dense": dense}
    assert set(by_path) == {*files(), "README.md", "report.json", "manifest.json", "manifest.sig"}
    for path in (
        "/versions/3",
        "/versions/0",
        "/versions/99999999999999999999999",
        "/versions/x",
        "/versions/3/archive",
    ):
        assert owner.client.get(MODEL + path).status_code == 404
    assert owner.client.get("/api/v1/models/acme/a%00b").status_code == 404


def test_a_whole_file(version: ModelVersion, owner: Person) -> None:
    answer = owner.client.get(SPARSE)
    assert answer.status_code == 200 and body(answer) == WHOLE
    assert answer["ETag"] == f'"{DIGEST}"' and answer["Content-Length"] == "10240"
    assert answer["Accept-Ranges"] == "bytes" and answer["X-Repo-Commit"] == version.commit
    assert answer["Content-Disposition"] == 'attachment; filename="model.sparse.safetensors"'
    assert answer["Content-Type"] == "application/octet-stream" and "private" in answer["Cache-Control"]
    head = owner.client.head(SPARSE, HTTP_RANGE="bytes=0-3")
    assert (head.status_code, head["Content-Length"], body(head)) == (200, "10240", b"")
    empty = owner.client.get(f"{MODEL}/versions/1/files/labels.txt")
    assert (empty.status_code, empty["Content-Length"], body(empty)) == (200, "0", b"")


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10000-", 10000, 10239),
        ("bytes=10000-99999", 10000, 10239),
        ("bytes=-5", 10235, 10239),
        ("bytes=-99999", 0, 10239),
    ],
)
def test_a_part(version: ModelVersion, owner: Person, header: str, first: int, last: int) -> None:
    answer = owner.client.get(SPARSE, HTTP_RANGE=header)
    assert answer.status_code == 206 and body(answer) == WHOLE[first : last + 1]
    assert answer["Content-Range"] == f"bytes {first}-{last}/10240"
    assert answer["Content-Length"] == str(last - first + 1) and answer["ETag"] == f'"{DIGEST}"'


@pytest.mark.parametrize("header", ["bytes=10240-", "bytes=-0", "bytes=20000-30000"])
def test_a_part_that_is_not_there(version: ModelVersion, owner: Person, header: str) -> None:
    answer = owner.client.get(SPARSE, HTTP_RANGE=header)
    assert (answer.status_code, answer["Content-Range"], body(answer)) == (416, "bytes */10240", b"")


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=0-1,5-6", "bytes=a-b", "bytes=-", "items=0-1", "bytes=" + "9" * 40 + "-"]
)
def test_ranges_that_are_not_understood_get_the_whole(version: ModelVersion, owner: Person, header: str) -> None:
    answer = owner.client.get(SPARSE, HTTP_RANGE=header)
    assert answer.status_code == 200 and body(answer) == WHOLE


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_lies_in_the_file(size: int, first: int, last: int) -> None:
    try:
        found = byte_range(f"bytes={first}-{last}", size)
    except IndexError:
        assert first >= size
        return
    if found is None:
        assert last < first
    else:
        assert found == (first, min(last, size - 1)) and bytes(size)[found[0] : found[1] + 1]


def test_conditional_requests(version: ModelVersion, owner: Person) -> None:
    for header in (f'"{DIGEST}"', f'W/"{DIGEST}"', f'"x", "{DIGEST}"', "*"):
        answer = owner.client.get(SPARSE, HTTP_IF_NONE_MATCH=header)
        assert (answer.status_code, body(answer), answer["ETag"]) == (304, b"", f'"{DIGEST}"')
    other = owner.client.get(SPARSE, HTTP_IF_NONE_MATCH='"other"')
    assert other.status_code == 200 and body(other) == WHOLE
    same = owner.client.get(SPARSE, HTTP_RANGE="bytes=0-3", HTTP_IF_RANGE=f'"{DIGEST}"')
    changed = owner.client.get(SPARSE, HTTP_RANGE="bytes=0-3", HTTP_IF_RANGE='"other"')
    assert (same.status_code, body(same)) == (206, WHOLE[:4])
    assert (changed.status_code, body(changed)) == (200, WHOLE)


@pytest.mark.parametrize(
    "path", ["none", "../../etc/passwd", "sparse", "a%00b", "a%5Cb", "sparse/../config.json", "%2Fetc/passwd"]
)
def test_files_that_are_not_there(version: ModelVersion, owner: Person, path: str) -> None:
    answer = owner.client.get(f"{MODEL}/versions/1/files/{path}")
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"


def test_lost_content_is_said_to_be_lost(version: ModelVersion, owner: Person) -> None:
    unique = published(owner.workspace, contents=files(**{"only.txt": b"only here"}))
    default_storage.delete(blob_name(unique.files.get(path="only.txt").blob_id))
    answer = owner.client.get(f"{MODEL}/versions/2/files/only.txt")
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "content_missing"


def test_no_file_is_served_as_a_page(owner: Person) -> None:
    published(owner.workspace, contents=files(**{"x.html": b"<script>", "x.svg": b"<svg>"}))
    for name in ("x.html", "x.svg"):
        answer = owner.client.get(f"{MODEL}/versions/1/files/{name}", HTTP_ACCEPT="text/html")
        assert answer["Content-Type"] == "application/octet-stream" and body(answer).startswith(b"<")
        assert answer["Content-Disposition"].startswith("attachment") and answer["X-Content-Type-Options"] == "nosniff"


def test_aliases(version: ModelVersion, owner: Person) -> None:
    published(owner.workspace)
    moved = owner.client.put(f"{MODEL}/aliases/production", {"version": 1})
    assert moved.status_code == 200 and (moved.json()["version"], moved.json()["moved_by"]) == (1, "olga")
    assert owner.client.put(f"{MODEL}/aliases/production", {"version": 2}).json()["version"] == 2
    listed = owner.client.get(f"{MODEL}/aliases").json()
    assert [(item["name"], item["version"]) for item in listed] == [("latest", 2), ("production", 2)]
    assert owner.client.put(f"{MODEL}/aliases/production", {"version": 9}).status_code == 404
    for alias in ("latest", "main", "v3", "UP", "a%00b"):
        assert owner.client.put(f"{MODEL}/aliases/{alias}", {"version": 1}).status_code == 400, alias
    for data in ({}, {"version": 0}, {"version": "x"}, {"version": 2**40}, {"version": None}, []):
        assert owner.client.put(f"{MODEL}/aliases/production", data).status_code == 400, data
    assert owner.client.delete(f"{MODEL}/aliases/production").status_code == 204
    assert owner.client.delete(f"{MODEL}/aliases/production").status_code == 404


def test_roles(version: ModelVersion) -> None:
    viewer = person("vera", workspace="acme", role=Role.VIEWER).client
    editor = person("eddy", workspace="acme", role=Role.EDITOR).client
    assert viewer.get(MODEL).status_code == 200
    assert viewer.put(f"{MODEL}/aliases/production", {"version": 1}).status_code == 403
    assert editor.put(f"{MODEL}/aliases/production", {"version": 1}).status_code == 200
    assert viewer.delete(f"{MODEL}/aliases/production").status_code == 403
    assert editor.delete(MODEL).status_code == 403


def test_delete(version: ModelVersion, owner: Person) -> None:
    assert owner.client.delete(MODEL).status_code == 204
    assert owner.client.get(MODEL).status_code == 404 and not ModelVersion.objects.exists()


def test_base_models_are_seen_by_all_and_changed_by_none(owner: Person) -> None:
    base = Workspace.objects.create(slug=BASE_WORKSPACE, name="Base")
    published(base, "minilm", kind=ModelKind.BASE)
    published(base, "private", kind=ModelKind.SPARSE)
    path = "/api/v1/models/base/minilm"
    assert owner.client.get(path).status_code == 200
    assert owner.client.get("/api/v1/models/base/private").status_code == 404
    assert owner.client.put(f"{path}/aliases/production", {"version": 1}).status_code == 404
    assert owner.client.delete(path).status_code == 404


def test_the_signing_key_is_public(api: APIClient) -> None:
    answer = api.get("/api/v1/signing-key").json()
    assert answer["algorithm"] == "Ed25519" and answer["pem"].startswith("-----BEGIN PUBLIC KEY-----")


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        ({}, None),
        ({"metrics": {"test": {"accuracy": "high"}}}, None),
        ({"primary": 5, "metrics": []}, None),
        (
            {"primary": "bleu", "metrics": {"validation": {"bleu": 31.5}}},
            {"metric": "bleu", "split": "validation", "value": 31.5, "dense": None, "sparsity": None},
        ),
    ],
)
def test_a_report_of_any_shape_has_a_headline_or_none(owner: Person, report: Any, headline: Any) -> None:
    published(owner.workspace, "sst2", report=report)
    assert owner.client.get("/api/v1/models").json()["results"][0]["latest"]["headline"] == headline


@pytest.mark.parametrize("path", ["", "/acme/sst2/versions"])
def test_a_list_reads_no_report(owner: Person, path: str) -> None:
    """Each report has some hundred kB: a list of models once had 256 kB a row."""
    published(owner.workspace, "sst2", report=REPORT | {"masks": ["x" * 1000] * 300})
    with CaptureQueriesContext(connection) as queries:
        answer = owner.client.get(f"/api/v1/models{path}")
    assert answer.status_code == 200 and answer.json()["results"]
    assert all(len(json.dumps(row)) < 2000 for row in answer.json()["results"])
    [row] = answer.json()["results"]
    assert (row if path else row["latest"])["headline"] == {
        "metric": "accuracy",
        "split": "test",
        "value": 0.9,
        "dense": 0.91,
        "sparsity": 0.9,
    }
    read = [query["sql"].split(" FROM ")[0] for query in queries]
    assert not [sql for sql in read if '"registry_modelversion"."report"' in sql or '"manifest"' in sql]
