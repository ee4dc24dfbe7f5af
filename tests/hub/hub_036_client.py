"""Runs inside an environment that has huggingface_hub 0.36.2 (see test_hf_recorded.py): does what users do, and prints
every request it made as one JSON object. Arguments: endpoint, token, folder for the cache."""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import requests

ENDPOINT, TOKEN, CACHE = sys.argv[1:]
KEPT = ("range", "accept-encoding", "content-type", "if-none-match")
ANSWERED = ("x-error-code", "content-range", "link")
log: list[dict[str, object]] = []
operation = ""
send = requests.Session.send


def recorded(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
    response = send(session, request, **options)
    parts = urlsplit(request.url or "")
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = request.body.decode() if isinstance(request.body, bytes) else request.body
    log.append(
        {
            "operation": operation,
            "method": request.method,
            "path": parts.path.removeprefix(urlsplit(ENDPOINT).path) + (f"?{parts.query}" if parts.query else ""),
            "headers": {name: headers[name] for name in KEPT if name in headers},
            "token": "authorization" in headers,
            "body": body,
            "status": response.status_code,
            "answer": {name: response.headers[name] for name in ANSWERED if name in response.headers},
            "commit": response.headers.get("x-repo-commit"),
            "etag": response.headers.get("etag"),
        }
    )
    return response


requests.Session.send = recorded  # type: ignore[method-assign]

import huggingface_hub  # noqa: E402
from huggingface_hub import HfApi, HfFileSystem, hf_hub_download, snapshot_download  # noqa: E402
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: E402

assert huggingface_hub.__version__ == "0.36.2"
common = {"endpoint": ENDPOINT, "token": TOKEN, "cache_dir": CACHE}
api = HfApi(endpoint=ENDPOINT, token=TOKEN)

operation = "whoami"
assert api.whoami()["name"] == "olga"
operation = "model_info"
info = api.model_info("acme/tickets", files_metadata=True)
operation = "model_info of an alias"
first = api.model_info("acme/tickets", revision="production").sha
operation = "list_repo_refs"
assert {ref.name for ref in api.list_repo_refs("acme/tickets").branches} == {"main", "latest", "production"}
operation = "list_repo_tree"
assert any(item.path == "sparse/index.json" for item in api.list_repo_tree("acme/tickets", recursive=True, expand=True))
operation = "list_repo_tree of a folder"
assert len(list(api.list_repo_tree("acme/tickets", "sparse"))) == 2
operation = "get_paths_info"
assert [item.path for item in api.get_paths_info("acme/tickets", ["notes.md", "none"])] == ["notes.md"]
operation = "file_exists"
assert not api.file_exists("acme/tickets", "tokenizer.model")
operation = "hf_hub_download"
assert Path(hf_hub_download("acme/tickets", "notes.md", **common)).read_bytes() == b"second"
operation = "hf_hub_download of an alias"
assert Path(hf_hub_download("acme/tickets", "notes.md", revision="production", **common)).read_bytes() == b"first"
operation = "hf_hub_download of a cached file"
hf_hub_download("acme/tickets", "notes.md", **common)
operation = "hf_hub_download resumed"
blobs = Path(CACHE) / "models--acme--tickets" / "blobs"
entry = next(item for item in info.siblings or [] if item.rfilename == "sparse/model.sparse.safetensors")
assert entry.lfs is not None
whole = bytes(range(256)) * 40
(blobs / f"{entry.lfs.sha256}.incomplete").write_bytes(whole[:4000])
assert Path(hf_hub_download("acme/tickets", entry.rfilename, **common)).read_bytes() == whole
operation = "snapshot_download of an alias"
folder = Path(snapshot_download("acme/tickets", revision="production", max_workers=1, **common))
assert folder.name == first and (folder / "sparse" / "index.json").exists()
operation = "HfFileSystem"
system = HfFileSystem(endpoint=ENDPOINT, token=TOKEN)
assert "acme/tickets/sparse" in system.ls("acme/tickets", detail=False)
assert system.cat("acme/tickets@production/notes.md") == b"first"
for operation, error, repo, revision in (
    ("a file that is not there", EntryNotFoundError, "acme/tickets", "main"),
    ("a revision that is not there", RevisionNotFoundError, "acme/tickets", "staging"),
    ("a repository that is not there", RepositoryNotFoundError, "acme/none", "main"),
):
    try:
        hf_hub_download(repo, "added_tokens.json", revision=revision, **common)
    except error:
        continue
    raise AssertionError(operation)
operation = "without a token"
try:
    hf_hub_download("acme/tickets", "config.json", **{**common, "token": False, "cache_dir": CACHE + "-2"})
except RepositoryNotFoundError:
    print(json.dumps(log))
else:
    raise AssertionError(operation)
