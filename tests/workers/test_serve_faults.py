"""The serving node when callers leave, models break, disks rot and the platform is away. No platform."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from pst.errors import PSTError
from pst_client import layout
from pst_client.client import Platform
from pst_client.errors import Damaged
from pst_serve import authentication, batching
from pst_serve.app import make_app
from pst_serve.authentication import TokenAuthenticator
from pst_serve.batching import Batcher, BrokenModel, Overloaded
from pst_serve.cache import ModelCache, load
from pst_serve.engine import BadInput, Input, NativeEngine
from pst_serve.node import Node
from pst_serve.settings import Settings
from pst_serve.store import Store
from tests.pst.tiny import save_folder
from tests.workers.conftest import Start, eventually

NODE_ID = "6f1c9c0e-52a0-4c43-b8a5-6f0f4f6f3f10"


class Counted:
    """A model that says what it was asked, in passes of ``seconds``; ``held`` keeps it from answering."""

    task, labels = "classification", ("a", "b")

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.open, self.seconds = threading.Event(), 0.0
        self.open.set()
        self.answer: Callable[[Sequence[Input]], Any] = lambda inputs: [[0.25, 0.75]] * len(inputs)

    def predict(self, inputs: Sequence[Input]) -> Any:
        self.passes.append([item.text for item in inputs])
        assert self.open.wait(20)
        time.sleep(self.seconds)
        return self.answer(inputs)


@pytest.fixture
def model() -> Counted:
    return Counted()


@pytest.fixture
def batcher(model: Counted) -> Iterator[Batcher]:
    made = Batcher(model, "test")
    yield made
    model.open.set()
    made.close()


def fail(error: BaseException) -> Callable[[Sequence[Input]], Any]:
    def raising(inputs: Sequence[Input]) -> Any:
        raise error

    return raising


def test_a_cancelled_request_leaves_the_thread_alive(model: Counted, batcher: Batcher) -> None:
    model.open.clear()
    running = batcher.submit([Input("one")])
    eventually(lambda: model.passes)
    waiting = batcher.submit([Input("never computed")])
    assert running.cancel() and waiting.cancel()
    model.open.set()
    assert batcher.submit([Input("two")]).result(5) == [[0.25, 0.75]]
    assert model.passes == [["one"], ["two"]]


@pytest.mark.parametrize(
    "answer",
    [fail(SystemExit(1)), fail(StopIteration()), fail(KeyboardInterrupt()), fail(MemoryError()), lambda inputs: [],
     lambda inputs: None],
)  # fmt: skip
def test_whatever_a_model_does_its_thread_goes_on(model: Counted, batcher: Batcher, answer: Any) -> None:
    well, model.answer = model.answer, answer
    with pytest.raises(BrokenModel):
        batcher.submit([Input("one")]).result(5)
    model.answer = well
    assert batcher.submit([Input("two")]).result(5) == [[0.25, 0.75]]


def test_an_input_that_breaks_the_model_fails_its_own_request_alone(model: Counted, batcher: Batcher) -> None:
    well = model.answer
    model.answer = lambda inputs: fail(ValueError("no"))(inputs) if "bad" in {i.text for i in inputs} else well(inputs)
    model.open.clear()
    first = batcher.submit([Input("first")])
    eventually(lambda: model.passes)
    bad, good = batcher.submit([Input("bad")], "x"), batcher.submit([Input("good")], "y")
    model.open.set()
    assert len(first.result(5)) == len(good.result(5)) == 1
    with pytest.raises(BrokenModel, match="no"):
        bad.result(5)


def test_callers_take_turns(model: Counted, batcher: Batcher) -> None:
    model.open.clear()
    batcher.submit([Input("first")])
    eventually(lambda: model.passes)
    greedy = [batcher.submit([Input("greedy")] * 256, "greedy") for _ in range(4)]
    modest = batcher.submit([Input("modest")], "modest")
    model.open.set()
    assert len(modest.result(5)) == 1
    assert "modest" in model.passes[1], "it waited for no more than the pass that was under way"
    assert all(len(answer.result(5)) == 256 for answer in greedy)
    assert max(len(texts) for texts in model.passes) <= batching.MAX_ROWS


def test_a_request_in_pieces_keeps_its_order(model: Counted, batcher: Batcher) -> None:
    model.answer = lambda inputs: [[float(item.text), 0.0] for item in inputs]
    answers = [batcher.submit([Input(str(n)) for n in range(200)], name) for name in "abc"]
    for answer in answers:
        assert [row[0] for row in answer.result(5)] == list(range(200))  # type: ignore[misc]


def test_a_caller_with_too_much_waiting_does_not_take_the_room_of_others(model: Counted, batcher: Batcher) -> None:
    model.open.clear()
    held = [batcher.submit([Input("x")] * 256, "greedy") for _ in range(4)]
    with pytest.raises(Overloaded):
        batcher.submit([Input("x")], "greedy")
    other = batcher.submit([Input("x")], "modest")
    for answer in held[1:]:
        answer.cancel()
    batcher.submit([Input("x")] * 256, "greedy").cancel()  # what nobody waits for makes room
    model.open.set()
    assert len(other.result(5)) == 1


def caller(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"caller": "somebody", "workspace": "acme", "deployment": None})


def application(model: Counted, answer: Callable[[httpx.Request], httpx.Response] = caller) -> Any:
    cache = ModelCache()
    cache.put("acme/intents", load("acme/intents", 3, "c" * 40, model))
    platform = Platform("http://platform", "sw_s_node", transport=httpx.MockTransport(answer))
    return make_app(cache, TokenAuthenticator(platform), lambda: None, lambda: None)


QUESTION = "/v1/models/acme/intents/predict"
SECRET = {"Authorization": "Bearer sw_p_secret"}


def test_a_full_node_says_when_to_come_back(model: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_ROWS_PER_CALLER", 1)
    with TestClient(application(model)) as client:
        answer = client.post(QUESTION, json={"inputs": ["a", "b"]}, headers=SECRET)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1


def test_an_input_that_the_model_has_no_tokens_for_is_refused_alone(model: Counted) -> None:
    well = model.answer
    model.answer = lambda inputs: fail(BadInput())(inputs) if "bad" in {i.text for i in inputs} else well(inputs)
    with TestClient(application(model)) as client, ThreadPoolExecutor(8) as pool:
        texts = ["good", "bad"] * 4
        answers = [*pool.map(lambda text: client.post(QUESTION, json={"inputs": [text]}, headers=SECRET), texts)]
    assert [answer.status_code for answer in answers] == [200, 422] * 4
    assert "leave that text out" in answers[1].json()["error"]["message"]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A model of 16 embeddings with a tokenizer of its own."""
    folder = save_folder(tmp_path, "bert", vocab_size=16)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, most: int = 15, start: int = 1) -> None:
    """``most`` is the number of the last token, ``start`` that of the one that begins each text of several words."""
    words = {"[UNK]": 0, "[CLS]": 1, "good": 2, "last": most}
    made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", start)])
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, unk_token="[UNK]", pad_token="[UNK]", model_max_length=16
    ).save_pretrained(folder)


def test_a_version_with_more_tokens_than_embeddings_is_not_loaded(classifier: Path) -> None:
    assert NativeEngine().load(classifier).predict([Input("good last")])
    write_tokenizer(classifier, most=16)
    with pytest.raises(PSTError, match="has 17 tokens, but the model has 16 embeddings"):
        NativeEngine().load(classifier)


def test_a_token_beyond_the_embeddings_never_reaches_the_model(classifier: Path) -> None:
    write_tokenizer(classifier, start=999)
    loaded = NativeEngine().load(classifier)
    with pytest.raises(BadInput, match="leave that text out"):
        loaded.predict([Input("good")])


def test_what_a_caller_who_went_away_asked_is_not_computed(model: Counted) -> None:
    app = application(model)
    model.open.clear()
    body = json.dumps({"inputs": ["left"]}).encode()
    sent: list[Any] = []

    async def ask(text: str, *, leaves: bool) -> None:
        messages = [{"type": "http.request", "body": body.replace(b"left", text.encode()), "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            if not leaves:
                await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append((text, message.get("status")))

        headers = [(b"authorization", b"Bearer sw_p_secret")]
        scope = {"type": "http", "method": "POST", "path": QUESTION, "headers": headers, "query_string": b""}
        await app(scope, receive, send)

    async def both() -> None:
        stays = asyncio.create_task(ask("stays", leaves=False))
        while not model.passes:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(ask("left", leaves=True), 5)
        model.open.set()
        await asyncio.wait_for(stays, 5)

    asyncio.run(both())
    assert model.passes == [["stays"]]
    assert ("stays", 200) in sent and ("left", 200) not in sent


@pytest.mark.parametrize(
    "token", ["sw_u_secret", "sw_w_x", "sw_p_", "gr\xfc\xdfe", "sw_p_\xff", "sw_p_a b", "x" * 5000]
)
def test_a_token_that_is_none_of_a_caller_s_is_shown_to_nobody(model: Counted, token: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return caller(request)

    with TestClient(application(model, answer)) as client:
        headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
        found = client.post(QUESTION, json={"inputs": ["a"]}, headers=headers)
        assert (found.status_code, found.json()["error"]["code"]) == (401, "wrong_token")
        assert client.get("/v1/models", headers=headers).status_code == 401
    assert asked == []


def test_nobody_waits_for_a_platform_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    away, asked = threading.Event(), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if away.is_set():
            raise httpx.ConnectTimeout("no answer")
        return caller(request)

    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    authenticator = TokenAuthenticator(Platform("http://platform", "sw_s_node", transport=httpx.MockTransport(answer)))
    authenticator.caller("sw_p_known")
    away.set()
    monkeypatch.setattr(authentication, "FRESH_SECONDS", 0.0)
    for _ in range(20):
        assert (authenticator.known("sw_p_known") or authenticator.caller("sw_p_known")).workspace == "acme"
    with pytest.raises(authentication.AuthenticatorUnavailable):
        authenticator.caller("sw_p_other")
    assert len(asked) == 2 and slept == [], "one caller found out, and asked once"
    monkeypatch.setattr(authenticator, "_away_until", 0.0)
    away.clear()
    assert authenticator.known("sw_p_known") is None, "it is asked again"


def test_a_flood_of_wrong_tokens_does_not_push_callers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        known = json.loads(request.content)["token_sha256"] == hashlib.sha256(b"sw_p_known").hexdigest()
        error = {"error": {"code": "unknown_token", "message": "There is none.", "details": []}}
        return caller(request) if known else httpx.Response(404, json=error)

    monkeypatch.setattr(authentication, "MAX_REMEMBERED", 5)
    authenticator = TokenAuthenticator(Platform("http://platform", "sw_s_node", transport=httpx.MockTransport(answer)))
    authenticator.caller("sw_p_known")
    for number in range(20):
        with pytest.raises(authentication.Unauthorized):
            authenticator.caller(f"sw_p_{number}")
    assert authenticator.known("sw_p_known") is not None
    with pytest.raises(authentication.Unauthorized):
        authenticator.known("sw_p_19")
    assert authenticator.known("sw_p_0") is None


FILES = ["config.json", "model.safetensors"]


def version(content: bytes = b"good") -> tuple[bytes, str]:
    """A manifest of two files, and its commit."""
    sha256 = hashlib.sha256(content).hexdigest()
    files = [{"path": path, "sha256": sha256, "size": len(content)} for path in FILES]
    text = json.dumps(
        {"format": "sparsewright.manifest/1", "repo": "acme/x", "version": 1, "files": files, "lineage": {}}
    ).encode()
    return text, hashlib.sha256(text).hexdigest()[:40]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store(tmp_path, endpoint="http://127.0.0.1:9/hf", token="t")
    text, _ = version()

    def pull(self: Store, repo: str, commit: str, folder: Path, patterns: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in patterns:
            (folder / path).write_bytes(text if path == layout.MANIFEST else b"good")

    monkeypatch.setattr(Store, "_pull", pull)
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("damage", ["model.safetensors", "manifest.json"])
def test_a_version_that_rotted_on_the_disk_is_pulled_again(store: Store, tmp_path: Path, damage: str) -> None:
    _, commit = version()
    folder, _ = store.fetch("acme/x", commit, lambda: None)
    (folder / damage).write_bytes(b"bad!")
    again, listed = store.fetch("acme/x", commit, lambda: None)
    assert again == folder and listed.version == 1 and (folder / "model.safetensors").read_bytes() == b"good"


@pytest.mark.parametrize("damage", ["model.safetensors", "manifest.json"])
def test_a_pull_that_arrives_damaged_leaves_nothing_for_the_next_try(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    _, commit = version()
    well = Store._pull

    def damaged(self: Store, repo: str, commit: str, folder: Path, patterns: list[str]) -> None:
        well(self, repo, commit, folder, patterns)
        if (folder / damage).is_file():
            (folder / damage).write_bytes(b"bad!")

    monkeypatch.setattr(Store, "_pull", damaged)
    with pytest.raises(Damaged):
        store.fetch("acme/x", commit, lambda: None)
    assert list((tmp_path / "staging").iterdir()) == []
    monkeypatch.setattr(Store, "_pull", well)
    store.fetch("acme/x", commit, lambda: None)


def test_broken_pulls_are_cleared(store: Store, tmp_path: Path) -> None:
    for commit in ("a" * 40, "b" * 40):
        (tmp_path / "staging" / commit).mkdir(parents=True)
        (tmp_path / "staging" / commit / "model.part").write_bytes(b"x")
    store.tidy(["b" * 40])
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["b" * 40], (
        "what is still wanted goes on where it broke off"
    )
    store.close()
    store.open()
    assert not (tmp_path / "staging").exists()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Any]:
    """Makes nodes whose platform is a function."""
    started: list[tuple[Node, Store]] = []

    def make(answer: Callable[[httpx.Request], httpx.Response], **more: Any) -> Node:
        platform = Platform("http://platform", "sw_s_node", transport=httpx.MockTransport(answer), tries=1)
        settings = Settings(url="http://platform", node_token="t", node_name="n", cache_dir=tmp_path, public_url=None)
        held = Store(tmp_path, endpoint="http://platform/hf", token="t")
        held.open()
        made = Node(settings, platform, None, held, url="http://n", **more)  # type: ignore[arg-type]
        started.append((made, held))
        made.start()
        return made

    yield make
    for made, held in started:
        made.stop()
        held.close()


def test_an_answer_that_nobody_foresaw_does_not_end_the_node(node: Any) -> None:
    answers = [{"nonsense": 1}, [], {"wanted": 5}, {"wanted": []}]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("register"):
            return httpx.Response(200, json={"node_id": NODE_ID, "heartbeat_seconds": 0.01})
        return httpx.Response(200, json=answers.pop(0) if len(answers) > 1 else answers[0])

    made = node(answer)
    eventually(lambda: made.problem() is None, what="a node that has its orders")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_a_version_whose_files_name_code_is_not_loaded(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The platform refuses such an upload; the node looks for itself, whatever it was sent."""
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / name).write_text(json.dumps({"deep": [{"auto_map": {"AutoModel": "owner/repo--code.Model"}}]}))
    monkeypatch.setattr(Store, "fetch", lambda *given: (folder, None))
    wanted = {"deployment_id": NODE_ID, "name": "acme/x", "repo": "acme/x", "commit": "a" * 40}

    def answer(request: httpx.Request) -> httpx.Response:
        first = request.url.path.endswith("register")
        return httpx.Response(200, json={"node_id": NODE_ID, "heartbeat_seconds": 1} if first else {"wanted": [wanted]})

    made = node(answer)
    sentence = f"acme/x: failed. Loading failed: The model's {name} has the key auto_map"
    eventually(lambda: (made.problem() or "").startswith(sentence), what=sentence)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_node_that_the_platform_never_let_in_says_why_and_ends(node: Any, status: int) -> None:
    said: list[str] = []
    error = {"error": {"code": "forbidden", "message": "This is a worker's token.", "details": []}}
    made = node(lambda request: httpx.Response(status, json=error), refused=said.append)
    eventually(lambda: said)
    assert said == ["The platform refuses this serving node: This is a worker's token."]
    eventually(lambda: not any(thread.is_alive() for thread in made._threads))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wrong", ["unknown", "worker"])
def test_the_process_with_a_wrong_token_ends_with_a_sentence(start: Start, node_token: str, wrong: str) -> None:
    token = {"unknown": "sw_s_unknown", "worker": node_token}[wrong]
    process = start("pst_serve", "--port", "0", SPARSEWRIGHT_NODE_TOKEN=token)
    assert process.process.wait(60) == 1
    said = {"unknown": "The token is unknown, expired or revoked.", "worker": "make one for a serving node."}[wrong]
    assert f"The platform refuses this serving node: {said}" in process.output() or said in process.output()


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ([*FILES, "evil.py"], "'evil.py' is no file of a model"),
        ([*FILES, "sparse/deep/index.json"], "is no file of a model"),
        (["model.safetensors"], "The model has no config.json"),
        (["config.json", "tokenizer.json"], "The model has no weights"),
    ],
)
def test_a_version_that_is_no_model_is_not_pulled(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], sentence: str
) -> None:
    monkeypatch.setattr("tests.workers.test_serve_faults.FILES", paths)
    text, commit = version()
    asked: list[str] = []

    def pull(self: Store, repo: str, commit: str, folder: Path, patterns: list[str]) -> None:
        asked.extend(patterns)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / layout.MANIFEST).write_bytes(text)

    monkeypatch.setattr(Store, "_pull", pull)
    with pytest.raises(Damaged, match=sentence):
        store.fetch("acme/x", commit, lambda: None)
    assert asked == [layout.MANIFEST] and list((tmp_path / "staging").iterdir()) == []
