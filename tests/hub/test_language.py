"""The API's sentences in the reader's language: which there are, and that they arrive."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import translation
from rest_framework.test import APIClient

from hub.core import language
from hub.core.language import say
from hub.datasets.models import Dataset, DatasetState
from jobs.models import Job
from tests.factories.accounts import Person
from tests.factories.jobs import queued_job
from tests.factories.registry import published
from tests.factories.serving import serving_node

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    *("platform/hub", "jobs", "workers/pst", "workers/pst_worker", "workers/pst_serve"),
    *("workers/pst_client/client.py", "workers/pst_client/manifest.py"),
)
SPOKEN_BY = {
    *("UserError", "Unauthorized", "NotFound", "Conflict", "Forbidden", "TooLarge", "ParseError", "ValidationError"),
    *("AuthenticationFailed", "RevisionNotFound", "RefusedAddress", "NodeTrouble", "LengthRequired", "Taken", "Locked"),
    *("WrongVersion", "ContentMissing", "BadAnswer", "Malformed", "BadJson", "Broken", "Problem", "RegexValidator"),
    *("BudgetError", "SettingsError", "body", "add", "warn", "HubError"),
    *("PSTError", "FormatError", "MergeError", "TrainingError", "ProcessLost"),
    *("PlatformError", "Unreachable", "Damaged", "Trouble"),
}
"""What is called with a sentence that users see: errors, and what notes a data set's problems and warnings."""
ON_COMMAND = frozenset({"__main__.py", "sweep.py", "report/__init__.py", "report/against.py"})
"""Of the library: what only its command line says, in English."""
IN_WORKERS = "workers/pst_worker/"
"""Where a sentence is also what a function returns."""
SENTENCE = re.compile(r"[A-Z{][^\n]* [^\n]*(\.|: \{\d\})")
LOGGED = frozenset(
    {
        *("Run one job in a folder.", "Fetching rows and base model.", "unreadable event: {0}"),
        "The exported folder predicts as the trainer did.",
    }
)
"""What stands in logs and at the command line, in English."""
FOR_OPERATORS = ("workers/pst_worker/agent.py", "workers/pst_worker/settings.py")
"""What a worker says that can't start."""
AROUND = frozenset({"{0}: {1}", "{0}; leave {1} out"})
"""Templates around a sentence that is put together elsewhere: the whole has a translation."""


def template(node: ast.expr) -> str | None:
    """A text, with numbered holes where an f-string has any."""
    if isinstance(node, ast.Constant):
        return node.value.replace("{", "{{").replace("}", "}}") if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    parts, holes = [], 0
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value).replace("{", "{{").replace("}", "}}"))
        else:
            parts.append(f"{{{holes}}}")
            holes += 1
    return "".join(parts)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for name in SOURCES:
        start = ROOT / name
        for path in sorted(start.rglob("*.py")) if start.is_dir() else [start]:
            place = path.relative_to(ROOT).as_posix()
            silent = place.startswith("workers/pst/") and place.removeprefix("workers/pst/") in ON_COMMAND
            if not silent and not {"migrations", "management"} & set(path.parts) and place not in FOR_OPERATORS:
                yield place, ast.parse(path.read_text("utf-8"))


def said_to_users(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, template) of each sentence: an argument with a space in it of what speaks, or a detail's message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SPOKEN_BY:
            for argument in node.args:
                text = template(argument)
                if text and " " in text:
                    yield node.lineno, text
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "message" and (text := template(value)):
                    yield node.lineno, text


def stated(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, template) of each string that is written as a sentence, but for docstrings and parts of others."""
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    within |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = template(node) if isinstance(node, ast.expr) and id(node) not in within else None
        if text and SENTENCE.fullmatch(text):
            yield node.lineno, text


def test_every_sentence_has_a_translation() -> None:
    found = language.json.loads((language.FOLDER / "zh-hans.json").read_text("utf-8"))
    known = set(found["sentences"]) | set(found["words"])
    asked = [
        (f"{path}:{line}", text)
        for path, tree in sources()
        for line, text in [*said_to_users(tree), *(stated(tree) if path.startswith(IN_WORKERS) else [])]
        if text not in AROUND | LOGGED
    ]
    assert len(asked) > 300, "the sentences are not found where they are"
    missing = [f"{where}: {text}" for where, text in asked if text not in known]
    assert not missing, f"{len(missing)} of {len(asked)} sentences have no Chinese in languages/zh-hans.json"


def test_no_translation_is_of_a_sentence_that_is_gone() -> None:
    found = language.json.loads((language.FOLDER / "zh-hans.json").read_text("utf-8"))
    written = set()
    for _, tree in [*sources(), ("contract", ast.parse((ROOT / "workers/pst_client/contract.py").read_text()))]:
        written |= {text for node in ast.walk(tree) if isinstance(node, ast.expr) and (text := template(node))}
    pieces = " ".join(written)
    gone = [
        english
        for english in found["sentences"]
        if english not in written
        # Put together from several f-strings: each of its parts must stand somewhere.
        and any(
            piece not in pieces
            for part, *_ in string.Formatter().parse(english)
            for piece in re.split(r"[;:,] | \(", part)
            if len(piece.split()) > 2
        )
    ]
    assert gone == []


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_translations_name_the_same_values() -> None:
    found = language.json.loads((language.FOLDER / "zh-hans.json").read_text("utf-8"))
    for english, meaning in (found["sentences"] | found["libraries"]).items():
        assert holes(meaning) <= holes(english), english
        assert any("\u4e00" <= character <= "\u9fff" for character in meaning), f"{meaning} is not Chinese"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("The user name or the password is wrong.", "用户名或密码不正确。"),
        ("This needs the role editor in the workspace acme.", "此操作需要工作区 acme 中的 编辑者 角色。"),
        ("settings.epochs: must be <= 1000, not 5000", "settings.epochs: 必须 <= 1000，而不是 5000"),
        ("max_bytes: 10 can't be met: at 99% sparsity 4,096 bytes are left in the compact file", None),
        ("This record has 3 fields where 2 are expected (a delimiter inside a cell needs quotes).", None),
        ("target.sparsity: Input should be greater than or equal to 0.5", "target.sparsity: 应大于或等于 0.5"),
        ("{0} is a\nstrange name is a base model; choose another model_name.", None),
        ("nobody ever wrote this", "nobody ever wrote this"),
        ("", ""),
    ],
)
def test_a_sentence_is_found_among_the_templates(english: str, chinese: str | None) -> None:
    assert say(english) == english
    with translation.override("zh-hans"):
        if chinese is None:
            assert any("\u4e00" <= character <= "\u9fff" for character in say(english))
        else:
            assert say(english) == chinese
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
    problem = {"file": "a.csv", "line": 3, "column": None, "message": "The text is empty."}
    warning = {"code": "overlap", "message": "In test, 2 rows have the text of a row of train."}
    dataset = Dataset.objects.create(
        workspace=owner.workspace,
        name="rows",
        state=DatasetState.INVALID,
        errors=[problem],
        report={"warnings": [warning]},
    )
    url = f"/api/v1/datasets/{dataset.id}"
    assert owner.client.get(url).json()["errors"] == [problem]
    shown = owner.client.get(url, **CHINESE).json()
    assert shown["errors"] == [problem | {"message": "文本为空。"}]
    assert shown["report"]["warnings"][0]["message"].startswith("测试集中有")
    dataset.refresh_from_db()
    assert dataset.errors == [problem]

    job = queued_job(owner)
    said = owner.client.get(f"/api/v1/jobs/{job.id}", **CHINESE).json()["message"]
    assert said == "队列 default 没有在线的工作节点：请启动一个，或选择其他队列。"
    Job.objects.filter(pk=job.id).update(error="The worker gave no reason.")
    assert owner.client.get(f"/api/v1/jobs/{job.id}", **CHINESE).json()["error"] == "工作节点没有说明原因。"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "Process 2 of 4 ended. The training process died of SIGABRT.",
            "进程 2（共 4 个）已结束。训练进程因 SIGABRT 而终止。",
        ),
        (
            "The exported model failed its check: the compact model differs from the trainer by 0.5 in a logit.",
            "导出的模型未通过检查：紧凑模型 与训练程序的某个 logit 相差 0.5。",
        ),
        (
            "train.jsonl, line 7: the target has 300 tokens, more than max_target_length, 128; "
            "raise that, or shorten the text.",
            "train.jsonl, line 7：该行的目标文本有 300 个词元，超过 max_target_length 所设的 128；"
            "请调高它，或缩短文本。",
        ),
        (
            "The loss became nan at step 3 of 40 (train); lower the learning rates or raise warmup_ratio.",
            "损失在第 3 步（共 40 步，train）变为 nan；请调低学习率或调高 warmup_ratio。",
        ),
    ],
)
def test_why_a_job_failed(owner: Person, english: str, chinese: str) -> None:
    job = queued_job(owner)
    Job.objects.filter(pk=job.id).update(error=english)
    url = f"/api/v1/jobs/{job.id}"
    assert owner.client.get(url).json()["error"] == english
    assert owner.client.get(url, **CHINESE).json()["error"] == chinese


def test_why_a_node_does_not_serve(owner: Person) -> None:
    english = "Verifying failed: model.safetensors is missing."
    node = serving_node("edge")
    published(owner.workspace)
    made = owner.client.post("/api/v1/deployments", {"model": "acme/tickets"})
    [wanted] = node.beat()
    node.beat({key: wanted[key] for key in ("deployment_id", "commit")} | {"state": "failed", "message": english})
    deployment = f"/api/v1/deployments/{made.json()['id']}"
    assert owner.client.get(deployment).json()["placements"][0]["message"] == english
    chinese = "校验失败：缺少 model.safetensors。"
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
