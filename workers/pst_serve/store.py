"""Versions on this node's disk: pulled over the Hub protocol, checked against the manifest, kept by commit."""

from __future__ import annotations

import fcntl
import glob
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.utils.tqdm import disable_progress_bars

from pst_client import layout, manifest
from pst_client.contract import FileRef, Manifest
from pst_client.errors import Damaged

log = logging.getLogger(__name__)

UNUSED_KEPT = 3
"""Versions that are kept although nothing serves them, so that going back to one needs no download."""


class AlreadyRunning(RuntimeError):
    """Another node uses the same cache folder."""


class Store:
    """``folder/versions/<commit>`` are whole and checked; ``folder/staging`` holds what is being pulled."""

    def __init__(self, folder: Path, *, endpoint: str, token: str) -> None:
        self._folder = folder
        self._versions, self._staging = folder / "versions", folder / "staging"
        self._endpoint = endpoint
        self._token = token
        disable_progress_bars()

    def open(self) -> None:
        """Take the folder and clear what broken pulls left. Raises :class:`AlreadyRunning`."""
        self._versions.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise AlreadyRunning(
                f"Another serving node uses {self._folder}: give each a SPARSEWRIGHT_CACHE_DIR of its own."
            ) from None
        shutil.rmtree(self._staging, ignore_errors=True)

    def close(self) -> None:
        """Leave the folder to others."""
        self._lock.close()

    def fetch(self, repo: str, commit: str, verifying: Callable[[], object]) -> tuple[Path, Manifest]:
        """The version's folder, pulled unless it is here. Every file is checked against the manifest, and the manifest
        against the commit; what the server's listing says is not trusted. ``verifying`` is called before the check.

        What is damaged is deleted: a version that lay here is pulled again at once, and the next try of a pull finds
        none of the damage. Raises :class:`pst_client.errors.Damaged`, or what the Hub's client raises.
        """
        final = self._versions / commit
        if final.is_dir():
            verifying()
            try:
                return final, self._checked(final, commit)
            except Damaged as error:
                log.warning("version %s is damaged on this disk and is pulled again: %s", commit, error)
                shutil.rmtree(final)
        staging = self._staging / commit
        try:
            self._pull(repo, commit, staging, [layout.MANIFEST])
            listed = manifest.read(staging, commit=commit)
            if problem := layout.problem([file.path for file in listed.files]):
                raise Damaged(problem)
            self._pull(repo, commit, staging, [glob.escape(file.path) for file in needed(listed)])
            verifying()
            self._checked(staging, commit)
        except Damaged:
            shutil.rmtree(staging)
            raise
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the Hub client's own notes
        staging.replace(final)
        return final, listed

    def tidy(self, used: Iterable[str]) -> None:
        """Delete all but the newest few of the versions that are not used, and the pulls that were broken off."""
        commits = set(used)
        unused = [path for path in self._versions.iterdir() if path.name not in commits]
        broken = [path for path in self._staging.glob("*") if path.name not in commits]
        old = sorted(unused, key=lambda path: path.stat().st_mtime, reverse=True)[UNUSED_KEPT:]
        for path in [*old, *broken]:
            log.info("deleting %s/%s, which nothing uses", path.parent.name, path.name)
            shutil.rmtree(path)

    def _pull(self, repo: str, commit: str, folder: Path, patterns: list[str]) -> None:
        snapshot_download(
            repo,
            revision=commit,
            endpoint=self._endpoint,
            token=self._token,
            local_dir=folder,
            allow_patterns=patterns,
        )

    def _checked(self, folder: Path, commit: str) -> Manifest:
        listed = manifest.read(folder, commit=commit)
        manifest.verify(folder, needed(listed))
        return listed


def needed(listed: Manifest) -> list[FileRef]:
    """The files that serving needs: without the dense weights where there is the compact file."""
    return [file for file in listed.files if not manifest.is_spared(file.path, listed)]
