"""Fixtures of the whole suite: real Valkey, real PostgreSQL where asked for, people and their clients."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from embedded.services import Postgres, Valkey
from hub.core import parts
from tests import settings as test_settings
from tests.factories.accounts import Person, node_secret, person

# No test is timed: the suite's processes share few cores.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    """The catalogues as they stand: what set-up compiled may be older."""
    if not hasattr(config, "workerinput"):
        folder = Path(__file__).resolve().parents[1] / "platform" / "locale"
        arguments = ["compile", "--domain", "django", "--directory", str(folder)]
        subprocess.run([sys.executable, "-m", "babel.messages.frontend", "--quiet", *arguments], check=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whole stacks and browsers first: they take longest, and the end of a run must not wait for one of them. On
    PostgreSQL only what speaks to the database: the rest says the same on SQLite."""
    items.sort(key=lambda item: not {"e2e", "browser"} & {mark.name for mark in item.iter_markers()})
    if test_settings.USE_POSTGRES:
        same = [item for item in items if item.get_closest_marker("any_database") or not _speaks_to_database(item)]
        items[:] = [item for item in items if item not in set(same)]
        config.hook.pytest_deselected(items=same)


def _speaks_to_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "live_server"} & set(getattr(item, "fixturenames", ()))
    return bool(fixtures) or item.get_closest_marker("django_db") is not None


@pytest.fixture(scope="session", autouse=True)
def valkey() -> Iterator[Valkey]:
    server = test_settings.VALKEY
    server.start()
    yield server
    server.stop()
    shutil.rmtree(test_settings.TEST_DIR, ignore_errors=True)


@pytest.fixture(autouse=True)
def parts_at_work(valkey: Valkey) -> None:
    """As if every part of the platform had been at work for long: none of them runs here."""
    for part in parts.PARTS:
        cache.set(f"part:{part}", [time.time(), 0.0], timeout=None)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[None]:
    """Before the test database is made: start PostgreSQL where the suite runs on it."""
    server = Postgres(test_settings.TEST_DIR / "pg") if test_settings.USE_POSTGRES else None
    if server is not None:
        server.start()
    yield
    if server is not None:
        server.stop()


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def owner(db: None) -> Person:
    return person("olga", workspace="acme")


@pytest.fixture
def outsider(db: None) -> Person:
    return person("oscar", workspace="elsewhere")


@pytest.fixture
def node_token(db: None) -> str:
    """The secret of an installation-wide token of a worker."""
    return node_secret("test-node")


@pytest.fixture
def serve_token(db: None) -> str:
    """The secret of an installation-wide token of a serving node."""
    return node_secret("test-serve", kind="serve")
