"""The whole way in a browser, on the stack of `make up`: a file is mended, two jobs run, a node follows an alias."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from embedded.stack import Stack
from pst_client.client import Platform
from tests.browser.conftest import Tab, open_tab, sign_in
from tests.e2e.tiny import ROWS, write_model, write_rows

pytestmark = [pytest.mark.browser, pytest.mark.e2e, pytest.mark.timeout(600)]
PASSWORD = "a long enough passphrase"
SOON, LATER = 60_000, 240_000
"""Milliseconds: for what the platform does at once, and for a whole small job on a busy machine."""


@pytest.fixture(scope="module")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), environment={"OMP_NUM_THREADS": "1"}) as running:
        yield running


def upload(page: Page, file: Path) -> None:
    page.get_by_role("link", name="Data sets", exact=True).first.click()
    page.get_by_role("link", name="Upload a data set").click()
    page.locator("input[type=file]").first.set_input_files(file)
    expect(page.get_by_role("table", name="The first rows")).to_be_visible()
    page.get_by_role("button", name="Upload and validate").click()


def follow_job(tab: Tab) -> None:
    """Submit what the form holds, and watch until the version is published."""
    page = tab.page
    page.get_by_role("button", name="Submit the job").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    expect(page.locator("[data-state=running], [data-state=succeeded]").first).to_be_visible(timeout=SOON)
    expect(page.locator("[data-state=succeeded]")).to_be_visible(timeout=LATER)
    expect(page.get_by_text("Published", exact=True)).to_be_visible()
    expect(page.get_by_test_id("report")).to_be_visible()


def ask(page: Page, text: str) -> str:
    """The playground's answer: its heading, which names deployment and version."""
    page.get_by_role("link", name="Serving", exact=True).click()
    page.get_by_role("link", name="Try it").click()
    page.get_by_role("textbox", name="Text", exact=True).fill(text)
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_test_id("probabilities").get_by_text("track_order")).to_be_visible(timeout=SOON)
    return page.get_by_role("heading", name=re.compile(r" v\d+$")).inner_text()


def test_from_a_file_to_a_node_that_follows(stack: Stack, browser: Browser, tmp_path: Path) -> None:
    with Platform(stack.url) as visitor:
        me = visitor.accounts.setup(code=stack.setup_code, username="olga", password=PASSWORD, workspace="acme")
        made = visitor.accounts.create_token(name="t", role="owner", workspace="acme", csrf_token=me["csrf_token"])
    with Platform(stack.url, made["token"]) as platform:
        base = platform.models.upload_base_model("tiny", write_model(tmp_path / "tiny"))["repo"]
    rows = write_rows(tmp_path / "rows.csv")
    broken = tmp_path / "broken.csv"
    lines = rows.read_text().splitlines()
    broken.write_text("\n".join([*lines[:4], ",track_order", *lines[4:]]) + "\n")

    with open_tab(browser, stack.url) as tab:
        page = tab.page
        sign_in(tab, "olga", PASSWORD)
        upload(page, broken)
        expect(page.locator("[data-state=invalid]")).to_be_visible(timeout=SOON)
        expect(page.get_by_test_id("errors").get_by_text("broken.csv:5:text")).to_be_visible()
        upload(page, rows)
        expect(page.locator("[data-state=ready]")).to_be_visible(timeout=SOON)
        page.get_by_role("link", name="Train on it").click()
        page.get_by_role("combobox", name="Base model").click()
        page.get_by_role("option", name=f"({base})").click()
        page.get_by_label("Epochs", exact=True).fill("3")
        page.get_by_label("Published as model").fill("intents")
        expect(page.get_by_test_id("estimate").get_by_text("90.0 %").first).to_be_visible()
        follow_job(tab)
        tab.check("stack-job")

        page.get_by_role("link", name="Clone with changes").click()
        page.get_by_label("Sparsity, exactly").fill("75")
        follow_job(tab)
        page.get_by_role("link", name="The whole report").click()
        expect(page.get_by_role("heading", name="Measures")).to_be_visible()
        tab.check("stack-report")
        page.get_by_role("link", name="Jobs", exact=True).first.click()
        page.get_by_role("link", name="Compare jobs").click()
        page.get_by_role("combobox", name="Jobs").click()
        for share in ("75.0 %", "90.0 %"):
            page.get_by_role("option", name=re.compile(re.escape(share))).click()
        page.keyboard.press("Escape")
        differences = page.get_by_role("table", name="What differs")
        expect(differences.get_by_text("target.sparsity")).to_be_visible()
        expect(page.locator("[data-lines='2']").first).to_be_attached()
        tab.check("stack-compare")

        page.get_by_role("link", name="Models", exact=True).click()
        page.get_by_role("link", name="acme/intents").click()
        page.get_by_role("combobox", name="Version").first.click()
        page.get_by_role("option", name="v1", exact=True).click()
        page.get_by_role("button", name="Set the alias").click()
        page.get_by_role("dialog").get_by_role("button", name="Set the alias").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("button", name="Deploy").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("combobox", name="Version").click()
        page.get_by_role("option", name="follows every new version of production (now v1)").click()
        dialog.get_by_role("button", name="Deploy").click()
        expect(page.get_by_text("1 of 1 nodes answer with v1")).to_be_visible(timeout=SOON)
        assert ask(page, ROWS[0][0]) == "acme/intents v1"

        page.get_by_role("link", name="Models", exact=True).click()
        page.get_by_role("link", name="acme/intents").click()
        page.get_by_role("combobox", name="Version").first.click()
        page.get_by_role("option", name="v2", exact=True).first.click()
        page.get_by_role("button", name="Move from v1 to v2").click()
        expect(page.get_by_role("dialog")).to_contain_text("intents (on 1 node)")
        page.get_by_role("dialog").get_by_role("button", name="Move from v1 to v2").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("link", name="Serving", exact=True).click()
        expect(page.get_by_text("1 of 1 nodes answer with v2")).to_be_visible(timeout=SOON)
        assert ask(page, ROWS[0][0]) == "acme/intents v2"
        tab.check("stack-playground")

        page.get_by_role("link", name="Models", exact=True).click()
        page.get_by_role("link", name="acme/intents").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download .tar").click()
        with tarfile.open(download.value.path()) as archive:
            archive.extractall(tmp_path / "model", filter="data")
    folder = next((tmp_path / "model").rglob("config.json")).parent
    code = (
        "import sys; from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
        "model, tokenizer = M.from_pretrained(sys.argv[1]), T.from_pretrained(sys.argv[1])\n"
        "print(model(**tokenizer(['where is it'], return_tensors='pt')).logits.shape[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "3"
