"""The registry: models, versions, aliases, files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pst_client.api import API, UPLOAD_SECONDS, Json, given

if TYPE_CHECKING:
    from pst_client.client import Http


class Models:
    """``repo`` is ``workspace/name``; ``revision`` an alias, ``main``, ``v3``, ``3`` or a whole commit."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def base_models(self) -> list[Json]:
        """Every pretrained model that a job of this token can start from."""
        return list(self._http.pages(f"{API}/base-models"))

    def upload_base_model(
        self,
        name: str,
        folder: Path,
        *,
        workspace: str | None = None,
        title: str | None = None,
        license: str | None = None,
    ) -> Json:
        """Upload config.json, safetensors weights and tokenizer files of a folder as a base model."""
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        with ExitStack() as stack:
            files = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in paths]
            data = given(name=name, workspace=workspace, title=title, license=license)
            # Not sent twice: the open files have been read.
            return self._http.mapping("POST", f"{API}/base-models", files=files, data=data, timeout=UPLOAD_SECONDS)

    def find(self, **filters: str | int | None) -> Json:
        return self._http.mapping("GET", f"{API}/models", params=given(**filters))

    def get(self, repo: str) -> Json:
        return self._http.mapping("GET", f"{API}/models/{quote(repo)}")

    def versions(self, repo: str) -> Json:
        return self._http.mapping("GET", f"{API}/models/{quote(repo)}/versions")

    def version(self, repo: str, number: int) -> Json:
        return self._http.mapping("GET", f"{API}/models/{quote(repo)}/versions/{number}")

    def move_alias(self, repo: str, alias: str, *, version: int) -> Json:
        return self._http.mapping(
            "PUT", f"{API}/models/{quote(repo)}/aliases/{quote(alias, safe='')}", json={"version": version}
        )

    def commit(self, repo: str, revision: str) -> str:
        """The commit that a revision stands for now. Hub protocol."""
        answer = self._http.mapping("GET", f"/hf/api/models/{quote(repo)}/revision/{quote(revision, safe='')}")
        return str(answer["sha"])

    def signing_key(self) -> str:
        """The public key with which the platform signs manifests now: base64 of its 32 bytes."""
        return str(self._http.mapping("GET", f"{API}/signing-key")["public_key"])

    def download(
        self,
        repo: str,
        commit: str,
        path: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        received: Callable[[int], object] | None = None,
    ) -> None:
        """One file of a version to ``target``, resumed where a former call stopped. Hub protocol."""
        self._http.download(
            f"/hf/{quote(repo)}/resolve/{commit}/{quote(path)}", target, sha256=sha256, size=size, received=received
        )
