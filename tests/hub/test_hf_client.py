"""The real huggingface_hub and transformers against a live server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi, HfFileSystem, ModelCard, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from hub.accounts.actor import actor_of_user
from hub.registry.api import hf, hf_lists
from hub.registry.models import ModelVersion
from hub.registry.services.aliases import move_alias
from tests.factories.accounts import Person, person
from tests.factories.jobs import base_model
from tests.factories.registry import files, published

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]  # test_hf_api.py runs on both


@dataclass
class Hub:
    """A live server with two versions of acme/tickets; ``production`` is the first."""

    endpoint: str
    owner: Person
    first: ModelVersion
    second: ModelVersion
    api: HfApi
    cache: Path

    def download(self, path: str, **options: object) -> Path:
        return Path(
            hf_hub_download(
                "acme/tickets", path, endpoint=self.endpoint, token=self.owner.token, cache_dir=self.cache, **options
            )
        )

    def snapshot(self, **options: object) -> Path:
        return Path(
            snapshot_download(
                "acme/tickets", endpoint=self.endpoint, token=self.owner.token, cache_dir=self.cache, **options
            )
        )


@pytest.fixture
def server(live_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    owner = person("olga", workspace="acme")
    first = published(owner.workspace, contents=files(**{"notes.md": b"first"}))
    second = published(owner.workspace, contents=files(**{"notes.md": b"second"}))
    move_alias(actor=actor_of_user(owner.user), model=first.model, name="production", version=first)
    endpoint = f"{live_server.url}/hf"
    yield Hub(endpoint, owner, first, second, HfApi(endpoint=endpoint, token=owner.token), tmp_path / "cache")


def test_download_by_every_kind_of_revision(server: Hub) -> None:
    for revision, expected in {
        None: b"second",
        "main": b"second",
        "latest": b"second",
        "v2": b"second",
        "production": b"first",
        "v1": b"first",
        server.first.commit: b"first",
    }.items():
        path = server.download("notes.md", revision=revision)
        assert path.read_bytes() == expected
        assert path.parent.name == (server.first if expected == b"first" else server.second).commit


def test_a_cached_file_is_not_fetched_again(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = server.download("sparse/model.sparse.safetensors")
    assert path.read_bytes() == bytes(range(256)) * 40
    sent = []
    monkeypatch.setattr(
        hf, "send", lambda request, *a, real=hf.send, **k: sent.append(request.method) or real(request, *a, **k)
    )
    assert server.download("sparse/model.sparse.safetensors") == path
    assert sent in ([], ["HEAD"])


def test_snapshot_is_whole_and_exact(server: Hub) -> None:
    folder = server.snapshot(revision="production")
    assert folder.name == server.first.commit
    manifest = json.loads((folder / "manifest.json").read_bytes())
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {item["path"] for item in manifest["files"]} | {"manifest.json", "manifest.sig"}
    for item in manifest["files"]:
        assert hashlib.sha256((folder / item["path"]).read_bytes()).hexdigest() == item["sha256"]
    partial = server.snapshot(revision="v2", allow_patterns=["sparse/*"])
    assert {path.name for path in partial.rglob("*") if path.is_file()} == {"index.json", "model.sparse.safetensors"}


def test_a_moved_alias_is_followed(server: Hub) -> None:
    assert (server.snapshot(revision="production") / "notes.md").read_bytes() == b"first"
    move_alias(
        actor=actor_of_user(server.owner.user), model=server.first.model, name="production", version=server.second
    )
    assert (server.snapshot(revision="production") / "notes.md").read_bytes() == b"second"


def test_errors_are_the_clients_own(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(EntryNotFoundError) as absent:
        server.download("added_tokens.json")
    assert not isinstance(absent.value, LocalEntryNotFoundError)
    with pytest.raises(RevisionNotFoundError):
        server.download("config.json", revision="staging")
    with pytest.raises(RevisionNotFoundError):
        server.api.model_info("acme/tickets", revision="refs/pr/1")
    with pytest.raises(RepositoryNotFoundError):
        server.api.model_info("acme/none")
    with pytest.raises(RepositoryNotFoundError):
        server.api.model_info("tickets")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("acme/tickets", "config.json", endpoint=server.endpoint, token=False, cache_dir=tmp_path)
    stranger = person("oscar", workspace="elsewhere")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(
            "acme/tickets", "config.json", endpoint=server.endpoint, token=stranger.token, cache_dir=tmp_path
        )
    with pytest.raises(HfHubHTTPError) as wrong:
        server.api.model_info("acme/tickets", token="sw_u_wrong")
    assert wrong.value.response.status_code == 401 and not isinstance(wrong.value, RepositoryNotFoundError)
    assert not server.api.repo_exists("acme/none") and server.api.repo_exists("acme/tickets")
    assert server.api.file_exists("acme/tickets", "config.json")
    assert not server.api.file_exists("acme/tickets", "pytorch_model.bin")
    assert server.api.revision_exists("acme/tickets", "production")
    assert not server.api.revision_exists("acme/tickets", "staging")


def test_model_info_refs_and_whoami(server: Hub) -> None:
    info = server.api.model_info("acme/tickets", revision="production", files_metadata=True)
    assert (info.id, info.sha, info.private) == ("acme/tickets", server.first.commit, True)
    assert info.siblings is not None and info.last_modified is not None
    sizes = {item.rfilename: item.size for item in info.siblings}
    assert sizes["notes.md"] == 5 and sizes["labels.txt"] == 0
    assert info.pipeline_tag == "text-classification" and info.card_data is not None
    assert info.card_data.eval_results is not None
    refs = server.api.list_repo_refs("acme/tickets", include_pull_requests=True)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {
        "main": server.second.commit,
        "latest": server.second.commit,
        "production": server.first.commit,
    }
    assert {ref.name: ref.target_commit for ref in refs.tags} == {
        "v1": server.first.commit,
        "v2": server.second.commit,
    }
    who = server.api.whoami()
    assert who["name"] == "olga" and [item["name"] for item in who["orgs"]] == ["acme"]
    with pytest.raises(HfHubHTTPError):
        server.api.whoami(token="sw_u_wrong")
    card = ModelCard.load(server.download("README.md"))
    assert card.data.library_name == "transformers"


@pytest.mark.parametrize("page", [1000, 3])
def test_tree_and_paths_info(server: Hub, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "TREE_PAGE", page)
    listed = {item.path: item for item in server.api.list_repo_tree("acme/tickets", recursive=True, expand=True)}
    everything = {*files(), "notes.md", "README.md", "report.json", "manifest.json", "manifest.sig"}
    assert {path for path, item in listed.items() if isinstance(item, RepoFile)} == everything
    assert [path for path, item in listed.items() if isinstance(item, RepoFolder)] == ["sparse"]
    notes = listed["notes.md"]
    assert isinstance(notes, RepoFile) and notes.lfs is not None and notes.last_commit is not None
    assert (notes.size, notes.lfs.sha256) == (6, hashlib.sha256(b"second").hexdigest())
    top = {item.path for item in server.api.list_repo_tree("acme/tickets")}
    assert "sparse" in top and "sparse/index.json" not in top
    inside = {item.path for item in server.api.list_repo_tree("acme/tickets", "sparse", revision="v1")}
    assert inside == {"sparse/index.json", "sparse/model.sparse.safetensors"}
    with pytest.raises(EntryNotFoundError):
        list(server.api.list_repo_tree("acme/tickets", "none"))
    found = server.api.get_paths_info(
        "acme/tickets", ["notes.md", "sparse", "none"], revision="production", expand=True
    )
    assert {item.path for item in found} == {"notes.md", "sparse"}
    assert set(server.api.list_repo_files("acme/tickets")) == everything


def test_file_system(server: Hub) -> None:
    system = HfFileSystem(endpoint=server.endpoint, token=server.owner.token, skip_instance_cache=True)
    names = system.ls("acme/tickets", detail=False)
    assert "acme/tickets/notes.md" in names and "acme/tickets/sparse" in names
    assert system.cat("acme/tickets/notes.md") == b"second"
    assert system.cat("acme/tickets@production/notes.md") == b"first"
    assert system.info("acme/tickets/sparse/model.sparse.safetensors")["size"] == 10240
    with system.open("acme/tickets/sparse/model.sparse.safetensors", "rb", block_size=1000) as stream:
        stream.seek(5000)
        assert stream.read(10) == (bytes(range(256)) * 40)[5000:5010]
    assert system.glob("acme/tickets/**/*.json") == [
        "acme/tickets/config.json",
        "acme/tickets/manifest.json",
        "acme/tickets/report.json",
        "acme/tickets/sparse/index.json",
        "acme/tickets/tokenizer.json",
    ]
    assert not system.exists("acme/tickets/none.txt")


def test_a_node_pulls_what_it_shall_serve_and_nothing_else(server: Hub, tmp_path: Path) -> None:
    from tests.factories.serving import serving_node

    node = serving_node("s1")
    options = {"endpoint": server.endpoint, "token": node.secret, "cache_dir": tmp_path}
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download("acme/tickets", **options)
    server.owner.client.post("/api/v1/deployments", {"model": "acme/tickets", "revision": "production"})
    (wanted,) = node.beat()
    folder = Path(snapshot_download(wanted["repo"], revision=wanted["commit"], **options))
    assert (folder / "notes.md").read_bytes() == b"first"
    published(server.owner.workspace, "secret")
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download("acme/secret", **options)


def test_a_broken_download_is_resumed(server: Hub) -> None:
    """What 0.36 does: a part on disk, and a Range from its end."""
    url = f"{server.endpoint}/acme/tickets/resolve/main/sparse/model.sparse.safetensors"
    headers = {"Authorization": f"Bearer {server.owner.token}"}
    whole = bytes(range(256)) * 40
    head = httpx.head(url, headers=headers)
    assert head.headers["etag"] == f'"{hashlib.sha256(whole).hexdigest()}"'
    assert head.headers["content-length"] == "10240" and head.headers["x-repo-commit"] == server.second.commit
    rest = httpx.get(url, headers={**headers, "Range": "bytes=4000-"})
    assert (rest.status_code, rest.headers["content-range"]) == (206, "bytes 4000-10239/10240")
    assert rest.content == whole[4000:]


BUILD_THEN_LOAD = """
import json, sys
from pathlib import Path
import torch
from transformers import (AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig,
                          BertForSequenceClassification, BertTokenizer)

torch.set_num_threads(1)
torch.manual_seed(0)
folder = Path(sys.argv[1])
folder.mkdir()
(folder / "words").write_text("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]))
tokenizer = BertTokenizer(str(folder / "words"))
(folder / "words").unlink()
config = BertConfig(vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                    id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
model = BertForSequenceClassification(config).eval()
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
print("built", flush=True)
sys.stdin.readline()  # until it is published
expected, tokens = model.state_dict(), tokenizer(["hello world", "world"], padding=True, return_tensors="pt")
for revision in sys.argv[2:]:
    loaded, info = AutoModelForSequenceClassification.from_pretrained(
        "acme/tiny", revision=revision, output_loading_info=True)
    assert not any(info.values()), info
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in expected.items())
    assert AutoConfig.from_pretrained("acme/tiny", revision=revision).id2label == {0: "no", 1: "yes"}
    own = AutoTokenizer.from_pretrained("acme/tiny", revision=revision)(
        ["hello world", "world"], padding=True, return_tensors="pt")
    assert torch.equal(own["input_ids"], tokens["input_ids"]) and own["input_ids"][0].tolist() == [2, 5, 6, 3]
    with torch.no_grad():
        assert torch.equal(loaded(**own).logits, model(**tokens).logits)
print("loaded", flush=True)
"""


def test_transformers_from_pretrained(server: Hub, tmp_path: Path) -> None:
    """One process builds a tiny random BERT, waits until it is published, and loads it back bit for bit."""
    folder = tmp_path / "model"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SPARSEWRIGHT_"))},
        "HF_ENDPOINT": server.endpoint,
        "HF_TOKEN": server.owner.token,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (
        (tmp_path / "errors").open("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", BUILD_THEN_LOAD, str(folder), "main", "v1"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        built = process.stdout.readline()
        assert built == "built\n", Path(errors.name).read_text()[-3000:]
        published(server.owner.workspace, "tiny", contents={path.name: path.read_bytes() for path in folder.iterdir()})
        out, _ = process.communicate("published\n", timeout=120)
        assert (process.returncode, out) == (0, "loaded\n"), Path(errors.name).read_text()[-3000:]


def test_models_are_listed_and_found(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spam", "mood"):
        published(server.owner.workspace, name=name)
    base_model()
    theirs = person("oscar", workspace="elsewhere")
    published(theirs.workspace, name="secret")
    monkeypatch.setattr(hf_lists, "PAGE", 2)  # the client follows the pages

    def ids(**options: Any) -> list[str]:
        return [model.id for model in server.api.list_models(**options)]

    assert sorted(ids()) == ["acme/mood", "acme/spam", "acme/tickets", "base/tiny-bert"]
    assert ids()[:2] == ["base/tiny-bert", "acme/mood"] and ids(limit=1) == ["base/tiny-bert"]
    assert ids(search="TICK") == ids(search="acme/tick") == ["acme/tickets"]
    assert sorted(ids(author="acme", sort="created_at")) == ["acme/mood", "acme/spam", "acme/tickets"]
    assert ids(author="elsewhere") == ids(search="secret") == ids(gated=True) == ids(apps="vllm") == []
    assert ids(filter="base-model") == ids(filter=["license:apache-2.0", "bert"]) == ["base/tiny-bert"]
    assert len(ids(pipeline_tag="text-classification")) == 3 and ids(filter="text-classification", limit=1)
    (found,) = server.api.list_models(search="tickets", full=True, cardData=True, fetch_config=True)
    assert (found.sha, found.author, found.private) == (server.second.commit, "acme", True)
    assert found.siblings and "notes.md" in {file.rfilename for file in found.siblings}
    assert found.card_data and found.config is not None
    (brief,) = server.api.list_models(search="tickets", expand=["lastModified"])
    assert brief.last_modified == server.second.created_at.replace(microsecond=brief.last_modified.microsecond)
    assert brief.siblings is None and brief.tags is None
    other = HfApi(endpoint=server.endpoint, token=theirs.token)
    assert sorted(model.id for model in other.list_models()) == ["base/tiny-bert", "elsewhere/secret"]
    with pytest.raises(HfHubHTTPError, match="num_parameters"):
        ids(num_parameters="min:1B")
    with pytest.raises(HfHubHTTPError):
        list(HfApi(endpoint=server.endpoint, token=False).list_models())


def test_versions_are_commits(server: Hub, outsider: Person) -> None:
    found = server.api.list_repo_commits("acme/tickets", formatted=True)
    assert [item.commit_id for item in found] == [server.second.commit, server.first.commit]
    assert (found[0].title, found[0].authors) == ("Version 2", ["acme"])
    (first,) = server.api.list_repo_commits("acme/tickets", revision="production")
    assert first.commit_id == server.first.commit
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=server.endpoint, token=outsider.token).list_repo_commits("acme/tickets")
    with pytest.raises(RevisionNotFoundError):
        server.api.list_repo_commits("acme/tickets", revision="v9")


def test_the_hub_s_own_command_lists_models_and_files(server: Hub, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.endpoint,
        "HF_TOKEN": server.owner.token,
        "HF_HOME": str(tmp_path),
    }

    def ls(*arguments: str) -> str:
        command = [sys.executable, "-c", "from huggingface_hub.cli.hf import main; main()", "models", "ls", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = json.loads(ls("--search", "tick", "--author", "acme", "--format", "json"))
    assert [model["id"] for model in found] == ["acme/tickets"] and "acme" in ls()
    assert "notes.md" in ls("acme/tickets")
