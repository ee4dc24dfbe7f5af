"""The built frontend, as the web tier serves it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from django.test import Client
from whitenoise.compress import main as compress

pytestmark = pytest.mark.django_db
SCRIPT = b"export const answer = 42;\n" * 100


@pytest.fixture
def browser(tmp_path: Path, settings: Any) -> Client:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Sparsewright</title>")
    (tmp_path / "assets" / "index-a1b2c3.js").write_bytes(SCRIPT)
    compress(["--quiet", str(tmp_path / "assets")])
    settings.FRONTEND_DIR = settings.WHITENOISE_ROOT = tmp_path
    return Client()


def content(answer: Any) -> bytes:
    return b"".join(cast(Iterable[bytes], answer.streaming_content))


def test_a_file_is_sent_compressed_and_kept_for_ever(browser: Client) -> None:
    answer = browser.get("/assets/index-a1b2c3.js", headers={"Accept-Encoding": "gzip, br"})
    assert (answer.status_code, answer["Content-Encoding"]) == (200, "gzip")
    assert "immutable" in answer["Cache-Control"] and answer["Content-Type"].startswith("text/javascript")
    assert "Access-Control-Allow-Origin" not in answer and "script-src 'self'" in answer["Content-Security-Policy"]
    assert gzip.decompress(content(answer)) == SCRIPT
    assert content(browser.get("/assets/index-a1b2c3.js")) == SCRIPT


def test_every_address_of_the_router_gets_the_page(browser: Client) -> None:
    for address in ("/", "/w/acme/jobs", "/w/acme/models/acme/desk"):
        answer = browser.get(address)
        assert (answer.status_code, answer["Cache-Control"]) == (200, "no-cache")
        assert b"<title>Sparsewright</title>" in content(answer)


def test_a_file_of_an_older_build_is_not_the_page(browser: Client) -> None:
    answer = browser.get("/assets/index-0ld.js")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path, settings: Any) -> None:
    settings.FRONTEND_DIR, settings.WHITENOISE_ROOT = tmp_path / "nowhere", None
    answer = Client().get("/")
    assert answer.status_code == 503 and b"make frontend" in answer.content
