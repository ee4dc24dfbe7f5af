"""What the node serves now: a name for each deployment, a loaded version behind it, and who still uses it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pst_serve.batching import Batcher
from pst_serve.engine import LoadedModel

log = logging.getLogger(__name__)


@dataclass
class Version:
    """A loaded version. ``users`` counts the names that point at it and the requests that it is answering."""

    repo: str
    number: int
    commit: str
    batcher: Batcher
    users: int


@dataclass
class ModelCache:
    """Thread-safe. A version that a name no longer points at answers what it was asked before, and is then dropped."""

    _names: dict[str, Version] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, name: str, version: Version) -> None:
        """Let ``name`` mean ``version`` from now on: one step, between two requests."""
        with self._lock:
            old = self._names.get(name)
            if old is version:
                return
            version.users += 1
            self._names[name] = version
            if old is not None:
                self._leave(old)

    def remove(self, name: str) -> None:
        with self._lock:
            old = self._names.pop(name, None)
            if old is not None:
                self._leave(old)

    def take(self, repo: str, commit: str) -> Version | None:
        """The loaded version of that commit, whatever name it has, with its taker as a user."""
        with self._lock:
            found = next((v for v in self._names.values() if (v.repo, v.commit) == (repo, commit)), None)
            if found is not None:
                found.users += 1
            return found

    def give_back(self, version: Version) -> None:
        with self._lock:
            self._leave(version)

    def names(self) -> dict[str, Version]:
        with self._lock:
            return dict(self._names)

    @contextmanager
    def use(self, name: str) -> Iterator[Version | None]:
        """The version behind the name, kept loaded until the end of the block; None for an unknown name."""
        with self._lock:
            version = self._names.get(name)
            if version is not None:
                version.users += 1
        try:
            yield version
        finally:
            if version is not None:
                self.give_back(version)

    def _leave(self, version: Version) -> None:
        version.users -= 1
        if version.users == 0:
            log.info("%s v%d has answered its last request and is dropped", version.repo, version.number)
            version.batcher.close()


def load(repo: str, number: int, commit: str, model: LoadedModel) -> Version:
    """A version with its caller as the first user."""
    return Version(repo, number, commit, Batcher(model, f"{repo}@{commit[:8]}"), users=1)
