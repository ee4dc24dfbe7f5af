"""The API's messages in the reader's language: every one has a translation, it arrives, and what clients send is never
looked at."""

from __future__ import annotations

import ast
import gc
import json
import string
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import translation
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from hub.accounts.models import Role
from hub.core import errors, language, messages
from hub.core.language import WORDS, say
from hub.datasets.formats.problems import Problem
from hub.datasets.models import Dataset, DatasetState, Split
from hub.registry.models import ModelKind
from jobs.api.schemas import JobSubmission
from jobs.transitions import Action
from pst.messages import Message, word
from pst.messages import said as stored
from pst_client.contract import JobState
from tests.factories.accounts import Person
from tests.factories.jobs import queued_job
from tests.factories.jobs import worker as worker_of_jobs
from tests.factories.registry import published
from tests.factories.serving import serving_node

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]  # the sentences, not where they are kept
ROOT = Path(__file__).resolve().parents[2]
PO = ROOT / "platform/locale/zh_Hans/LC_MESSAGES/django.po"
SPOKEN_BY = {
    *("UserError", "Unauthorized", "NotFound", "Conflict", "Forbidden", "TooLarge", "ParseError", "ValidationError"),
    *("AuthenticationFailed", "RevisionNotFound", "RefusedAddress", "NodeTrouble", "LengthRequired", "Taken", "Locked"),
    *("WrongVersion", "ContentMissing", "BadAnswer", "Malformed", "BadJson", "Broken", "Problem", "RegexValidator"),
    *("BudgetError", "SettingsError", "body", "add", "warn", "HubError", "say", "say_later"),
    *("PSTError", "FormatError", "MergeError", "TrainingError", "ProcessLost"),
    *("PlatformError", "Unreachable", "Damaged", "ApiError", "_failed"),
}
"""What is called with a sentence that users see: errors, and what notes a data set's problems and warnings."""
ON_COMMAND = tuple(
    f"workers/{name}"
    for name in (
        *("pst/__main__.py", "pst/sweep.py", "pst/report/__init__.py", "pst/report/agreement.py"),
        *("pst_client/commands.py", "pst_client/cli.py", "pst_client/credentials.py", "pst_client/signature.py"),
        *("pst_client/api/datasets.py", "pst_worker/agent.py", "pst_worker/settings.py"),
    )
)
"""What only a command line says, in English."""
FROM_A_TABLE = ("workers/pst/messages.py", "platform/hub/core/messages.py")
"""Where a message's template is a value: a word, and the sentence of one of pydantic's types."""


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    """A request leaves its language in the thread that answered it."""
    yield
    translation.deactivate()


def sources() -> Iterator[tuple[str, ast.Module]]:
    for name in ("platform", "jobs", "workers"):
        for path in sorted((ROOT / name).rglob("*.py")):
            if not {"migrations", "management"} & set(path.parts):
                yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def called(node: ast.AST) -> str:
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def templates() -> Iterator[tuple[str, str, set[str] | None]]:
    """(where, template, what it is given, where that is written out) of each message."""
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) in {"Message", "gettext_noop"} and node.args:
                text, where = node.args[0], f"{path}:{node.lineno}"
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    names = {item.arg for item in node.keywords if item.arg}
                    given = called(node) == "Message" and all(item.arg for item in node.keywords)
                    yield where, text.value, names if given else None
                else:
                    assert path in FROM_A_TABLE, f"{where}: a message's template is a literal"


def holes(text: str) -> set[tuple[str, str]]:
    return {(name, spec or "") for _, name, spec, _ in string.Formatter().parse(text) if name is not None}


def catalogue() -> dict[str, str]:
    with PO.open("rb") as file:
        found = read_po(file)
    assert not found.obsolete
    return {str(item.id): str(item.string) for item in found if item.id and not item.fuzzy}


def test_every_message_has_a_translation_and_none_is_left_over() -> None:
    written = {text for _, text, _ in templates()}
    assert len(written) > 400, "the messages are not found where they are"
    known = catalogue()
    assert {text for text in written if not known.get(text)} == set(), "make messages; then add the Chinese"
    assert set(known) - written == set(), "make messages"


def test_messages_are_given_what_their_holes_name() -> None:
    for where, text, names in templates():
        assert names is None or {name for name, _ in holes(text)} == names, where
        assert all(name.isidentifier() for name, _ in holes(text)), where


def test_translations_have_the_same_holes() -> None:
    for english, meaning in catalogue().items():
        assert holes(meaning) == holes(english), english
        assert meaning != english, f"{english}: what equals the template counts as not translated"
        assert any("\u3000" <= character <= "\uffef" for character in meaning), f"{meaning} is not Chinese"


def plain(node: ast.expr) -> bool:
    """Whether it is a text that is put together, or a sentence."""
    if isinstance(node, ast.Call):
        return called(node) == "format"
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and " " in node.value
    if isinstance(node, (ast.BoolOp, ast.IfExp, ast.BinOp)):
        return any(plain(inner) for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.expr))
    return isinstance(node, ast.JoinedStr)


def test_what_users_read_is_a_message() -> None:
    found = []
    for path, tree in sources():
        for node in ast.walk(tree) if path not in ON_COMMAND else ():
            said: list[ast.expr] = []
            if isinstance(node, ast.Call) and called(node) in SPOKEN_BY:
                said = [*node.args, *(item.value for item in node.keywords if item.arg in {"message", "error"})]
            elif isinstance(node, ast.Dict):
                parts = {ast.unparse(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
                said = [parts["'message'"]] if "'message'" in parts and not {"'level'", "'ok'"} & set(parts) else []
            found += [f"{path}:{item.lineno}: {ast.unparse(item)}" for item in said if plain(item)]
    assert found == []


def test_the_words_are_those_of_the_enumerations() -> None:
    unsaid = {Action.CLAIM, Action.SUCCEED, Action.FAIL, Action.STOP, Action.REQUEUE, Action.SUSPEND}  # no user's
    for kind in (JobState, Role, DatasetState, Split, Action, ModelKind):
        assert {str(member.value) for member in kind if member not in unsaid} <= set(WORDS), kind


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (Message("The user name or the password is wrong."), "用户名或密码不正确。"),
        (
            Message(
                "{field}: {message}",
                field="a",
                message=Message("is {state}", state=word("ready")),
            ),
            "a：状态为就绪",
        ),
        ("The user name or the password is wrong.", "The user name or the password is wrong."),
        ("", ""),
    ],
)
def test_a_message_is_said_and_a_text_is_not_looked_at(english: str, chinese: str) -> None:
    assert say(english) == english and type(say(english)) is str
    with translation.override("zh-hans"):
        assert say(english) == chinese and type(say(english)) is str
    with translation.override("de"):
        assert say(english) == english, "there is no catalogue"


CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-CN,zh;q=0.9,en;q=0.8"}


def error(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    return found


def test_errors_come_in_the_reader_s_language(owner: Person, api: APIClient) -> None:
    wrong = {"username": "olga", "password": "wrong"}
    assert error(api.post("/api/v1/session", wrong))["message"] == "The user name or the password is wrong."
    assert error(api.post("/api/v1/session", wrong, **CHINESE))["message"] == "用户名或密码不正确。"
    assert error(api.post("/api/v1/session", {}, **CHINESE))["details"][0]["message"] == "该字段是必填项。"
    assert error(owner.client.get("/api/v1/nowhere", **CHINESE))["message"] == "没有该地址。"
    missing = error(owner.client.post("/api/v1/estimates", {"base_model": "a/b", "target": {}}, **CHINESE))
    assert missing["message"].startswith("没有你可见的基础模型")
    field = error(owner.client.post("/api/v1/estimates", {"base_model": "a/b", "target": {"sparsity": 2}}, **CHINESE))
    assert field["details"] == [{"field": "target.sparsity", "message": "应小于或等于 0.99"}]


def test_what_is_stored_is_english_and_shown_in_the_reader_s_language(owner: Person) -> None:
    old = {"file": "a.csv", "line": 2, "column": None, "message": "The text is empty."}
    problem = Problem("a.csv", 3, None, Message("The text is empty.")).to_dict()
    overlap = Message("In {split}, {rows} have the text of a row of {other}.", split="test", rows=2, other="train")
    dataset = Dataset.objects.create(
        workspace=owner.workspace,
        name="rows",
        state=DatasetState.INVALID,
        errors=[old, problem],
        report={"warnings": [{"code": "overlap", "message": overlap, "said": stored(overlap)}]},
    )
    dataset.refresh_from_db()
    assert dataset.errors == [old, problem]
    url = f"/api/v1/datasets/{dataset.id}"
    assert owner.client.get(url).json()["errors"] == [old, old | {"line": 3}]
    shown = owner.client.get(url, **CHINESE).json()
    assert shown["errors"] == [old, old | {"line": 3, "message": "文本为空。"}], "what was stored before stays English"
    [warning] = shown["report"]["warnings"]
    assert warning["message"].startswith("test中有") and set(warning) == {"code", "message"}

    job = queued_job(owner)
    waits = owner.client.get(f"/api/v1/jobs/{job.id}", **CHINESE).json()
    assert waits["message"] == "队列 default 没有在线的工作节点：请启动一个，或选择其他队列。"
    assert waits["plan"]["notes"] == ["使用全局阈值时，各矩阵的比例训练后才能确定：大小可能有出入。"]


FAILED = [
    (
        Message(
            "Process {failed} of {processes} ended. {death}",
            failed=2,
            processes=4,
            death=Message("The training process died of {name}.", name="SIGABRT"),
        ),
        "进程 2（共 4 个）已结束。训练进程因 SIGABRT 而终止。",
    ),
    (
        Message(
            "The exported model failed its check: {why}",
            why=Message(
                "{who} differs from the trainer by {difference:.3g} in a logit.",
                who=Message("the compact model"),
                difference=0.5,
            ),
        ),
        "导出的模型未通过检查：紧凑模型 与训练程序的某个 logit 相差 0.5。",
    ),
    (
        Message(
            "The loss became {loss} at step {step} of {total} ({phase}); "
            "lower the learning rates or raise warmup_ratio.",
            loss=repr(float("nan")),
            step=3,
            total=40,
            phase="train",
        ),
        "损失在第 3 步（共 40 步，train）变为 nan；请调低学习率或调高 warmup_ratio。",
    ),
    ("What an older worker says.", "What an older worker says."),
]


@pytest.mark.parametrize(("english", "chinese"), FAILED)
def test_why_a_job_failed(owner: Person, english: str, chinese: str) -> None:
    job, worker = queued_job(owner), worker_of_jobs()
    worker.claim(job)
    finish = {"outcome": "failed", "error": english, "said": stored(english)}
    assert worker.post(job, "finish", finish).status_code == 200
    url = f"/api/v1/jobs/{job.id}"
    assert owner.client.get(url).json()["error"] == english
    assert owner.client.get(url, **CHINESE).json()["error"] == chinese
    last = owner.client.get(f"{url}/events", **CHINESE).json()["events"][-1]
    assert last["data"]["message"] == chinese and "said" not in last["data"]


@pytest.mark.parametrize(
    "how",
    [
        {"template": "{a.__class__}", "params": {"a": "b"}},
        {"template": "{path} is missing.", "params": {}},
        {"template": "{path} is missing.", "params": {"path": {"text": "a", "template": 1}}},
        {"template": ["{path} is missing."], "params": None},
        {"something": "else"},
    ],
)
def test_what_a_worker_says_badly_is_shown_in_english(owner: Person, how: dict[str, Any]) -> None:
    job, worker = queued_job(owner), worker_of_jobs()
    worker.claim(job)
    assert worker.post(job, "finish", {"outcome": "failed", "error": "Some reason.", "said": how}).status_code == 200
    assert owner.client.get(f"/api/v1/jobs/{job.id}", **CHINESE).json()["error"] == "Some reason."


def test_why_a_node_does_not_serve(owner: Person) -> None:
    english = Message(
        "{stage} failed: {reason}", stage=word("Verifying"), reason=Message("{path} is missing.", path="a")
    )
    node = serving_node("edge")
    published(owner.workspace)
    made = owner.client.post("/api/v1/deployments", {"model": "acme/tickets"})
    [wanted] = node.beat()
    held = {key: wanted[key] for key in ("deployment_id", "commit")} | {"state": "failed"}
    node.beat(held | {"message": english, "said": stored(english)})
    deployment = f"/api/v1/deployments/{made.json()['id']}"
    assert owner.client.get(deployment).json()["placements"][0]["message"] == english
    chinese = "校验失败：缺少 a。"
    assert owner.client.get(deployment, **CHINESE).json()["placements"][0]["message"] == chinese
    [shown] = owner.client.get("/api/v1/nodes", **CHINESE).json()["results"]
    assert shown["holds"][0]["message"] == chinese


def test_the_hub_s_body_is_translated_and_its_headers_are_not(owner: Person) -> None:
    english = owner.client.get("/hf/api/models/acme/nothing")
    chinese = owner.client.get("/hf/api/models/acme/nothing", **CHINESE)
    assert chinese["X-Error-Message"] == english["X-Error-Message"] == english.json()["error"]
    assert chinese["X-Error-Message"].isascii() and chinese["X-Error-Code"] == "RepoNotFound"
    assert chinese.json()["error"] == "没有此令牌可读取的模型 acme/nothing。"


def test_a_csv_s_error_in_the_preview(owner: Person) -> None:
    file = SimpleUploadedFile("a.csv", b"%PDF-1.7")
    answer = owner.client.post("/api/v1/datasets/preview", {"file": file}, format="multipart", **CHINESE)
    assert answer.status_code == 400, answer.content
    assert error(answer)["message"] == "无法读取文件：这是 PDF 文件。"


# --- What a client sends is data: it is never looked up, whatever it says.

TEMPLATES = list(templates())
PIECES = sorted(
    {piece for _, text, _ in TEMPLATES for piece in (text, *(part for part, *_ in string.Formatter().parse(text)))}
)
ANY_TEXT = st.text(max_size=300) | st.lists(st.sampled_from([*PIECES, "a: ", "x ", ". "]), max_size=200).map("".join)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The templates that are looked up."""
    seen: list[str] = []
    look = language.gettext
    monkeypatch.setattr(language, "gettext", lambda template: seen.append(template) or look(template))
    return seen


def check_error(answer: Any, looked_up: list[str], size: int) -> None:
    """No more work than a few look-ups of templates of ours, and no more text than came in."""
    written = {text for _, text, _ in TEMPLATES}
    assert answer.status_code < 500, answer.content
    assert set(looked_up) <= written and len(looked_up) < 50 + 3 * 100
    assert len(answer.content) < 100_000 + 20 * size
    looked_up.clear()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=ANY_TEXT)
def test_any_content_type(api: APIClient, looked_up: list[str], kind: str) -> None:
    sent = kind.encode("utf-8", "replace").decode("latin-1").replace("\r", " ").replace("\n", " ")
    answer = api.generic("POST", "/api/v1/session", b"{}", content_type=sent, **CHINESE)
    check_error(answer, looked_up, len(sent))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.dictionaries(ANY_TEXT, ANY_TEXT | st.integers() | st.floats(), max_size=5), name=ANY_TEXT)
def test_any_keys_and_values(owner: Person, looked_up: list[str], keys: dict[str, Any], name: str) -> None:
    body = json.dumps(keys | {"target": {name: name}, "queue": name})
    for path in ("jobs", "estimates", "session", "datasets/preview"):
        answer = owner.client.generic("POST", f"/api/v1/{path}", body, "application/json", **CHINESE)
        check_error(answer, looked_up, len(body))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=ANY_TEXT, content=ANY_TEXT)
def test_any_file(owner: Person, looked_up: list[str], name: str, content: str) -> None:
    try:
        file = SimpleUploadedFile(name[:200] or "a.csv", content.encode("utf-8", "replace"))
    except SuspiciousFileOperation:  # such as "/", which no client can send as the name of a file
        reject()
    answer = owner.client.post("/api/v1/datasets/preview", {"file": file}, format="multipart", **CHINESE)
    check_error(answer, looked_up, len(content) + len(name))


@pytest.mark.parametrize("language_header", [{}, CHINESE])
def test_what_once_held_the_process(owner: Person, api: APIClient, language_header: dict[str, str]) -> None:
    """A Content-Type of 6.4 kB that took minutes to match, and a key that was a RecursionError."""
    kind = "The deployment x " + "follows x; change " * 360
    began = time.process_time()
    assert api.generic("POST", "/api/v1/session", b"{}", content_type=kind, **language_header).status_code == 415
    for key in ("a: " * 600, "spec.json: " + "x " * 3000 + "must be between 0 and " + ", not x" * 3000):
        answer = owner.client.post("/api/v1/jobs", {key: 1}, **language_header)
        assert answer.status_code == 400, answer.content
    assert time.process_time() - began < 20, "it was minutes, and grew with the third power"


def test_no_sentence_is_kept() -> None:
    """Twenty requests with long texts once grew a process by 800 MB."""

    def ask(number: int) -> None:
        with translation.override("zh-hans"), pytest.raises(errors.UserError) as caught:
            messages.read(JobSubmission, {f"{number} {'x' * 100_000}": 1})
        with translation.override("zh-hans"):
            errors.body("invalid", caught.value.message, caught.value.details)

    ask(0)
    tracemalloc.start()
    for number in range(50):
        ask(number)
    gc.collect()
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 1_000_000
