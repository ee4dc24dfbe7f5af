"""``pst`` against the real platform."""

from __future__ import annotations

import base64
import json
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connections
from pytest_django.live_server_helper import LiveServer

from hub.accounts.models import ApiToken
from hub.core.storage import blob_name
from hub.datasets.models import Dataset
from hub.registry import signing
from hub.registry.models import ModelKind, ModelVersion
from hub.serving.models import Node
from jobs.models import Job
from pst_client import cli, credentials
from tests.e2e.tiny import ROWS, write_rows
from tests.factories.accounts import Person
from tests.factories.serving import profile, serving_node
from tests.workers.conftest import publish_folder, rows_dataset

pytestmark = pytest.mark.django_db(transaction=True)
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    monkeypatch.setenv("SPARSEWRIGHT_CONFIG", str(folder))
    for name in ("SPARSEWRIGHT_URL", "SPARSEWRIGHT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns exit code, stdout (parsed with --json) and stderr."""

    def call(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in arguments and out else out, err

    return call


@pytest.fixture
def signed_in(live_server: LiveServer, owner: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SPARSEWRIGHT_URL", live_server.url)
    monkeypatch.setenv("SPARSEWRIGHT_TOKEN", owner.token)
    yield
    connections.close_all()


def test_sign_in_with_a_token(live_server: LiveServer, owner: Person, run: Run, config: Path) -> None:
    code, out, _ = run("login", live_server.url, "--token", owner.token)
    assert code == 0, out
    assert "Signed in" in out
    assert "acme (owner)" in out
    kept = config / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    key = signing.public_key()["public_key"]
    assert json.loads(kept.read_text()) == {"url": live_server.url, "token": owner.token, "signing_key": key}
    assert run("nodes", "--json")[:2] == (0, [])
    code, _, err = run("login", "--token", "sw_u_wrong")
    assert code == cli.NOT_SIGNED_IN
    assert "unknown, expired or revoked" in err


def test_sign_in_with_a_password_makes_a_token(
    live_server: LiveServer, owner: Person, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "correct horse battery")
    code, _, err = run("login", live_server.url, "--username", "olga", "--role", "editor")
    assert code == 0, err
    token = ApiToken.objects.get(name__startswith="pst on ")
    assert (token.user, token.role) == (owner.user, "editor")
    kept = credentials.saved()
    assert kept is not None
    assert ApiToken.hash(kept.token) == token.digest
    monkeypatch.setattr("getpass.getpass", lambda prompt: "wrong")
    assert run("login", live_server.url, "--username", "olga")[0] != 0


def test_exit_codes(live_server: LiveServer, run: Run, monkeypatch: pytest.MonkeyPatch, node_token: str) -> None:
    code, _, err = run("nodes")
    assert (code, "pst login" in err) == (cli.NOT_SIGNED_IN, True)
    assert run("login", live_server.url, "--token", node_token)[0] == cli.FAILED
    with pytest.raises(SystemExit) as caught:
        run("submit")
    assert caught.value.code == cli.USAGE
    monkeypatch.setenv("SPARSEWRIGHT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SPARSEWRIGHT_TOKEN", "any")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    code, _, err = run("nodes", "--json")
    assert code == cli.UNREACHABLE
    assert json.loads(err)["error"]["code"] == "unreachable"


def test_a_saved_token_goes_to_no_other_address(
    live_server: LiveServer, owner: Person, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("login", live_server.url, "--token", owner.token)
    monkeypatch.setenv("SPARSEWRIGHT_URL", "http://127.0.0.1:9")
    assert run("nodes")[0] == cli.NOT_SIGNED_IN


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's own worker isn't running: validate when the command asks how it goes."""
    from hub.datasets.tasks import validate
    from pst_client.api.datasets import Datasets

    get = Datasets.get

    def validating_get(self: Datasets, dataset_id: str) -> Any:
        if get(self, dataset_id)["state"] == "validating":
            validate(dataset_id=dataset_id)
        return get(self, dataset_id)

    monkeypatch.setattr(Datasets, "get", validating_get)


def test_push(signed_in: None, validated: None, run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv")
    code, found, err = run("push", str(rows), "--label", "intent", "--text", "text", "--name", "intents", "--json")
    assert code == 0, err
    assert (found["state"], found["name"]) == ("ready", "intents")
    assert sum(split["rows"] for split in found["splits"]) == len(ROWS)
    code, out, _ = run("push", str(rows), "--label", "intent", "--text", "text")
    assert "track_order" in out

    (tmp_path / "bad.csv").write_text("text,intent\nhello,a\n,b\n")
    code, out, err = run("push", str(tmp_path / "bad.csv"), "--label", "intent", "--text", "text")
    assert code == 1
    assert "bad.csv, line 3" in err

    code, _, err = run("push", str(tmp_path / "absent.csv"))
    assert code == 1
    assert "absent.csv: No such file" in err


def test_estimate_and_submit(signed_in: None, run: Run, owner: Person, light_base: ModelVersion) -> None:
    dataset = str(rows_dataset(owner.workspace).id)
    code, answer, err = run(
        "estimate", "--base-model", "base/tiny", "--sparsity", "0.9", "--dataset", dataset, "--json"
    )
    assert code == 0, err
    assert answer["plan"]["sparsity"] == pytest.approx(0.9, abs=0.01)
    out = run("estimate", "--base-model", "base/tiny", "--sparsity", "0.9", "--num-labels", "3")[1]
    assert "90.0% of the prunable weights" in out
    code, _, err = run("estimate", "--base-model", "base/tiny", "--max-bytes", "10", "--num-labels", "3")
    assert code == 1
    assert "error: " in err

    base = ("submit", "--dataset", dataset, "--base-model", "base/tiny", "--sparsity", "0.8")
    code, job, err = run(*base, "--set", "epochs=3", "--set", "method=magnitude", "--model-name", "mine", "--json")
    assert code == 0, err
    kept = Job.objects.get(pk=job["id"])
    assert (kept.settings["epochs"], kept.settings["method"]) == (3, "magnitude")
    assert (kept.target["sparsity"], kept.model_name) == (0.8, "mine")
    code, _, err = run(*base, "--set", "epochs=0")
    assert code == 1
    assert "epochs" in err
    assert run(*base, "--set", "epochs")[0] == cli.USAGE
    same = [run(*base, "--idempotency-key", "k", "--json")[1]["id"] for _ in range(2)]
    assert same[0] == same[1]


def test_a_share_for_each_group(signed_in: None, run: Run, owner: Person, light_base: ModelVersion) -> None:
    dataset = str(rows_dataset(owner.workspace).id)
    plan = ("--dataset", dataset, "--base-model", "base/tiny", "--json")
    code, answer, err = run("estimate", *plan, "--group", "ffn=0.95")
    assert code == 0, err
    shares = {group["name"]: group["sparsity"] for group in answer["plan"]["groups"]}
    assert shares == {"attention": 0.0, "ffn": pytest.approx(0.95, abs=0.01)}
    code, job, err = run("submit", *plan, "--group", "ffn=0.9", "--group", "attention=.5")
    assert code == 0, err
    assert Job.objects.get(pk=job["id"]).target["groups"] == {"ffn": 0.9, "attention": 0.5}

    code, _, err = run("estimate", *plan, "--group", "decoder=0.99")
    assert code == 1
    assert "'decoder' is no group of this model" in err
    for wrong in ("ffn", "ffn=", "=0.9", "ffn=most", "ffn=nan", "ffn=inf"):
        code, _, err = run("estimate", *plan, "--group", wrong)
        assert (code, json.loads(err)["error"]["code"]) == (cli.USAGE, "usage")
        assert "--group takes name=share" in err
    code, _, err = run("estimate", *plan, "--group", "ffn=0.9", "--group", "ffn=0.8")
    assert code == cli.USAGE
    assert "names ffn twice" in err


def test_a_time_on_a_node(signed_in: None, run: Run, owner: Person, light_base: ModelVersion) -> None:
    edge, twin = serving_node("edge"), serving_node("twin")
    serving_node("twin")
    Node.objects.all().update(profile=profile())
    plan = ("--base-model", "base/tiny", "--num-labels", "3")
    code, out, err = run("estimate", *plan, "--min-speedup", "1.2", "--on", "edge", "--tokens", "64")
    assert code == 0, err
    assert "On edge, 1 x 64 tokens: " in out and "1.20 times as fast as the dense model" in " ".join(out.split())
    answer = run("estimate", *plan, "--sparsity", "0.9", "--on", edge.id, "--rows", "8", "--json")[1]
    assert (answer["plan"]["time"]["rows"], answer["plan"]["time"]["tokens"]) == (8, 128)
    code, _, err = run("estimate", *plan, "--max-latency-ms", "1e-6", "--on", twin.id)
    assert code == 1 and "can't be met: the best is" in err
    for wrong, words in (
        (("--min-speedup", "2"), "on: a serving node"),
        (("--sparsity", "0.9", "--on", "nowhere"), "no serving node nowhere"),
        (("--sparsity", "0.9", "--on", "twin"), "2 nodes named twin"),
        (("--sparsity", "0.9", "--rows", "2"), "name a node"),
    ):
        code, _, err = run("estimate", *plan, *wrong)
        assert code and words in " ".join(err.split())


def test_watch_shows_a_job_to_its_end(signed_in: None, run: Run, owner: Person, light_base: ModelVersion) -> None:
    dataset = str(rows_dataset(owner.workspace).id)
    base = ("submit", "--dataset", dataset, "--base-model", "base/tiny", "--sparsity", "0.8")
    job = run(*base, "--json")[1]
    timer = threading.Timer(0.5, lambda: owner.client.post(f"/api/v1/jobs/{job['id']}/cancel"))
    timer.start()
    code, out, err = run("watch", job["id"])
    timer.join()
    assert code == 1
    assert f"Job {job['id']} cancelled." in out
    assert "No worker is online" in err
    assert run("watch", "00000000-0000-0000-0000-000000000000")[0] == 1


def test_watch_interrupted(
    signed_in: None, run: Run, owner: Person, light_base: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = str(rows_dataset(owner.workspace).id)
    job = run("submit", "--dataset", dataset, "--base-model", "base/tiny", "--sparsity", "0.8", "--json")[1]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    code, _, err = run("watch", job["id"])
    assert code == cli.INTERRUPTED
    assert f"pst watch {job['id']}" in err
    assert Dataset.objects.get().jobs.get().state == "queued"


def test_pull(signed_in: None, run: Run, owner: Person, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sparse").mkdir(parents=True)
    (source / "sparse" / "index.json").write_text("{}")
    (source / "model.safetensors").write_bytes(b"dense")
    first = publish_folder(source, workspace=owner.workspace, name="intents", kind=ModelKind.SPARSE)
    (source / "config.json").write_text("{}")
    second = publish_folder(source, workspace=owner.workspace, name="intents", kind=ModelKind.SPARSE)
    folder = tmp_path / "pulled"

    code, out, err = run("pull", "acme/intents@v1", str(folder))
    assert code == 0, err
    assert first.commit in out
    assert (folder / "model.safetensors").read_bytes() == b"dense"
    assert (folder / "manifest.json").is_file()
    (folder / "model.safetensors").write_bytes(b"other")
    code, answer, _ = run("pull", "acme/intents", str(folder), "--json")
    assert (code, answer["commit"], answer["version"]) == (0, second.commit, 2)
    assert (folder / "model.safetensors").read_bytes() == b"dense"
    assert not [path for path in folder.rglob("*") if ".pulling" in path.parts or path.suffix == ".part"]

    run("pull", "acme/intents@latest", str(tmp_path / "compact"), "--compact")
    assert (tmp_path / "compact" / "sparse" / "index.json").is_file()
    assert not (tmp_path / "compact" / "model.safetensors").exists()
    for absent in ("acme/intents@v9", "acme/none", "else/intents"):
        code, _, err = run("pull", absent, str(tmp_path / "none"))
        assert code == 1
        assert err.startswith("error: ")


def test_a_pulled_version_is_signed_by_the_platform(
    live_server: LiveServer, owner: Person, run: Run, tmp_path: Path, settings: Any
) -> None:
    assert run("login", live_server.url, "--token", owner.token)[0] == 0
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    version = publish_folder(source, workspace=owner.workspace, name="intents", kind=ModelKind.SPARSE)
    key, folder = signing.public_key()["public_key"], tmp_path / "pulled"
    pull = ("pull", "acme/intents", str(folder))
    assert run(*pull)[0] == 0

    # Another key: either its owner changed it, or somebody else answers.
    settings.SIGNING_KEY = base64.b64encode(bytes(range(32))).decode()
    other = signing.public_key()["public_key"]
    code, _, err = run(*pull)
    assert code == cli.FAILED
    assert f"signs with the key {other}; when you signed in it was {key}." in err
    assert run("login", live_server.url, "--token", owner.token)[0] == 0
    code, _, err = run(*pull)  # a version from before the change
    assert code == cli.FAILED
    assert f"manifest.sig is no signature over manifest.json by the key {other}" in err
    assert run(*pull, "--signing-key", key)[0] == 0
    settings.SIGNING_KEY = ""

    signature = Path(default_storage.path(blob_name(version.files.get(path="manifest.sig").blob_id)))
    signature.chmod(0o644)
    size = signature.stat().st_size  # a file of another size is not sent to its end
    for altered in (base64.b64encode(bytes(64)), b"nonsense", b""):
        signature.write_bytes(altered.ljust(size))
        code, _, err = run("pull", "acme/intents", str(tmp_path / "altered"), "--signing-key", key)
        assert code == cli.FAILED
        assert "manifest.sig is no signature" in err
        assert not (tmp_path / "altered" / "config.json").exists()
    code, _, err = run(*pull, "--signing-key", "c2hvcnQ=")
    assert code == cli.USAGE
    assert "is no signing key" in err


def test_local_commands_are_the_library_s(run: Run, tmp_path: Path) -> None:
    code, _, err = run("report", str(tmp_path))
    assert code == 1
    assert "report.json" in err
