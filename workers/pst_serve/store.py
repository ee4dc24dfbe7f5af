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

from pst_client import manifest
from pst_client.contract import FileRef, Manifest

log = logging.getLogger(__name__)

UNUSED_KEPT = 3
"""Versions that are kept although nothing serves them, so that going back to one needs no download."""


class AlreadyRunning(RuntimeError):
    """Another node uses the same cache folder."""


class Store:
    """``folder/versions/<commit>`` are whole and checked; ``folder/staging`` holds what is being pulled."""

    def __init__(self, folder: Path, *, endpoint: str, token: str) -> None:
        self._folder = folder
        self._endpoint = endpoint
        self._token = token
        disable_progress_bars()

    def open(self) -> None:
        """Take the folder and clear what a broken pull left. Raises :class:`AlreadyRunning`."""
        (self._folder / "versions").mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise AlreadyRunning(
                f"Another serving node uses {self._folder}: give each a SPARSEWRIGHT_CACHE_DIR of its own."
            ) from None

    def close(self) -> None:
        """Leave the folder to others."""
        self._lock.close()

    def fetch(self, repo: str, commit: str, verifying: Callable[[], object]) -> tuple[Path, Manifest]:
        """The version's folder, pulled unless it is here. Every file is checked against the manifest, and the manifest
        against the commit; what the server's listing says is not trusted. ``verifying`` is called before the check.

        Raises :class:`pst_client.errors.Damaged`, or what the Hub's client raises.
        """
        final = self._folder / "versions" / commit
        if final.is_dir():
            verifying()
            return final, self._checked(final, commit)
        staging = self._folder / "staging" / commit
        self._pull(repo, commit, staging, [manifest.MANIFEST])
        listed = manifest.read(staging, commit=commit)
        self._pull(repo, commit, staging, [glob.escape(file.path) for file in needed(listed)])
        verifying()
        try:
            self._checked(staging, commit)
        except Exception:
            shutil.rmtree(staging)  # the next try must not find the damage again
            raise
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the Hub client's own notes
        staging.replace(final)
        return final, listed

    def tidy(self, used: Iterable[str]) -> None:
        """Delete all but the newest few of the versions that nothing uses."""
        commits = set(used)
        unused = [path for path in (self._folder / "versions").iterdir() if path.name not in commits]
        for path in sorted(unused, key=lambda path: path.stat().st_mtime, reverse=True)[UNUSED_KEPT:]:
            log.info("deleting version %s, which nothing uses", path.name)
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
