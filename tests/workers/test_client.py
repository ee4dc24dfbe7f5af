"""The client's retries, errors and file transfers, against scripted answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pst_client import manifest
from pst_client.client import Http, Platform
from pst_client.errors import Damaged, PlatformError, Unreachable

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()
Answer = httpx.Response | Exception


class Script:
    """Answers requests in turn, and remembers them."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(request.read())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def http(self, **options: Any) -> Http:
        return Http(
            "http://platform/", "secret", transport=httpx.MockTransport(self), sleep=self.pauses.append, **options
        )


def error(status: int, code: str = "busy", **headers: str) -> httpx.Response:
    body = {"error": {"code": code, "message": "Not now.", "details": [{"field": "a"}], "request_id": "r"}}
    return httpx.Response(status, json=body, headers=headers)


OK = {"fine": True}


@pytest.mark.parametrize("failure", [error(502), error(503), error(504), httpx.ReadTimeout("slow")])
def test_an_idempotent_request_is_tried_again_with_growing_pauses(failure: Answer) -> None:
    script = Script(failure, failure, failure, httpx.Response(200, json=OK))
    assert script.http().json("GET", "/x") == OK
    assert len(script.requests) == 4
    assert script.pauses == sorted(script.pauses)
    assert script.requests[0].headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("failure", [error(503), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
def test_what_may_have_had_an_effect_is_not_sent_twice(failure: Answer) -> None:
    script = Script(failure)
    with pytest.raises(PlatformError) as caught:
        script.http().json("POST", "/x")
    assert len(script.requests) == 1
    assert caught.value.passing


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), error(429, "throttled")])
def test_what_had_no_effect_is_sent_again(failure: Answer) -> None:
    script = Script(failure, httpx.Response(201, json=OK))
    assert script.http().json("POST", "/x", json={"a": 1}) == OK
    assert script.bodies == [b'{"a":1}'] * 2


def test_a_server_that_says_when_is_believed() -> None:
    script = Script(error(429, **{"Retry-After": "7"}), httpx.Response(200, json=OK))
    script.http().json("GET", "/x")
    assert script.pauses[0] > 5


def test_errors_carry_code_message_details_and_status() -> None:
    with pytest.raises(PlatformError) as caught:
        Script(error(409, "taken")).http().json("POST", "/x")
    found = caught.value
    assert (found.code, found.message, found.details, found.status) == ("taken", "Not now.", [{"field": "a"}], 409)
    assert not found.passing


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(404, text="<html>"), "http_404"),
        (httpx.Response(404, headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "none"}), "RepoNotFound"),
        (httpx.Response(200, text="<html>"), "not_json"),
        (httpx.Response(200, json=[]), "not_json"),
    ],
)
def test_answers_of_something_else_than_the_platform(answer: httpx.Response, code: str) -> None:
    with pytest.raises(PlatformError) as caught:
        Script(answer).http().mapping("GET", "/x")
    assert caught.value.code == code


def test_nobody_answers() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(Unreachable, match="http://platform can't be reached"):
        script.http(tries=3).json("GET", "/x")
    with pytest.raises(PlatformError, match="must start with http"):
        Platform("platform")


def test_every_page_of_a_list() -> None:
    pages = [{"results": [1, 2], "next": "more"}, {"results": [3], "next": None}]
    script = Script(*[httpx.Response(200, json=page) for page in pages])
    assert list(script.http().pages("/x", {"a": "b"})) == [1, 2, 3]
    assert [str(request.url.query, "ascii") for request in script.requests] == ["a=b&page=1", "a=b&page=2"]


def broken(content: bytes) -> Iterator[bytes]:
    yield content
    raise httpx.ReadError("cut")


def test_a_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    script = Script(
        httpx.Response(200, content=broken(CONTENT[:1000])),
        error(503),
        httpx.Response(206, content=CONTENT[1000:]),
    )
    heard: list[int] = []
    script.http().download("/x", tmp_path / "a" / "file", sha256=SHA, size=len(CONTENT), received=heard.append)
    assert (tmp_path / "a" / "file").read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in script.requests] == [None, "bytes=1000-", "bytes=1000-"]
    assert heard[-1] == len(CONTENT)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


@pytest.mark.parametrize(
    "answers",
    [
        lambda: [httpx.Response(200, content=CONTENT)],  # a server that knows no ranges
        lambda: [httpx.Response(206, content=CONTENT[5:]), httpx.Response(200, content=CONTENT)],  # another file's part
        lambda: [httpx.Response(416, headers={"Content-Range": "bytes */3"}), httpx.Response(200, content=CONTENT)],
    ],
)
def test_an_old_part_never_spoils_a_download(tmp_path: Path, answers: Callable[[], list[httpx.Response]]) -> None:
    (tmp_path / "file.part").write_bytes(b"other")
    Script(*answers()).http().download("/x", tmp_path / "file", sha256=SHA, size=len(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    script = Script(httpx.Response(416, headers={"Content-Range": f"bytes */{len(CONTENT)}"}))
    script.http().download("/x", tmp_path / "file", sha256=SHA)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_a_damaged_download_is_not_kept(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Damaged):
        Script(httpx.Response(200, content=content)).http().download(
            "/x", tmp_path / "file", sha256=SHA, size=len(CONTENT)
        )
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_sent_whole_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    script = Script(httpx.WriteError("cut"), httpx.Response(201, json=OK))
    assert script.http().upload("/x", tmp_path / "file", headers={"X-Lease-Token": "l"}) == OK
    assert script.bodies == [CONTENT, CONTENT]
    assert {request.headers["Content-Length"] for request in script.requests} == {str(len(CONTENT))}
    assert "Transfer-Encoding" not in script.requests[0].headers


def test_events_are_followed_to_the_last() -> None:
    def job(state: str) -> httpx.Response:
        return httpx.Response(200, json={"state": state})

    def events(*ids: int) -> httpx.Response:
        return httpx.Response(200, json={"events": [{"id": number} for number in ids], "last": 0})

    # The job ends between two questions: what was written last is still read.
    script = Script(job("running"), events(1, 2), events(), job("succeeded"), events(3), events())
    platform = Platform("http://platform", transport=httpx.MockTransport(script))
    assert [event["id"] for event in platform.jobs.follow("j", interval=0)] == [1, 2, 3]
    assert script.requests[4].url.params["after"] == "2"


def write_version(folder: Path, path: str = "a/file") -> str:
    content = {
        "files": [{"path": path, "sha256": SHA, "size": len(CONTENT)}],
        "format": "sparsewright.manifest/1",
        "lineage": {},
        "repo": "acme/x",
        "version": 1,
    }
    text = json.dumps(content, separators=(",", ":"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(text)
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "file").write_bytes(CONTENT)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def test_a_folder_is_what_its_commit_says(tmp_path: Path) -> None:
    commit = write_version(tmp_path)
    listed = manifest.read(tmp_path, commit=commit)
    manifest.verify(tmp_path, listed.files)
    (tmp_path / "a" / "file").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(Damaged, match="a/file does not have the sha256"):
        manifest.verify(tmp_path, listed.files)
    (tmp_path / "a" / "file").write_bytes(CONTENT[:-1])
    with pytest.raises(Damaged, match="bytes, the manifest says"):
        manifest.verify(tmp_path, listed.files)
    (tmp_path / "a" / "file").unlink()
    with pytest.raises(Damaged, match="a/file is missing"):
        manifest.verify(tmp_path, listed.files)
    (tmp_path / "manifest.json").write_text((tmp_path / "manifest.json").read_text() + " ")
    with pytest.raises(Damaged, match="belongs to commit"):
        manifest.read(tmp_path, commit=commit)


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../out", "a\\b"])
def test_a_manifest_can_not_lead_out_of_its_folder(tmp_path: Path, path: str) -> None:
    commit = write_version(tmp_path, path)
    with pytest.raises(Damaged, match="unsafe path"):
        manifest.read(tmp_path, commit=commit)
