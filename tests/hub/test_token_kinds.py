"""A token does one thing: a worker's no serving node's, a serving node's no worker's, a predict token nothing here."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.urls import URLPattern, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from hub.accounts.models import ApiToken, Membership, Role, TokenKind
from hub.accounts.permissions import IsNode, IsServingNode, IsWorker
from hub.serving.models import Node, NodeKind
from jobs.api.worker import ArtifactView
from tests.factories.accounts import Person, bearer, node_secret, person, predict_secret
from tests.factories.jobs import base_model, queued_job
from tests.factories.serving import serving_node

pytestmark = pytest.mark.django_db


def addresses(permission: type) -> list[str]:
    """Every address whose view lets only such callers in, from the table of addresses."""
    found = []

    def look(patterns: Any, before: str) -> None:
        for item in patterns:
            if not isinstance(item, URLPattern):
                look(item.url_patterns, before + str(item.pattern))
                continue
            view = getattr(item.callback, "cls", None)
            if permission in getattr(view, "permission_classes", ()) or (
                view is ArtifactView and permission is IsWorker
            ):
                found.append("/" + before + str(item.pattern))

    look(get_resolver().url_patterns, "")
    return found


def filled(address: str) -> str:
    for part, value in (("<uuid:job_id>", uuid4()), ("<str:split>", "train"), ("<sha256:sha256>", "0" * 64)):
        address = address.replace(part, str(value))
    assert "<" not in address.replace("<str:sha256>", "0" * 64), address
    return address.replace("<str:sha256>", "0" * 64)


def codes(client: APIClient, address: str) -> set[int]:
    # Who reads an artifact is a job, and a POST to it is nobody's.
    methods = ("put",) if "artifacts" in address else ("post", "put")
    return {getattr(client, method)(filled(address), {}).status_code for method in methods} - {405}


def test_each_kind_of_node_is_shut_out_where_the_other_works(owner: Person) -> None:
    worker, serve = bearer(node_secret("w")), bearer(node_secret("s", kind="serve"))
    of_workers, of_serving = addresses(IsWorker), addresses(IsServingNode)
    assert len(of_workers) > 6 and len(of_serving) == 1 and len(addresses(IsNode)) == 2
    for address in of_workers:
        assert codes(serve, address) == {403}, address
        assert codes(owner.client, address) == {403}, address
        assert codes(worker, address) and 403 not in codes(worker, address), address
    for address in of_serving:
        assert codes(worker, address) == {403} and codes(owner.client, address) == {403}
        assert codes(serve, address) == {400}


@pytest.mark.parametrize(("kind", "other"), [("worker", "serve"), ("serve", "worker")])
def test_a_token_registers_nodes_of_its_kind_alone(kind: str, other: str) -> None:
    client = bearer(node_secret("n", kind=kind))
    body = {"name": "n", "version": "1", "url": "http://n:9000"}
    assert client.post("/api/v1/node/register", body | {"kind": other}).status_code == 403
    assert not Node.objects.exists()
    assert client.post("/api/v1/node/register", body | {"kind": kind}).status_code == 200


def test_a_worker_reads_no_deployed_model_and_a_serving_node_no_job(owner: Person) -> None:
    base_model()
    node = serving_node("edge")
    body = {"name": "desk", "model": "base/tiny-bert", "revision": "latest"}
    assert owner.client.post("/api/v1/deployments", body).status_code == 201
    node.hold()
    assert node.client.get("/hf/api/models/base/tiny-bert").status_code == 200
    worker = bearer(node_secret("w"))
    assert worker.get("/hf/api/models/base/tiny-bert").status_code == 404
    job = queued_job(owner)
    claim = f"/api/v1/worker/jobs/{job.id}/claim"
    assert node.client.post(claim, {"node_id": node.id}).status_code == 403
    # Nor did the one kind of token see nodes of the other: it can't take a worker's place.
    assert worker.post(claim, {"node_id": node.id}).status_code == 404


def ask(client: APIClient, secret: str) -> Any:
    return client.post("/api/v1/node/caller", {"token_sha256": hashlib.sha256(secret.encode()).hexdigest()})


def test_what_a_serving_node_hears_of_a_caller(owner: Person, outsider: Person) -> None:
    everywhere = bearer(node_secret("s", kind="serve"))
    theirs = bearer(node_secret("t", kind="serve", workspace=outsider.workspace))
    secret = predict_secret(owner)
    found = ask(everywhere, secret).json()
    assert (found["workspace"], found["deployment"]) == ("acme", None)
    assert set(found) == {"caller", "workspace", "deployment"} and "olga" not in str(found)
    again = owner.client.post("/api/v1/tokens", {"name": "x", "kind": "predict"}).json()
    assert again["token"].startswith("sw_p_") and ask(everywhere, again["token"]).json()["caller"] == found["caller"]
    for client, shown in (
        (theirs, secret),  # a node of another workspace
        (everywhere, owner.token),
        (everywhere, node_secret("w")),
        (everywhere, "sw_p_unknown"),
    ):
        answer = ask(client, shown)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_token")
    owner.client.delete(f"/api/v1/tokens/{again['id']}")
    assert ask(everywhere, again["token"]).status_code == 404
    owner.user.is_active = False
    owner.user.save()
    assert ask(everywhere, secret).status_code == 404


def test_a_caller_is_one_for_as_long_as_the_membership(owner: Person) -> None:
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    node = bearer(node_secret("s", kind="serve"))
    secret = viewer.client.post("/api/v1/tokens", {"name": "x", "kind": "predict"}).json()["token"]
    assert ask(node, secret).status_code == 200
    Membership.objects.filter(user=viewer.user).delete()
    assert ask(node, secret).status_code == 404


def test_a_predict_token_can_do_nothing_else(owner: Person) -> None:
    base_model()
    owner.client.post("/api/v1/deployments", {"name": "desk", "model": "base/tiny-bert", "revision": "latest"})
    secret = predict_secret(owner)
    client = bearer(secret)
    addresses = ("me", "jobs", "datasets", "models", "tokens", "deployments", "nodes", "base-models", "workspaces")
    for address in (*(f"/api/v1/{name}" for name in addresses), "/hf/api/whoami-v2", "/hf/api/models/base/tiny-bert"):
        assert client.get(address).status_code == 403, address
    for address in ("tokens", "deployments", "jobs", "node/register", "node/heartbeat", "node/caller", "worker/next"):
        assert client.post(f"/api/v1/{address}", {}).status_code == 403, address


def test_a_caller_s_token_is_for_one_deployment_and_some_minutes(owner: Person, outsider: Person) -> None:
    base_model()
    made = owner.client.post("/api/v1/deployments", {"name": "desk", "model": "base/tiny-bert", "revision": "latest"})
    address = f"/api/v1/deployments/{made.json()['id']}/token"
    node = bearer(node_secret("s", kind="serve"))
    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    answer = viewer.client.post(address)
    assert answer.status_code == 201 and answer.json()["token"].startswith("sw_p_")
    assert ask(node, answer.json()["token"]).json()["deployment"] == "desk"
    row = ApiToken.objects.get(digest=ApiToken.hash(answer.json()["token"]))
    assert row.kind == TokenKind.PREDICT and row.expires_at is not None
    assert row.expires_at < timezone.now() + timedelta(minutes=11)
    assert str(row.id) not in str(viewer.client.get("/api/v1/tokens").json())
    assert outsider.client.post(address).status_code == 404
    assert node.post(address).status_code == 403 and APIClient().post(address).status_code == 401
    # It does not outlive the token that it was made with, and what has ended is deleted.
    soon = timezone.now() + timedelta(minutes=1)
    ApiToken.objects.filter(user=viewer.user, kind=TokenKind.USER).update(expires_at=soon)
    ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    viewer.client.post(address)
    (left,) = ApiToken.objects.filter(user=viewer.user, kind=TokenKind.PREDICT)
    assert left.expires_at == soon
    owner.client.delete(f"/api/v1/deployments/{made.json()['id']}")
    assert ask(node, answer.json()["token"]).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_node_tokens_of_before_get_the_kind_of_what_they_registered() -> None:
    before, after = [("accounts", "0001_initial")], [("accounts", "0002_token_kinds")]
    executor = MigrationExecutor(connection)
    before.append(("serving", "0002_node_profile"))
    executor.migrate(before)
    try:
        old = executor.loader.project_state(before).apps
        Token, OldNode = old.get_model("accounts", "ApiToken"), old.get_model("serving", "Node")
        for name, kinds in {"w": ["worker"], "s": ["serve", "serve"], "both": ["worker", "serve"], "new": []}.items():
            token = Token.objects.create(kind="node", name=name, prefix="sw_n_", digest=name * 8)
            for number, kind in enumerate(kinds):
                OldNode.objects.create(name=f"{name}-{number}", kind=kind, token=token, version="1")
    finally:
        MigrationExecutor(connection).migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())
    found = {token.name: token.kind for token in ApiToken.objects.all()}
    assert found == {"w": "worker", "s": "serve", "both": "worker", "new": "worker"}
    assert after and Node.objects.filter(kind=NodeKind.SERVE).count() == 3
