"""What huggingface_hub 0.36.2 asks, in its order. It can't be installed beside 2.x, so its requests were recorded once
and are replayed here; the recording itself is a test that runs where HUB_036 names a folder with that version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.accounts.actor import actor_of_user
from hub.registry.models import ModelVersion
from hub.registry.services.aliases import move_alias
from tests.factories.accounts import Person
from tests.factories.registry import files, published

HERE = Path(__file__).parent
RECORD = HERE / "data" / "hub_0_36_requests.json"
HOW = (
    "Recorded from huggingface_hub 0.36.2 and requests by tests/hub/hub_036_client.py against a live server: "
    "uv pip install --target DIR huggingface_hub==0.36.2 requests; "
    "HUB_036=DIR python -m pytest tests/hub/test_hf_recorded.py. {first} and {second} stand for the commits of the "
    "two versions of acme/tickets, of which production is the first. etag: the answer had the file's sha256 as ETag."
)
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]  # test_hf_api.py runs on both


@pytest.fixture
def versions(transactional_db: None, owner: Person) -> dict[str, ModelVersion]:
    """acme/tickets at two versions."""
    first = published(owner.workspace, contents=files(**{"notes.md": b"first"}))
    second = published(owner.workspace, contents=files(**{"notes.md": b"second"}))
    move_alias(actor=actor_of_user(owner.user), model=first.model, name="production", version=first)
    return {"first": first, "second": second}


def etag_of(versions: dict[str, ModelVersion], path: str, commit: str | None) -> str | None:
    """The ETag of the file that a resolve path names, given the commit that the answer named."""
    if commit is None or "/resolve/" not in path:
        return None
    version = next(version for version in versions.values() if version.commit == commit)
    name = path.split("/resolve/", 1)[1].split("/", 1)[1]
    file = version.files.filter(path=name).first()
    return None if file is None else f'"{file.blob_id}"'


@pytest.mark.skipif("HUB_036" not in os.environ, reason="records anew where HUB_036 names a folder with 0.36.2")
def test_record(live_server: Any, versions: dict[str, ModelVersion], owner: Person, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "hub_036_client.py", f"{live_server.url}/hf", owner.token, tmp_path / "cache"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ["HUB_036"],
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    entries = json.loads(done.stdout.splitlines()[-1])
    for entry in entries:
        if entry["etag"] is not None:
            assert entry["etag"] == etag_of(versions, entry["path"], entry["commit"]), entry
            entry["etag"] = True
    text = json.dumps({"how": HOW, "requests": entries}, indent=1)
    for name, version in versions.items():
        text = text.replace(version.commit, f"{{{name}}}")
    RECORD.write_text(text + "\n")


def test_replay(live_server: Any, versions: dict[str, ModelVersion], owner: Person) -> None:
    text = RECORD.read_text()
    for name, version in versions.items():
        text = text.replace(f"{{{name}}}", version.commit)
    entries = json.loads(text)["requests"]
    assert len({entry["operation"] for entry in entries}) == 18
    with httpx.Client(base_url=f"{live_server.url}/hf", follow_redirects=False) as client:
        for entry in entries:
            headers = dict(entry["headers"])
            if entry["token"]:
                headers["Authorization"] = f"Bearer {owner.token}"
            answer = client.request(entry["method"], entry["path"], headers=headers, content=entry["body"])
            assert answer.status_code == entry["status"], (entry, answer.text)
            assert answer.headers.get("x-repo-commit") == entry["commit"], entry
            if entry["etag"]:
                assert answer.headers["etag"] == etag_of(versions, entry["path"], entry["commit"]), entry
            for name, value in entry["answer"].items():
                assert answer.headers.get(name) == value, entry
