"""What goes wrong around a running stack: an outage, a full disk, clients that do not read. Run by `make test-long`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from embedded.stack import Stack
from pst_client.client import Platform
from pst_client.errors import PlatformError
from tests.e2e.tiny import write_model, write_rows

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.any_database, pytest.mark.timeout(900)]


def signed_in(stack: Stack) -> Platform:
    with Platform(stack.url) as visitor:
        me = visitor.accounts.setup(
            code=stack.setup_code, username="eve", password="a long enough passphrase", workspace="e2e"
        )
        token = visitor.accounts.create_token(name="test", role="owner", workspace="e2e", csrf_token=me["csrf_token"])[
            "token"
        ]
    return Platform(stack.url, token)


def submitted(platform: Platform, folder: Path, **settings: Any) -> dict[str, Any]:
    base = platform.models.upload_base_model("tiny", write_model(folder / "base"))
    rows = write_rows(folder / "rows.csv")
    created = platform.datasets.create(rows, text_column="text", label_column="intent", name="rows")
    dataset = platform.datasets.wait(created["id"])
    assert dataset["state"] == "ready", dataset["errors"]
    return platform.jobs.submit(
        dataset=dataset["id"],
        base_model=base["repo"],
        target={"sparsity": 0.9},
        settings={"epochs": 20, "dense_epochs": 1, "batch_size": 16, "evaluations": 20, **settings},
        model_name="faults",
    )


def until(holds: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "stack", environment={"OMP_NUM_THREADS": "1"}) as running:
        yield running


def test_two_outages_longer_than_a_lease_fail_no_job(stack: Stack, tmp_path: Path) -> None:
    """The web tier is frozen for longer than a lease lasts: the worker trains on and reports later."""
    with signed_in(stack) as platform:
        job = submitted(platform, tmp_path, epochs=400, evaluations=50)
        until(lambda: platform.jobs.get(job["id"])["state"] == "running")
        for _ in range(2):
            web = stack.children["web"].process
            web.send_signal(signal.SIGSTOP)
            time.sleep(40)
            web.send_signal(signal.SIGCONT)
            time.sleep(10)
            assert platform.jobs.get(job["id"])["attempt"] == 1
        until(lambda: platform.jobs.get(job["id"])["state"] not in {"running", "queued"}, 400)
        ended = platform.jobs.get(job["id"])
        assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 1, 0), ended["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of a set size can be mounted by root alone")
def test_a_full_disk_loses_and_publishes_nothing_torn(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with Stack(disk / "stack", environment={"OMP_NUM_THREADS": "1"}) as stack, signed_in(stack) as platform:
            filler = disk / "filler"
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            filler.write_bytes(bytes(free - 3 * 2**20))
            large = tmp_path / "large.csv"
            large.write_text("text,intent\n" + "".join(f"row {n} {'x' * 80},{'ab'[n % 2]}\n" for n in range(60_000)))
            with pytest.raises(PlatformError) as full:
                platform.datasets.create(large, text_column="text", label_column="intent", name="large")
            assert full.value.status in {503, 507}, full.value
            assert httpx.get(f"{stack.url}/healthz", timeout=20, trust_env=False).status_code == 200
            with contextlib.suppress(OSError), filler.open("ab") as rest:
                while True:
                    rest.write(bytes(4096))
                    rest.flush()
            until(lambda: httpx.get(f"{stack.url}/readyz", timeout=20, trust_env=False).status_code == 503)
            stack.children["serve"].process.kill()
            stack.children["serve"].process.wait()
            stack.check()  # waits for room
            filler.unlink()
            stack.check()
            assert stack.children["serve"].process.poll() is None
            until(lambda: httpx.get(f"{stack.url}/readyz", timeout=20, trust_env=False).status_code == 200)
            created = platform.datasets.create(large, text_column="text", label_column="intent", name="large")
            assert platform.datasets.wait(created["id"])["state"] == "ready"
            job = submitted(platform, tmp_path)
            until(lambda: platform.jobs.get(job["id"])["state"] not in {"running", "queued"})
            assert platform.jobs.get(job["id"])["state"] == "succeeded"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_clients_that_neither_send_nor_read_stop_nobody(stack: Stack) -> None:
    with signed_in(stack) as platform:
        host, port = "127.0.0.1", int(stack.url.rsplit(":", 1)[1])
        token = platform.http.token
        path = "/hf/base/minilm-l6/resolve/main/model.safetensors"
        download = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        upload = f"POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Length: 500\r\n\r\n{{"
        clients = []
        for _ in range(40):
            for sent in (download, upload, "GET /he"):
                client = socket.create_connection((host, port), timeout=20)
                client.sendall(sent.encode())
                clients.append(client)
        for _ in range(10):
            assert httpx.get(f"{stack.url}/healthz", timeout=10, trust_env=False).status_code == 200
            assert platform.jobs.find()["results"] == []
        assert clients[0].recv(12) == b"HTTP/1.1 200", "the downloads are under way"
        for client in clients:
            client.close()
