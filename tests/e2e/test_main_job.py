"""The main job against the real stack: rows in over REST, the worker's child killed half way, and one version out,
which a real Hub client pulls and a serving node answers with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from embedded.stack import Stack
from pst_client.client import Platform
from tests.e2e.tiny import ROWS, write_model, write_rows

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
MINILM = os.environ.get("SPARSEWRIGHT_MINILM", "")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not Path(MINILM, "model.safetensors").is_file():
        pytest.skip("SPARSEWRIGHT_MINILM names no base model: run the tests by `make test`")
    with Stack(tmp_path_factory.mktemp("stack"), environment={"OMP_NUM_THREADS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def platform(stack: Stack) -> Iterator[Platform]:
    with Platform(stack.url) as visitor:
        me = visitor.accounts.setup(
            code=stack.setup_code, username="eve", password="a long enough passphrase", workspace="e2e"
        )
        token = visitor.accounts.create_token(name="test", role="owner", workspace="e2e", csrf_token=me["csrf_token"])[
            "token"
        ]
    with Platform(stack.url, token) as signed_in:
        yield signed_in


def child_of(stack: Stack) -> psutil.Process | None:
    """The process that trains: the worker's child."""
    worker = psutil.Process(stack.children["worker"].process.pid)
    for process in worker.children(recursive=True):
        if "pst_worker.run" in " ".join(process.cmdline()):
            return process
    return None


def test_a_killed_child_still_ends_in_one_version_that_is_served(
    stack: Stack, platform: Platform, tmp_path: Path
) -> None:
    base = platform.models.upload_base_model("tiny", write_model(tmp_path / "tiny"))
    created = platform.datasets.create(
        write_rows(tmp_path / "rows.csv"), text_column="text", label_column="intent", name="rows"
    )
    dataset = platform.datasets.wait(created["id"])
    assert dataset["state"] == "ready", dataset["errors"]
    job = platform.jobs.submit(
        dataset=dataset["id"],
        base_model=base["repo"],
        target={"sparsity": 0.9},
        settings={"epochs": 20, "dense_epochs": 1, "batch_size": 16, "evaluations": 20},
        model_name="killed",
    )
    killed = 0
    checkpoints = 0
    for event in platform.jobs.follow(job["id"], interval=0.25):
        checkpoints += event["type"] == "checkpoint"
        if not killed and checkpoints >= 2:
            child = child_of(stack)
            assert child is not None
            child.send_signal(signal.SIGKILL)
            killed = child.pid
        stack.check()
    assert killed, "the job was over before its child could be killed"
    job = platform.jobs.get(job["id"])
    assert job["state"] == "succeeded", job["error"]
    assert job["attempt"] == 2
    logs = [e["data"].get("message", "") for e in platform.jobs.events(job["id"]) if e["type"] in {"log", "state"}]
    assert any("checkpoint" in line for line in logs), logs
    versions = platform.models.versions("e2e/killed")["results"]
    assert [version["number"] for version in versions] == [1]
    reached = platform.jobs.report(job["id"])["sparsity"]["reached"]
    assert 0.8999 <= reached < 0.92  # more than asked for where the mask emptied whole neurons, which are removed

    pulled = pull(stack.url, platform.http.token or "", "e2e/killed", tmp_path / "cache")
    assert pulled["commit"] == versions[0]["commit"]
    assert {"model.safetensors", "config.json", "manifest.json", "README.md", "tokenizer.json"} <= set(pulled["files"])

    deployment = platform.serving.deploy(model="e2e/killed", revision="latest")
    deadline = time.monotonic() + 60
    while not (deployment := platform.serving.deployment(deployment["id"]))["ready"]:
        assert time.monotonic() < deadline, deployment
        time.sleep(0.2)
    answer = platform.serving.ask("e2e/killed", [text for text, _ in ROWS[:8]])
    assert answer["commit"] == versions[0]["commit"]
    # The node, which expanded the compact file, answers as the dense file that the Hub client pulled does.
    assert [item["label"] for item in answer["predictions"]] == pulled["predictions"]


HUB_CLIENT = """
import json, sys
from huggingface_hub import HfApi, snapshot_download
from transformers import AutoModelForSequenceClassification, AutoTokenizer
repo, cache, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
folder = snapshot_download(repo, cache_dir=cache)
model = AutoModelForSequenceClassification.from_pretrained(repo, cache_dir=cache).eval()
tokenizer = AutoTokenizer.from_pretrained(repo, cache_dir=cache)
logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
info = HfApi().model_info(repo)
print(json.dumps({
    "commit": info.sha,
    "files": [sibling.rfilename for sibling in info.siblings],
    "predictions": [model.config.id2label[int(i)] for i in logits.argmax(-1)],
}))
"""


def pull(url: str, token: str, repo: str, cache: Path) -> dict[str, object]:
    """A real Hub client in a process of its own, since it reads its endpoint when it is imported."""
    env = {
        **os.environ,
        "HF_ENDPOINT": f"{url}/hf",
        "HF_TOKEN": token,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", HUB_CLIENT, repo, str(cache), json.dumps([text for text, _ in ROWS[:8]])]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_nothing_is_left_running(tmp_path: Path) -> None:
    """A stack that is told to stop, or whose supervisor is killed, takes every process with it."""
    code = (
        "import sys, time; from pathlib import Path; from embedded.stack import Stack\n"
        "with Stack(Path(sys.argv[1])) as s:\n"
        "    print(s.url, flush=True); time.sleep(600)"
    )
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "stack")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        ) as process:
            assert process.stdout is not None and process.stdout.readline().startswith("http://127.0.0.1:")
            deadline = time.monotonic() + 60
            # Valkey, the web tier, the background with its three parts and a beat, a worker, a serving node.
            while len(children := psutil.Process(process.pid).children(recursive=True)) < 9:
                assert time.monotonic() < deadline, children
                time.sleep(0.1)
            process.send_signal(number)
            process.wait(60)
        _, alive = psutil.wait_procs(children, timeout=60)  # a busy machine is no fault
        assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE], (number, alive)


KILLED = ("config.server", "config.background", "config.background datasets", "pst_serve", "valkey-server")


def test_what_ends_by_itself_is_started_again(tmp_path: Path) -> None:
    """Whatever is killed, the beat too, the stack comes back by itself, and readiness tells when."""

    def processes(what: str) -> dict[int, psutil.Process]:
        found = {}
        for top in stack.children.values():
            with contextlib.suppress(psutil.NoSuchProcess):  # a zombie has no command either
                process = psutil.Process(top.process.pid)
                for one in (process, *process.children(recursive=True)):
                    if f"{what} " in f"{' '.join(one.cmdline())} ":
                        found[one.pid] = one
        return found

    def ready() -> bool:
        try:
            return httpx.get(f"{stack.url}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    with Stack(tmp_path / "stack", environment={"OMP_NUM_THREADS": "1"}) as stack:
        for what in KILLED:
            deadline = time.monotonic() + 90
            while not (before := processes(what)):
                assert time.monotonic() < deadline, what
                time.sleep(0.1)
            for process in before.values():
                process.kill()
            while not (ready() and processes(what).keys() - before.keys()):
                stack.check()
                assert time.monotonic() < deadline, what
                time.sleep(0.2)


@pytest.mark.parametrize(
    "late",
    [
        "from pst_worker.run import die_with_parent; die_with_parent(0)",
        "from config import background; background.LOADED_BY = 0; background.end_with_the_worker()",
        "import sys; sys.argv[1:] = ['datasets', '--parent', '0']; "
        "from config import background; background.run = print; background.main()",
    ],
)
def test_a_process_whose_parent_died_before_it_could_watch_it_ends_too(late: str) -> None:
    """No process has the parent 0: what a child sees whose parent was killed just after the fork."""
    done = subprocess.run([sys.executable, "-c", f"{late}; import time; time.sleep(20)"], stdin=subprocess.DEVNULL)
    assert done.returncode in (1, -signal.SIGKILL)
