"""The registry: models, versions, aliases, files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pst_client.api import API, Json, given

if TYPE_CHECKING:
    from pst_client.client import Http

UPLOAD_SECONDS = 3600.0


class Models:
    """``repo`` is ``workspace/name``; ``revision`` an alias, ``main``, ``v3``, ``3`` or a whole commit."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def base_models(self) -> list[Json]:
        found: list[Json] = self._http.json("GET", f"{API}/base-models")
        return found

    def upload_base_model(self, name: str, folder: Path, *, workspace: str | None = None) -> Json:
        """Upload config.json, the safetensors and the tokenizer's files that lie in ``folder``."""
        with ExitStack() as stack:
            paths = [path for path in sorted(folder.iterdir()) if path.suffix in {".json", ".safetensors", ".txt"}]
            files = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in paths]
            data = given(name=name, workspace=workspace)
            return self._http.json("POST", f"{API}/base-models", files=files, data=data, timeout=UPLOAD_SECONDS)  # type: ignore[no-any-return]

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
