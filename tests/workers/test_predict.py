"""``pst predict``: what it sends to which node as whom, in parts, and what it shows of each kind of answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer

from hub.accounts.models import TokenKind
from hub.serving.models import Node
from pst_client import cli
from pst_client.api.serving import parts
from pst_client.contract import MOST_INPUTS, MOST_QUESTION_BYTES
from tests.factories.accounts import Person, predict_secret
from tests.factories.jobs import base_model
from tests.factories.serving import Answering, FakeNode, serving_node
from tests.workers.test_cli import Run, config, run, signed_in

__all__ = ["config", "run", "signed_in"]
pytestmark = pytest.mark.django_db(transaction=True)
CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def nodes(signed_in: None, owner: Person) -> Iterator[Callable[[str], Answering]]:
    """Makes nodes that are ready to answer for acme/desk, and answer."""
    started: list[Answering] = []
    base_model()
    made = owner.client.post(
        "/api/v1/deployments", {"name": "desk", "model": "base/tiny-bert", "revision": "latest", "replicas": 3}
    )
    assert made.status_code == 201
    fakes: list[FakeNode] = []

    def make(name: str) -> Answering:
        node, answering = serving_node(name), Answering()
        Node.objects.filter(pk=node.id).update(url=answering.url)
        started.append(answering)
        fakes.append(node)
        for _ in range(2):
            for fake in fakes:
                fake.hold("ready")
        return answering

    yield make
    for answering in started:
        answering.close()


def say(node: Answering, *predictions: dict[str, Any], **more: Any) -> None:
    body = {"model": "acme/desk", "version": 1, "commit": "0" * 40, "milliseconds": 3.5, **more}
    node.body = json.dumps(body | {"predictions": list(predictions)}).encode()


@pytest.mark.parametrize(
    ("prediction", "shown"),
    [
        ({"label": "a", "score": 0.9, "probabilities": {"a": 0.9}}, ["a", "0.900", "x"]),
        ({"label": ["a", "b"], "probabilities": {"a": 0.9, "b": 0.6}}, ["a, b", "x"]),
        ({"label": [], "probabilities": {"a": 0.1}}, ["none", "x"]),
        ({"score": 3.5}, ["3.500", "x"]),
        ({"text": "it [b]is[/] so"}, ["it [b]is[/] so", "x"]),
        ({"something": "of a newer node"}, ["x"]),
    ],
)
def test_every_kind_of_answer_is_shown(
    nodes: Callable[[str], Answering], run: Run, prediction: dict[str, Any], shown: list[str]
) -> None:
    say(nodes("edge"), prediction)
    code, out, err = run("predict", "acme/desk", "x")
    assert code == 0, err
    assert out.splitlines()[0].startswith("acme/desk v1")
    assert out.splitlines()[2].split() == " ".join(shown).split()
    code, found, _ = run("predict", "acme/desk", "x", "--json")
    assert code == 0 and found["predictions"] == [prediction]


def test_a_node_sees_a_token_that_can_only_predict(nodes: Callable[[str], Answering], run: Run, owner: Person) -> None:
    edge = nodes("edge")
    assert run("predict", "acme/desk", "x")[0] == run("predict", "acme/desk", "x", "--node", edge.url)[0] == 0
    assert [token and token.kind for token in edge.tokens] == [TokenKind.PREDICT] * 2
    assert all(token is not None and token.subject is not None for token in edge.tokens)


def test_a_predict_token_needs_no_platform(
    nodes: Callable[[str], Answering], run: Run, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = nodes("edge")
    monkeypatch.setenv("SPARSEWRIGHT_TOKEN", predict_secret(owner))
    monkeypatch.setenv("SPARSEWRIGHT_URL", CLOSED)
    assert run("predict", "acme/desk", "x", "--node", edge.url)[0] == 0
    assert edge.tokens[0] is not None and edge.tokens[0].subject is None


def test_the_next_ready_node_is_asked(nodes: Callable[[str], Answering], run: Run) -> None:
    gone, broken, well = nodes("a"), nodes("b"), nodes("c")
    Node.objects.filter(name="a").update(url=CLOSED)
    broken.status = 503
    for _ in range(4):
        code, _, err = run("predict", "acme/desk", "x")
        assert code == 0, err
    assert len(well.asked) == 4 and gone.asked == []
    well.status = 400
    well.body = json.dumps({"error": {"code": "invalid", "message": "inputs.0: no", "details": []}}).encode()
    assert "inputs.0: no" in run("predict", "acme/desk", "x")[2], "a question that is refused is asked nobody else"


@pytest.mark.parametrize("named", [False, True])
def test_a_node_out_of_reach_is_named_and_not_the_platform(
    nodes: Callable[[str], Answering], run: Run, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr("pst_client.client.FIRST_WAIT_SECONDS", 0.0)
    nodes("edge")
    Node.objects.update(url=CLOSED)
    code, _, err = run("predict", "acme/desk", "x", *(["--node", CLOSED] if named else []))
    assert code == cli.UNREACHABLE
    assert f"{CLOSED} can't be reached" in err and live_server.url not in err


def test_no_node_is_ready(nodes: Any, run: Run) -> None:
    code, _, err = run("predict", "acme/desk", "hello")
    assert code == 1 and "No node is ready to answer for acme/desk (no node has it)." in err
    assert "There is no deployment acme/other" in run("predict", "acme/other", "hello")[2]


def test_a_file_s_lines_are_ended_by_line_breaks_alone(
    nodes: Callable[[str], Answering], run: Run, tmp_path: Path
) -> None:
    edge = nodes("edge")
    say(edge, *[{"score": 1.0}] * 4)
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffone\u2028still one\r\ntwo\x0cstill two\n \nthree\x85\x1e\n".encode())
    assert run("predict", "acme/desk", "--file", str(path))[0] == 0
    assert edge.asked[0][2]["inputs"] == ["one\u2028still one", "two\x0cstill two", " ", "three\x85\x1e"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"one\n\nthree\n", "line 2: the line is empty; every line must hold a text."),
        (b"one\ncaf\xe9\n", "line 2: this is not UTF-8; convert it, such as with: iconv -f latin1 -t utf-8"),
        (b"", "Give at least one text"),
    ],
)
def test_a_file_that_can_not_be_sent(nodes: Any, run: Run, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(content)
    code, _, err = run("predict", "acme/desk", "--file", str(path))
    assert code == cli.USAGE and said in " ".join(err.split())
    assert str(path) in err.replace("\n", "") or not content


def test_many_lines_are_sent_in_parts(nodes: Callable[[str], Answering], run: Run, tmp_path: Path) -> None:
    edge = nodes("edge")
    edge.answer = lambda question: [{"score": float(text)} for text in question["inputs"]]
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{number}\n" for number in range(600)))
    code, found, err = run("predict", "acme/desk", "--file", str(path), "--json")
    assert code == 0, err
    assert [item["score"] for item in found["predictions"]] == list(range(600))
    assert [len(question["inputs"]) for _, _, question in edge.asked] == [MOST_INPUTS, MOST_INPUTS, 88]


def test_parts_fit_what_a_node_takes() -> None:
    inputs = ["\U0001f600" * 20_000] * 300
    found = list(parts(inputs))
    assert [item for part in found for item in part] == inputs and len(found) > 2
    assert all(len(json.dumps(part, ensure_ascii=False).encode()) < MOST_QUESTION_BYTES for part in found)


def test_an_answer_that_is_none_of_a_node_s(nodes: Callable[[str], Answering], run: Run) -> None:
    edge = nodes("edge")
    for body in (b"<html>", b"[]", b"{}", json.dumps({"predictions": []}).encode()):
        edge.body = body
        code, _, err = run("predict", "acme/desk", "x")
        assert code == cli.FAILED and edge.url in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["estimate", "--base-model", "base/tiny-bert", "--sparsity", "nan", "--num-labels", "2"],
        ["estimate", "--base-model", "base/tiny-bert", "--max-latency-ms", "inf", "--num-labels", "2"],
        ["push", "rows.csv", "--validation-share", "-inf"],
    ],
)
def test_numbers_that_are_none_are_refused(run: Run, signed_in: None, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == cli.USAGE


def test_what_json_can_not_say_is_said(run: Run, signed_in: None, owner: Person) -> None:
    base_model()
    arguments = ("estimate", "--base-model", "base/tiny-bert", "--sparsity", "0.9", "--num-labels", "2")
    code, _, err = run(*arguments, "--set", "epochs=NaN")
    assert code == cli.FAILED and "epochs" in err
    code, _, err = run("predict", "acme/desk", "half a \udc00 character", "--node", CLOSED)
    assert code == cli.FAILED and "error" in err
