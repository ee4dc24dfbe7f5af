"""The Hub protocol's answers, without a client: who is refused how, and what odd requests get."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from hub.accounts.models import TokenKind
from hub.accounts.services.tokens import issue_token
from hub.registry import access
from hub.registry.api import hf
from hub.registry.models import ModelVersion
from tests.factories.accounts import Person, bearer, node_secret, predict_secret
from tests.factories.jobs import base_model
from tests.factories.registry import published

pytestmark = pytest.mark.django_db
ENDPOINTS = [
    ("get", "/hf/api/models/acme/tickets"),
    ("get", "/hf/api/models/acme/tickets/revision/main"),
    ("get", "/hf/api/models/acme/tickets/tree/main"),
    ("get", "/hf/api/models/acme/tickets/tree/main/sparse"),
    ("get", "/hf/api/models/acme/tickets/refs"),
    ("get", "/hf/api/models/acme/tickets/commits/main"),
    ("post", "/hf/api/models/acme/tickets/paths-info/main"),
    ("get", "/hf/acme/tickets/resolve/main/config.json"),
    ("head", "/hf/acme/tickets/resolve/main/config.json"),
]


@pytest.fixture
def version(owner: Person) -> ModelVersion:
    return published(owner.workspace)


def ask(client: APIClient, method: str, path: str) -> Any:
    return getattr(client, method)(path, {"paths": ["config.json"]} if method == "post" else None)


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_who_gets_what(
    version: ModelVersion, owner: Person, outsider: Person, api: APIClient, method: str, path: str
) -> None:
    answer = ask(owner.client, method, path)
    assert answer.status_code == 200
    assert "X-Repo-Commit" not in answer or answer["X-Repo-Commit"] == version.commit
    if answer.streaming:
        b"".join(answer.streaming_content)
    _, job = issue_token(kind=TokenKind.JOB, name="job", workspace=owner.workspace, subject=uuid4())
    for stranger in (outsider.client, bearer(node_secret("n", workspace=owner.workspace)), bearer(job)):
        refused = ask(stranger, method, path)
        assert (refused.status_code, refused["X-Error-Code"]) == (404, "RepoNotFound")
        missing = ask(stranger, method, path.replace("tickets", "nothing"))
        assert (missing.status_code, missing["X-Error-Code"]) == (404, "RepoNotFound")
        assert refused["X-Error-Message"].replace("tickets", "nothing") == missing["X-Error-Message"]
    anonymous = ask(api, method, path)
    assert (anonymous.status_code, anonymous["X-Error-Code"]) == (401, "RepoNotFound")
    assert anonymous["WWW-Authenticate"].startswith("Bearer")
    wrong = ask(bearer("sw_u_wrong"), method, path)
    assert wrong.status_code == 401 and "X-Error-Code" not in wrong
    assert wrong["X-Error-Message"] == "Invalid credentials in Authorization header"


def test_a_session_is_no_token(version: ModelVersion, owner: Person, api: APIClient) -> None:
    api.force_login(owner.user)
    assert api.get("/hf/api/whoami-v2").status_code == 401


def test_a_job_reads_what_a_rule_gives_it(
    version: ModelVersion, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db.models import Q

    subject = uuid4()
    monkeypatch.setattr(access, "_readers", [])
    access.register_reader(lambda actor: Q(name="tickets") if actor.job_id == subject else None)
    _, job = issue_token(kind=TokenKind.JOB, name="job", workspace=owner.workspace, subject=subject)
    published(owner.workspace, "secret")
    assert bearer(job).head("/hf/acme/tickets/resolve/main/config.json").status_code == 200
    assert bearer(job).head("/hf/acme/secret/resolve/main/config.json").status_code == 404


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/hf/acme/tickets/resolve/main/none.json", "EntryNotFound"),
        ("/hf/acme/tickets/resolve/main/a%00b", "EntryNotFound"),
        ("/hf/acme/tickets/resolve/main/a%0D%0ASet-Cookie:x=1", "EntryNotFound"),
        ("/hf/acme/tickets/resolve/main/%E4%B8%AD.txt", "EntryNotFound"),
        ("/hf/acme/tickets/resolve/main/../../etc/passwd", "EntryNotFound"),
        ("/hf/acme/tickets/resolve/main/" + "x" * 1000, "EntryNotFound"),
        ("/hf/api/models/acme/tickets/tree/main/none", "EntryNotFound"),
        ("/hf/api/models/acme/tickets/tree/main/config.json", "EntryNotFound"),
        ("/hf/acme/tickets/resolve/none/config.json", "RevisionNotFound"),
        ("/hf/acme/tickets/resolve/a%00b/config.json", "RevisionNotFound"),
        ("/hf/acme/tickets/resolve/a%0Ab/config.json", "RevisionNotFound"),
        ("/hf/api/models/acme/tickets/revision/refs%2Fpr%2F1", "RevisionNotFound"),
        ("/hf/api/models/acme/tickets/tree/v9", "RevisionNotFound"),
        ("/hf/tickets/resolve/main/config.json", "RepoNotFound"),
        ("/hf/datasets/acme/tickets/resolve/main/config.json", "RepoNotFound"),
        ("/hf/api/datasets/acme/tickets", "RepoNotFound"),
        ("/hf/", "RepoNotFound"),
    ],
)
def test_what_is_not_there(version: ModelVersion, owner: Person, path: str, code: str) -> None:
    for method in ("get", "head"):
        answer = getattr(owner.client, method)(path)
        assert (answer.status_code, answer["X-Error-Code"]) == (404, code)
        assert answer["X-Error-Message"].isascii() and "\n" not in answer["X-Error-Message"]
        assert answer.get("X-Repo-Commit") == (version.commit if code == "EntryNotFound" else None)


def test_tree_paging(version: ModelVersion, owner: Person) -> None:
    path = "/hf/api/models/acme/tickets/tree/main?recursive=True&limit=4"
    seen: list[str] = []
    while path:
        answer = owner.client.get(path)
        seen += [item["path"] for item in answer.json()]
        assert len(answer.json()) <= 4
        path = answer["Link"].removeprefix("<http://testserver").split(">")[0] if "Link" in answer else ""
    whole = [item["path"] for item in owner.client.get("/hf/api/models/acme/tickets/tree/main?recursive=1").json()]
    assert seen == whole == sorted(whole) and len(whole) == version.files.count() + 1
    for cursor in ("0", "x", "999", "-1"):
        assert owner.client.get(f"/hf/api/models/acme/tickets/tree/main?cursor={cursor}").status_code == 400
    for limit in ("0", "x", "-1", "9" * 30, "²"):
        assert len(owner.client.get(f"/hf/api/models/acme/tickets/tree/main?limit={limit}").json()) > 5


@pytest.mark.parametrize(
    ("data", "kind", "status", "found"),
    [
        ({"paths": ["config.json", "none", "config.json", "sparse/"]}, "json", 200, ["config.json", "sparse"]),
        ({"paths": "config.json"}, "json", 200, ["config.json"]),
        ({}, "json", 200, []),
        ([], "json", 400, None),
        ({"paths": 3}, "json", 400, None),
        ({"paths": [3]}, "json", 400, None),
        ({"paths": ["x"] * (hf.MAX_PATHS + 1)}, "json", 400, None),
        ({"paths": ["x"]}, "multipart", 415, None),
    ],
)
def test_paths_info(
    version: ModelVersion, owner: Person, data: Any, kind: str, status: int, found: list[str] | None
) -> None:
    answer = owner.client.post("/hf/api/models/acme/tickets/paths-info/main", data, format=kind)
    assert answer.status_code == status
    if found is not None:
        assert [item["path"] for item in answer.json()] == found


def test_methods_that_are_not_offered(version: ModelVersion, owner: Person) -> None:
    assert owner.client.put("/hf/acme/tickets/resolve/main/config.json").status_code == 405
    assert owner.client.delete("/hf/api/models/acme/tickets").status_code == 405


def test_lists_find_models_and_do_not_read_reports(owner: Person, django_assert_max_num_queries: Any) -> None:
    for number in range(5):
        published(owner.workspace, name=f"more-{number}")
        published(owner.workspace, name=f"more-{number}")
    with django_assert_max_num_queries(8) as found:
        answer = owner.client.get(
            "/hf/api/models?full=true&filter=sparsewright&search=MORE-&sort=createdAt&direction=1"
        )
    assert [item["id"] for item in answer.json()] == [f"acme/more-{number}" for number in range(5)]
    assert not [query for query in found.captured_queries if '"report", "registry_modelversion"' in query["sql"]]
    page = owner.client.get("/hf/api/models?limit=2&cursor=2")
    assert len(page.json()) == 2 and "cursor=3" in page.headers["Link"]
    odds = ("search=%00", "author=%00", "cursor=x", "limit=-1", "limit=%D9%A3", "filter=%00", "sort=%00", "expand=%00")
    for odd in odds:
        assert owner.client.get(f"/hf/api/models?{odd}").status_code in {200, 400}, odd


def test_lists_hold_what_the_token_reads(owner: Person, outsider: Person) -> None:
    published(owner.workspace, name="mine")
    base_model()
    for client in (outsider.client, bearer(node_secret("w")), bearer(node_secret("s", kind="serve"))):
        ids = [item["id"] for item in client.get("/hf/api/models").json()]
        assert ids == (["base/tiny-bert"] if client is outsider.client else [])
        assert client.get("/hf/api/models/acme/mine/commits/main").status_code == 404
    assert bearer(predict_secret(owner)).get("/hf/api/models").status_code == 403
