"""Nodes, deployments, and which node serves what."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from hub.accounts.models import BASE_WORKSPACE, AuditEvent, Membership, Role, Workspace
from hub.registry.models import ModelKind, ModelVersion
from hub.serving.models import Deployment, Node, Placement
from tests.factories.accounts import Person, bearer, node_secret, person
from tests.factories.registry import CONFIG, files, published
from tests.factories.serving import FakeNode, serving_node

pytestmark = pytest.mark.django_db
URL = "/api/v1/deployments"


@pytest.fixture
def version(owner: Person) -> ModelVersion:
    return published(owner.workspace)


def deploy(owner: Person, **fields: Any) -> dict[str, Any]:
    answer = owner.client.post(URL, {"model": "acme/tickets", **fields})
    assert answer.status_code == 201, answer.content
    found: dict[str, Any] = answer.json()
    return found


def show(owner: Person, deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = owner.client.get(f"{URL}/{deployment['id']}").json()
    return found


def where(deployment: dict[str, Any]) -> list[str]:
    return [
        placement.node.name
        for placement in Placement.objects.filter(deployment=deployment["id"])
        .select_related("node")
        .order_by("node__name")
    ]


def alias(owner: Person, name: str, number: int) -> None:
    assert owner.client.put(f"/api/v1/models/acme/tickets/aliases/{name}", {"version": number}).status_code == 200


# Nodes


def test_a_node_registers_once(owner: Person) -> None:
    secret = node_secret("n", kind="serve")
    first = serving_node("s1", secret=secret)
    assert serving_node("s1", secret=secret).id == first.id
    assert serving_node("s2", secret=secret).id != first.id
    assert serving_node("s1").id != first.id  # another token
    (listed,) = [item for item in owner.client.get("/api/v1/nodes").json()["results"] if item["id"] == first.id]
    assert listed["online"] is True and listed["holds"] == [] and listed["workspace"] is None
    assert (listed["url"], listed["hardware"], listed["kind"]) == ("http://s1:9000", {"cores": 2}, "serve")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"name": ""},
        {"kind": "other"},
        {"version": "x" * 41},
        {"url": "ftp://x"},
        {"url": "http://" + "x" * 300},
        {"url": None},
        {"hardware": 3},
    ],
)
def test_registrations_that_are_refused(change: dict[str, Any], serve_token: str) -> None:
    data = {"name": "s1", "kind": "serve", "version": "1", "url": "http://s1:9000", **change}
    answer = bearer(serve_token).post("/api/v1/node/register", data)
    assert answer.status_code == 400 and answer.json()["error"]["details"][0]["field"] in {*change, "url"}
    assert not Node.objects.exists()


def test_only_nodes_speak_the_node_api(owner: Person, api: APIClient) -> None:
    for path in ("register", "heartbeat"):
        assert api.post(f"/api/v1/node/{path}", {}).status_code == 401
        assert owner.client.post(f"/api/v1/node/{path}", {}).status_code == 403


def test_a_node_is_its_token_s_alone(node_token: str) -> None:
    node = serving_node("s1")
    for client, node_id in ((bearer(node_token), node.id), (node.client, str(uuid4()))):
        answer = client.post("/api/v1/node/heartbeat", {"node_id": node_id})
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "unknown_node"


def test_who_sees_which_node(owner: Person, outsider: Person) -> None:
    serving_node("everybodys")
    mine = serving_node("mine", workspace=owner.workspace)
    assert {item["name"] for item in owner.client.get("/api/v1/nodes").json()["results"]} == {"everybodys", "mine"}
    assert {item["name"] for item in outsider.client.get("/api/v1/nodes").json()["results"]} == {"everybodys"}
    assert owner.client.get("/api/v1/nodes?kind=worker").json()["count"] == 0
    assert owner.client.get("/api/v1/nodes?workspace=acme").json()["count"] == 1
    assert outsider.client.delete(f"/api/v1/nodes/{mine.id}").status_code == 404


def test_a_shared_node_shows_only_one_s_own_deployments(owner: Person, outsider: Person, version: ModelVersion) -> None:
    node = serving_node("shared")
    deploy(owner)
    node.hold()
    (mine,) = owner.client.get("/api/v1/nodes").json()["results"]
    (theirs,) = outsider.client.get("/api/v1/nodes").json()["results"]
    assert theirs["holds"] == []
    (held,) = mine["holds"]
    assert (held["name"], held["model"], held["state"], held["version"], held["commit"]) == (
        "acme/tickets",
        "acme/tickets",
        "ready",
        1,
        version.commit,
    )


def test_forgetting_a_node(owner: Person, version: ModelVersion) -> None:
    editor = person("eddy", workspace="acme", role=Role.EDITOR)
    shared, own = serving_node("a-shared"), serving_node("own", workspace=owner.workspace)
    deployment = deploy(owner)
    assert where(deployment) == ["a-shared"]
    assert editor.client.delete(f"/api/v1/nodes/{own.id}").status_code == 403
    assert owner.client.delete(f"/api/v1/nodes/{shared.id}").status_code == 403
    root = owner.signed_in(superuser=True)
    assert owner.client.delete(f"/api/v1/nodes/{shared.id}").status_code == 403, "a token is one workspace's"
    assert root.delete(f"/api/v1/nodes/{shared.id}").status_code == 204
    assert where(deployment) == ["own"]
    assert owner.client.delete(f"/api/v1/nodes/{own.id}").status_code == 204
    assert where(deployment) == [] and AuditEvent.objects.filter(action="node.forgotten").count() == 2
    assert owner.client.delete(f"/api/v1/nodes/{own.id}").status_code == 404


def test_workers_keep_alive_and_get_no_orders(owner: Person, version: ModelVersion) -> None:
    worker = serving_node("w1", kind="worker")
    deployment = deploy(owner)
    worker.vanish()
    assert not Node.objects.online().exists()
    assert worker.beat() == [] and Node.objects.online().exists() and where(deployment) == []


# Deployments


@pytest.mark.parametrize(("method", "suffix"), [("get", ""), ("patch", ""), ("delete", "")])
def test_another_workspace_gets_404(
    owner: Person, outsider: Person, version: ModelVersion, api: APIClient, method: str, suffix: str
) -> None:
    deployment = deploy(owner)
    path = f"{URL}/{deployment['id']}"
    assert getattr(outsider.client, method)(path, {"replicas": 2}).status_code == 404
    assert getattr(api, method)(path).status_code == 401
    assert getattr(serving_node("n").client, method)(path).status_code == 403
    assert outsider.client.get(URL).json()["count"] == 0
    assert Deployment.objects.get().replicas == 1


def test_deploying(owner: Person, outsider: Person, version: ModelVersion) -> None:
    deployment = deploy(owner, revision="v1", name="support", replicas=2)
    assert {key: deployment[key] for key in ("workspace", "name", "model", "revision", "replicas", "ready")} == {
        "workspace": "acme",
        "name": "support",
        "model": "acme/tickets",
        "revision": "v1",
        "replicas": 2,
        "ready": False,
    }
    assert deployment["wanted"] == {"version": 1, "commit": version.commit} and deployment["placements"] == []
    assert owner.client.get(f"{URL}?workspace=acme").json()["count"] == 1
    assert AuditEvent.objects.filter(action="deployment.created", data__name="acme/support").exists()
    again = owner.client.post(URL, {"model": "acme/tickets", "name": "support"})
    assert again.status_code == 409 and "support" in again.json()["error"]["message"]
    stranger = outsider.client.post(URL, {"model": "acme/tickets"})
    assert stranger.status_code == 404
    assert outsider.client.post(URL, {"model": "acme/tickets", "workspace": "acme"}).status_code == 404
    viewer = person("vera", workspace="acme", role=Role.VIEWER).client
    assert viewer.post(URL, {"model": "acme/tickets"}).status_code == 403
    assert viewer.patch(f"{URL}/{deployment['id']}", {"replicas": 1}).status_code == 403
    assert viewer.delete(f"{URL}/{deployment['id']}").status_code == 403


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({}, 400),
        ({"model": "tickets"}, 400),
        ({"model": "acme/none"}, 404),
        ({"model": "acme/\0"}, 400),
        ({"model": "acme/tickets", "revision": "staging"}, 400),
        ({"model": "acme/tickets", "revision": "x" * 64}, 400),
        ({"model": "acme/tickets", "replicas": 0}, 400),
        ({"model": "acme/tickets", "replicas": 10**6}, 400),
        ({"model": "acme/tickets", "name": "a/b"}, 400),
        ({"model": "acme/tickets", "name": None}, 400),
        ([], 400),
    ],
)
def test_deployments_that_are_refused(owner: Person, version: ModelVersion, data: Any, status: int) -> None:
    assert owner.client.post(URL, data).status_code == status
    assert not Deployment.objects.exists()


def test_a_model_of_another_workspace_is_not_deployed_here(owner: Person, version: ModelVersion) -> None:
    both = person("bert", workspace="second")
    base = Workspace.objects.create(slug=BASE_WORKSPACE, name="Base")
    published(base, "ready-made", kind=ModelKind.BASE)
    assert deploy(both, model="base/ready-made")["model"] == "base/ready-made"
    other = person("anna", workspace="acme").user
    Membership.objects.create(user=other, workspace=both.workspace, role=Role.OWNER)
    client = APIClient()
    client.force_login(other)
    answer = client.post(URL, {"model": "acme/tickets", "workspace": "second"})
    assert answer.status_code == 403


def test_changing(owner: Person, version: ModelVersion) -> None:
    published(owner.workspace)
    deployment = deploy(owner, revision="v1")
    path = f"{URL}/{deployment['id']}"
    changed = owner.client.patch(path, {"revision": "v2", "replicas": 3}).json()
    assert (changed["revision"], changed["replicas"], changed["wanted"]["version"]) == ("v2", 3, 2)
    for data in ({}, {"revision": "staging"}, {"revision": None}, {"replicas": 0}, {"replicas": "many"}, []):
        assert owner.client.patch(path, data).status_code == 400
    assert owner.client.delete(path).status_code == 204 and owner.client.get(path).status_code == 404


# Placement


def test_the_life_of_a_deployment(owner: Person, version: ModelVersion) -> None:
    node = serving_node("s1")
    alias(owner, "production", 1)
    deployment = deploy(owner, revision="production")
    (placement,) = deployment["placements"]
    assert (placement["node"], placement["state"], placement["version"]) == ("s1", "assigned", None)
    (wanted,) = node.beat()
    assert wanted == {
        "deployment_id": deployment["id"],
        "name": "acme/tickets",
        "repo": "acme/tickets",
        "commit": version.commit,
    }
    node.hold("pulling")
    (placement,) = show(owner, deployment)["placements"]
    assert (placement["state"], placement["commit"], show(owner, deployment)["ready"]) == (
        "pulling",
        version.commit,
        False,
    )
    node.hold()
    assert show(owner, deployment)["ready"] is True
    since = show(owner, deployment)["placements"][0]["changed_at"]
    node.hold()
    assert show(owner, deployment)["placements"][0]["changed_at"] == since

    second = published(owner.workspace)
    assert show(owner, deployment)["ready"] is True  # production has not moved
    alias(owner, "production", 2)
    shown = show(owner, deployment)
    assert shown["wanted"]["version"] == 2 and shown["placements"][0]["version"] == 1 and shown["ready"] is False
    (wanted,) = node.beat({"deployment_id": deployment["id"], "commit": version.commit, "state": "ready"})
    assert wanted["commit"] == second.commit
    node.beat({"deployment_id": deployment["id"], "commit": second.commit, "state": "failed", "message": "x" * 600})
    (placement,) = show(owner, deployment)["placements"]
    assert (placement["state"], placement["version"], len(placement["message"])) == ("failed", 2, 500)
    node.hold()
    assert show(owner, deployment)["ready"] is True
    node.vanish()
    shown = show(owner, deployment)
    assert shown["ready"] is False and shown["placements"][0]["online"] is False
    assert node.beat() != []  # it came back, having forgotten everything
    assert show(owner, deployment)["placements"][0]["state"] == "assigned"
    owner.client.delete(f"{URL}/{deployment['id']}")
    assert node.beat() == []


def labelled(owner: Person, *labels: str) -> ModelVersion:
    config = {**CONFIG, "id2label": {str(number): label for number, label in enumerate(labels)}}
    return published(owner.workspace, contents=files(**{"config.json": json.dumps(config).encode()}))


def test_by_default_the_newest_version_is_deployed_for_good(owner: Person, version: ModelVersion) -> None:
    second = published(owner.workspace)
    node = serving_node("s1")
    deployment = deploy(owner)
    assert (deployment["revision"], deployment["wanted"]["version"]) == ("v2", 2)
    published(owner.workspace)
    (wanted,) = node.beat()
    assert wanted["commit"] == second.commit
    assert show(owner, deployment)["offered"] is None


def test_a_deployment_moves_to_other_labels_only_when_somebody_confirms(owner: Person) -> None:
    old = labelled(owner, "bad", "good")
    node = serving_node("s1")
    deployment = deploy(owner, revision="latest")
    node.hold()
    alike = published(owner.workspace, contents=files(**{"labels.txt": b"2", "config.json": config_of(old)}))
    assert node.beat()[0]["commit"] == alike.commit  # the same labels: it follows by itself
    node.hold()
    new = labelled(owner, "bug", "wish", "other")
    for _ in range(2):
        assert (
            node.beat({"deployment_id": deployment["id"], "commit": alike.commit, "state": "ready"})[0]["commit"]
            == alike.commit
        )
    shown = show(owner, deployment)
    assert (shown["wanted"]["version"], shown["offered"]["version"], shown["ready"]) == (2, 3, True)
    assert shown["note"].startswith("latest names v3 now, whose labels are not those of v2: bug, wish, other.")
    chinese = owner.client.get(f"{URL}/{deployment['id']}", HTTP_ACCEPT_LANGUAGE="zh-hans").json()["note"]
    assert "v3" in chinese and "确认" in chinese
    (event,) = AuditEvent.objects.filter(action="deployment.held")
    assert (event.actor, event.workspace) == ("platform", owner.workspace)
    assert event.data["new_labels"] == ["bug", "wish", "other"] and event.data["named"] == 3
    owner.client.patch(f"{URL}/{deployment['id']}", {"replicas": 1})  # says nothing about labels
    assert node.beat()[0]["commit"] == alike.commit
    confirmed = owner.client.patch(f"{URL}/{deployment['id']}", {"revision": "latest"}).json()
    assert (confirmed["wanted"]["version"], confirmed["offered"], confirmed["note"]) == (3, None, "")
    assert node.beat()[0]["commit"] == new.commit


def test_a_new_order_of_the_labels_is_another_meaning(owner: Person) -> None:
    old = labelled(owner, "bad", "good")
    node = serving_node("s1")
    deployment = deploy(owner, revision="latest")
    labelled(owner, "good", "bad")
    assert node.beat()[0]["commit"] == old.commit
    assert show(owner, deployment)["note"] != ""


def config_of(version: ModelVersion) -> bytes:
    return json.dumps(version.config).encode()


def test_reports_about_what_is_not_placed_here_are_ignored(owner: Person, version: ModelVersion) -> None:
    node = serving_node("s1")
    deployment = deploy(owner)
    node.beat({"deployment_id": str(uuid4()), "commit": "a" * 40, "state": "ready"})
    node.beat({"deployment_id": deployment["id"], "commit": "a" * 40, "state": "ready"})
    (placement,) = show(owner, deployment)["placements"]
    assert placement["version"] is None and show(owner, deployment)["ready"] is False


def test_least_loaded_first_and_sticky(owner: Person, version: ModelVersion) -> None:
    nodes = {name: serving_node(name) for name in ("a", "b")}
    first, second = deploy(owner, name="one"), deploy(owner, name="two")
    assert (where(first), where(second)) == (["a"], ["b"])
    third = serving_node("c")
    for node in (*nodes.values(), third):
        node.hold()
    assert (where(first), where(second)) == (["a"], ["b"])
    assert where(deploy(owner, name="three")) == ["c"]


def test_more_and_fewer_replicas(owner: Person, version: ModelVersion) -> None:
    nodes = {name: serving_node(name) for name in ("a", "b", "c")}
    deployment = deploy(owner, replicas=2)
    assert where(deployment) == ["a", "b"]
    owner.client.patch(f"{URL}/{deployment['id']}", {"replicas": 5})
    assert where(deployment) == ["a", "b", "c"]
    nodes["b"].hold()
    late = serving_node("d")
    assert where(deployment) == ["a", "b", "c"]
    late.beat()  # a node that joins takes what is lacking
    assert where(deployment) == ["a", "b", "c", "d"]
    shown = owner.client.patch(f"{URL}/{deployment['id']}", {"replicas": 1}).json()
    assert [item["node"] for item in shown["placements"]] == ["b"] and shown["ready"] is True  # the one that was ready
    assert nodes["a"].beat() == []


def test_deployments_leave_nodes_that_are_gone(owner: Person, version: ModelVersion) -> None:
    first, second = serving_node("a"), serving_node("b")
    deployment = deploy(owner)
    assert where(deployment) == ["a"]
    first.vanish(10)
    second.beat()
    assert where(deployment) == ["a"]  # not long enough
    first.vanish()
    second.vanish()
    assert owner.client.patch(f"{URL}/{deployment['id']}", {"replicas": 1}).status_code == 200
    assert where(deployment) == ["a"]  # nowhere else to go
    (wanted,) = second.beat()
    assert wanted["deployment_id"] == deployment["id"] and where(deployment) == ["b"]
    assert first.beat() == [] and where(deployment) == ["b"]


def test_nodes_serve_their_workspace_alone(owner: Person, outsider: Person, version: ModelVersion) -> None:
    foreign = serving_node("a", workspace=outsider.workspace)
    deployment = deploy(owner)
    assert foreign.beat() == [] and where(deployment) == []
    own = serving_node("b", workspace=owner.workspace)
    assert len(own.beat()) == 1 and where(deployment) == ["b"]


# What the registry asks serving


def test_what_is_deployed_stays(owner: Person, version: ModelVersion) -> None:
    alias(owner, "production", 1)
    alias(owner, "staging", 1)
    deployment = deploy(owner, revision="production")
    path = "/api/v1/models/acme/tickets"
    refused = owner.client.delete(f"{path}/aliases/production")
    assert refused.status_code == 409 and "acme/tickets follows production" in refused.json()["error"]["message"]
    assert owner.client.delete(f"{path}/aliases/staging").status_code == 204
    refused = owner.client.delete(path)
    assert refused.status_code == 409 and "serves acme/tickets" in refused.json()["error"]["message"]
    owner.client.delete(f"{URL}/{deployment['id']}")
    assert owner.client.delete(f"{path}/aliases/production").status_code == 204
    assert owner.client.delete(path).status_code == 204


def test_a_node_reads_the_models_it_was_given(owner: Person, version: ModelVersion) -> None:
    published(owner.workspace, "secret")
    node, other = serving_node("a"), serving_node("b")
    config = "/hf/acme/tickets/resolve/main/config.json"
    assert node.client.head(config).status_code == 404
    deploy(owner)
    deploy(owner, name="again")

    def status(who: FakeNode, path: str) -> int:
        return int(who.client.head(path).status_code)

    assert where(deploy(owner, name="third")) == ["a"]
    Placement.objects.filter(node=other.id).delete()
    assert (status(node, config), status(other, config)) == (200, 404)
    assert status(node, "/hf/acme/secret/resolve/main/config.json") == 404


def test_lists_are_searched_filtered_and_ordered(owner: Person, outsider: Person, version: ModelVersion) -> None:
    serving_node("edge-1")
    serving_node("edge-2", workspace=owner.workspace).vanish()
    serving_node("theirs", workspace=outsider.workspace)
    serving_node("worker-1", kind="worker")

    def names(address: str) -> list[str]:
        answer = owner.client.get(f"/api/v1/{address}")
        assert answer.status_code == 200, answer.content
        return [item["name"] for item in answer.json()["results"]]

    assert names("nodes?usable_in=acme&ordering=name") == ["edge-1", "edge-2", "worker-1"]
    assert names("nodes?usable_in=acme&kind=serve&ordering=-name") == ["edge-2", "edge-1"]
    assert names("nodes?online=true&ordering=name") == ["edge-1", "worker-1"]
    assert names("nodes?online=false") == ["edge-2"]
    assert names("nodes?search=EDGE&page_size=1&page=2") == ["edge-2"]
    for name in ("answers", "drafts"):
        body = {"model": "acme/tickets", "name": name}
        assert owner.client.post("/api/v1/deployments", body).status_code == 201
    assert names("deployments?workspace=acme&search=ANS") == ["answers"]
    assert names("deployments?search=ticket&ordering=name") == ["answers", "drafts"]
    assert names("deployments?model=acme/tickets&ordering=-name") == ["drafts", "answers"]
    assert names("deployments?model=acme/other") == []
