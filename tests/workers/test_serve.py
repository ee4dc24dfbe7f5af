"""The serving node against the real platform: orders, pull, check, switch, predict."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.files.storage import default_storage
from pytest_django.live_server_helper import LiveServer
from starlette.testclient import TestClient

from hub.accounts.models import ApiToken
from hub.core.storage import blob_name
from hub.registry.models import ModelKind, ModelVersion
from hub.serving.models import Deployment, Placement
from pst_client.client import Platform
from pst_serve import authentication
from pst_serve.app import make_app
from pst_serve.authentication import TokenAuthenticator
from pst_serve.engine import Input
from pst_serve.node import Node
from pst_serve.settings import Settings
from pst_serve.store import AlreadyRunning, Store
from tests.factories.accounts import Person, predict_secret
from tests.workers.conftest import Start, eventually, publish_folder
from tests.workers.scripted.made import export

pytestmark = pytest.mark.django_db(transaction=True)


class SlowModel:
    """Answers with the version that it was loaded from, after a moment."""

    task, labels = "classification", ("a", "b")

    def __init__(self, folder: Path) -> None:
        self.text = (folder / "vocab.txt").read_text()
        self.batches: list[int] = []

    def predict(self, inputs: Sequence[Input]) -> list[list[float]]:
        if "crash" in {item.text for item in inputs}:
            raise RuntimeError("the model broke")
        time.sleep(0.01)
        self.batches.append(len(inputs))
        return [[0.25, 0.75] if item.text_pair is None else [0.75, 0.25] for item in inputs]


class SlowEngine:
    def __init__(self) -> None:
        self.loaded: list[SlowModel] = []

    def load(self, folder: Path) -> SlowModel:
        model = SlowModel(folder)
        if model.text == "unloadable":
            raise ValueError("the weights make no sense")
        self.loaded.append(model)
        return model


def publish_text(owner: Person, folder: Path, text: str) -> ModelVersion:
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in export(text).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "vocab.txt").write_text(text)
    return publish_folder(folder, workspace=owner.workspace, name="intents", kind=ModelKind.SPARSE)


class Served:
    """A node with its own HTTP application, beside the test's platform."""

    def __init__(self, url: str, token: str, cache: Path) -> None:
        settings = Settings(url=url, node_token=token, node_name="test-node", cache_dir=cache, public_url=None)
        self.platform = Platform(url, token, tries=1)
        self.engine = SlowEngine()
        self.store = store = Store(cache, endpoint=f"{url}/hf", token=token)
        store.open()
        self.node = Node(settings, self.platform, self.engine, store, url="http://127.0.0.1:9")
        self.authenticator = TokenAuthenticator(self.platform)
        self.app = make_app(self.node.cache, self.authenticator, self.node.problem, self.node.stop)
        self.node.start()

    def until_version(self, name: str, number: int) -> None:
        eventually(
            lambda: (version := self.node.cache.names().get(name)) and version.number == number,
            what=f"{name} v{number}: {self.node.problem()}",
        )


@pytest.fixture
def served(live_server: LiveServer, serve_token: str, tmp_path: Path, settings: Any) -> Iterator[Served]:
    settings.NODE_HEARTBEAT_SECONDS = 0.1
    made = Served(live_server.url, serve_token, tmp_path / "cache")
    yield made
    made.node.stop()
    made.store.close()
    made.platform.close()


def deploy(owner: Person, revision: str = "production") -> str:
    answer = owner.client.post("/api/v1/deployments", {"model": "acme/intents", "revision": revision})
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def move(owner: Person, number: int) -> None:
    answer = owner.client.put("/api/v1/models/acme/intents/aliases/production", {"version": number})
    assert answer.status_code in (200, 201), answer.content


def model_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("model-")}


def test_a_moved_alias_is_followed_without_dropping_a_request(served: Served, owner: Person, tmp_path: Path) -> None:
    before = model_threads()  # of other tests in this process, which may still be ending
    publish_text(owner, tmp_path / "model", "one")
    publish_text(owner, tmp_path / "model", "two")
    move(owner, 1)
    deploy(owner)
    served.until_version("acme/intents", 1)

    token = predict_secret(owner)
    answers: list[tuple[int, int]] = []
    stop = threading.Event()

    def ask(client: TestClient) -> None:
        while not stop.is_set():
            answer = client.post(
                "/v1/models/acme/intents/predict",
                json={"inputs": ["hello", {"text": "hello", "text_pair": "you"}]},
                headers={"Authorization": f"Bearer {token}"},
            )
            answers.append((answer.status_code, answer.json().get("version", 0)))

    with TestClient(served.app) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(answers) > 40)
        move(owner, 2)
        served.until_version("acme/intents", 2)
        seen = len(answers)
        eventually(lambda: len(answers) > seen + 40)
        stop.set()
        for thread in threads:
            thread.join()

    assert {status for status, _ in answers} == {200}
    assert {number for _, number in answers} == {1, 2}
    assert answers[-1] == (200, 2)
    # Requests shared passes of the model, and the old version's thread has ended.
    assert max(max(model.batches) for model in served.engine.loaded) > 2
    eventually(lambda: len(model_threads() - before) == 1)


def test_the_node_tells_the_platform_what_it_holds(served: Served, owner: Person, tmp_path: Path) -> None:
    version = publish_text(owner, tmp_path / "model", "one")
    deployment = deploy(owner, "v1")
    eventually(lambda: owner.client.get(f"/api/v1/deployments/{deployment}").json()["ready"])
    (placement,) = owner.client.get(f"/api/v1/deployments/{deployment}").json()["placements"]
    assert (placement["state"], placement["commit"]) == ("ready", version.commit)
    with TestClient(served.app) as client:
        assert client.get("/readyz").json()["models"] == ["acme/intents"]
        assert owner.client.delete(f"/api/v1/deployments/{deployment}").status_code == 204
        eventually(lambda: not served.node.cache.names())
        assert client.get("/readyz").status_code == 200


def test_a_version_that_can_not_be_loaded_leaves_the_old_one_serving(
    served: Served, owner: Person, tmp_path: Path
) -> None:
    publish_text(owner, tmp_path / "model", "one")
    publish_text(owner, tmp_path / "model", "unloadable")
    move(owner, 1)
    deployment = deploy(owner)
    served.until_version("acme/intents", 1)
    move(owner, 2)
    eventually(lambda: Placement.objects.get(deployment_id=deployment).state == "failed", what="the failure")
    placement = Placement.objects.get(deployment_id=deployment)
    assert placement.message == "Loading failed: the weights make no sense"
    assert served.node.cache.names()["acme/intents"].number == 1
    with TestClient(served.app) as client:
        assert client.get("/readyz").status_code == 503
        assert "the weights make no sense" in client.get("/readyz").json()["error"]["message"]


def test_a_file_that_differs_from_the_manifest_is_never_loaded(served: Served, owner: Person, tmp_path: Path) -> None:
    version = publish_text(owner, tmp_path / "model", "one")
    blob = version.files.get(path="vocab.txt").blob_id
    stored = Path(default_storage.path(blob_name(blob)))
    stored.chmod(0o644)
    stored.write_text("six")
    deployment = deploy(owner, "v1")
    eventually(lambda: Placement.objects.get(deployment_id=deployment).state == "failed", what="the failure")
    assert "vocab.txt does not have the sha256" in Placement.objects.get(deployment_id=deployment).message
    assert served.engine.loaded == []
    # Mended on the platform, it is pulled afresh.
    stored.write_text("one")
    served.until_version("acme/intents", 1)


def test_who_may_ask(
    served: Served, owner: Person, outsider: Person, node_token: str, serve_token: str, tmp_path: Path
) -> None:
    publish_text(owner, tmp_path / "model", "one")
    deployment = deploy(owner, "v1")
    served.until_version("acme/intents", 1)
    mine, theirs = predict_secret(owner), predict_secret(outsider)
    short = owner.client.post(f"/api/v1/deployments/{deployment}/token").json()["token"]
    owner.client.post("/api/v1/deployments", {"model": "acme/intents", "revision": "v1", "name": "twin"})
    other = Deployment.objects.get(name="twin")
    for_other = owner.client.post(f"/api/v1/deployments/{other.id}/token").json()["token"]
    with TestClient(served.app) as client:

        def ask(token: str | None) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}".encode("latin-1")} if token else {}
            return client.post("/v1/models/acme/intents/predict", json={"inputs": ["hello"]}, headers=headers)

        for token in (mine, short):
            assert ask(token).json()["predictions"] == [
                {"label": "b", "score": 0.75, "probabilities": {"b": 0.75, "a": 0.25}}
            ]
        for token, status, code in (
            (None, 401, "not_authenticated"),
            ("sw_p_wrong", 401, "authentication_failed"),
            ("sw_p_gr\xfc\xdfe", 401, "wrong_token"),
            (owner.token, 401, "wrong_token"),
            (node_token, 401, "wrong_token"),
            (serve_token, 401, "wrong_token"),
            (theirs, 404, "not_found"),
            (for_other, 404, "not_found"),
        ):
            answer = ask(token)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert answer.json()["error"]["request_id"] == answer.headers["X-Request-ID"]
        listed = {token: client.get("/v1/models", headers={"Authorization": f"Bearer {token}"}).json()["models"]
                  for token in (mine, theirs, short)}  # fmt: skip
        assert [item["model"] for item in listed[short]] == ["acme/intents"]
        assert "acme/intents" in [item["model"] for item in listed[mine]]
        assert listed[theirs] == []


def test_a_revoked_token_stops_working_and_a_platform_that_is_away_does_not_matter(
    served: Served, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = predict_secret(owner)
    assert served.authenticator.caller(token).workspace == "acme"
    url, served.platform.http.url = served.platform.http.url, "http://127.0.0.1:9"
    monkeypatch.setattr(authentication, "FRESH_SECONDS", 0.0)
    assert served.authenticator.known(token) is None
    assert served.authenticator.caller(token).workspace == "acme"
    assert served.authenticator.known(token) is not None, "the platform is away: nobody waits for it"
    with pytest.raises(authentication.AuthenticatorUnavailable):
        served.authenticator.known("sw_p_never_seen")
    monkeypatch.setattr(authentication, "STALE_SECONDS", 0.0)
    with pytest.raises(authentication.AuthenticatorUnavailable):
        served.authenticator.caller(token)
    served.platform.http.url = url
    monkeypatch.setattr(served.authenticator, "_away_until", 0.0)
    ApiToken.objects.filter(user=owner.user).delete()
    with pytest.raises(authentication.Unauthorized):
        served.authenticator.caller(token)


def test_a_second_node_on_the_same_folder_is_refused(served: Served, tmp_path: Path) -> None:
    with pytest.raises(AlreadyRunning, match="SPARSEWRIGHT_CACHE_DIR"):
        Store(tmp_path / "cache", endpoint="", token="").open()


def test_the_process_serves_the_compact_file_and_answers_as_the_dense_model(
    start: Start, live_server: LiveServer, owner: Person, tiny_export: Path, settings: Any
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    settings.NODE_HEARTBEAT_SECONDS = 0.2
    version = publish_folder(tiny_export, workspace=owner.workspace, name="intents", kind=ModelKind.SPARSE)
    node = start("pst_serve", "--port", "0")
    deployment = deploy(owner, "v1")
    eventually(lambda: owner.client.get(f"/api/v1/deployments/{deployment}").json()["ready"], seconds=90)
    (placement,) = owner.client.get(f"/api/v1/deployments/{deployment}").json()["placements"]
    assert httpx.get(f"{placement['url']}/readyz").status_code == 200
    pulled = node.log.parent / "cache" / "versions" / version.commit
    assert (pulled / "sparse" / "index.json").is_file()
    assert not (pulled / "model.safetensors").exists(), "the dense weights are not needed"

    inputs: list[Any] = ["where is my parcel", {"text": "an invoice", "text_pair": "please, for may"}]
    with Platform(live_server.url, owner.token) as platform:
        answer = platform.serving.ask("acme/intents", inputs)
    assert answer["commit"] == version.commit
    model = AutoModelForSequenceClassification.from_pretrained(tiny_export).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_export)
    for texts, prediction in zip(
        [("where is my parcel",), ("an invoice", "please, for may")], answer["predictions"], strict=True
    ):
        with torch.no_grad():
            expected = model(**tokenizer(*texts, return_tensors="pt")).logits.softmax(-1)[0]
        labels = model.config.id2label
        assert prediction["label"] == labels[int(expected.argmax())]
        assert prediction["probabilities"] == pytest.approx(
            {labels[index]: float(p) for index, p in enumerate(expected)}, abs=1e-5
        )
    assert node.stop() == 0
    assert Placement.objects.get(deployment_id=deployment).state != "ready"
