"""A real Chromium against the real web tier: the built frontend, served by Django's own views."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, Response, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from embedded.bootstrap import ROOT

FLAGS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
]
PATIENCE = 20_000  # milliseconds; a busy machine is no fault
WCAG = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]
AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP = {"width": 1280, "height": 900}
TELEPHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    """The Chromium that CHROMIUM names, which must be there, or else the machine's own."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    return next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )


@dataclass
class Tab:
    """A page of the browser, with everything that it complained about."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    shots: Path | None = None
    traffic: deque[str] = field(default_factory=lambda: deque(maxlen=40))

    def hear(self, message: ConsoleMessage) -> None:
        # Chromium itself writes a line for every answer of 400 and above; those that are faults are heard below.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.complaints.append(f"{message.type}: {message.text}")

    def asked(self, request: Request) -> None:
        self.traffic.append(f"{request.method} {request.url}")

    def answered(self, response: Response) -> None:
        self.traffic.append(f"  {response.status} {response.request.method} {response.url}")
        if response.status >= 500 or (response.status == 404 and "/assets/" in response.url):
            self.complaints.append(f"{response.status} from {response.url}")

    def failed(self, request: Request) -> None:
        self.traffic.append(f"  {request.failure} {request.method} {request.url}")

    def story(self) -> str:
        """What the page shows and what it asked for last."""
        try:
            shown = self.page.locator("body").inner_text(timeout=2_000)
        except Error as error:
            shown = f"nothing that can be read: {error}"
        return "\n".join([self.page.url, shown, "", *self.traffic])

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def check(self, name: str) -> None:
        """The page fits a desktop's and a telephone's width, and axe, where npm has installed it, finds nothing that
        keeps people out. Pictures are kept where BROWSER_SHOTS names a folder."""
        for size in (TELEPHONE, DESKTOP):
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
            self.page.wait_for_timeout(150)
            wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}: the page is {wide} pixels wider than {size['width']}"
            if AXE.is_file() and size is TELEPHONE:
                self.page.evaluate(AXE.read_text())
                found = self.page.evaluate(f"axe.run(document, {{runOnly: {WCAG}, resultTypes: ['violations']}})")
                wrong = [(item["id"], item["nodes"][0]["html"][:300]) for item in found["violations"]]
                assert not wrong, f"{name} at {size['width']}: {wrong}"
            if self.shots is not None:
                self.page.screenshot(path=self.shots / f"{name}-{size['width']}.png", full_page=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure says what the page showed: on a machine that is far away nobody can look at it."""
    report = yield
    tab = getattr(item, "funcargs", {}).get("tab")
    if report.when == "call" and report.failed and isinstance(tab, Tab):
        report.sections.append(("the page", tab.story()))
    return report


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("No Chromium: install the package chromium, or name one in CHROMIUM")
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs an event loop in this thread, in which Django refuses its database unless told otherwise.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        running = playwright.chromium.launch(executable_path=program, args=flags)
        yield running
        running.close()


@contextmanager
def open_tab(browser: Browser, address: str) -> Iterator[Tab]:
    """A tab of its own in the platform at ``address``; in the end nothing may have been complained about."""
    if not (settings.FRONTEND_DIR / "index.html").is_file():
        pytest.skip(f"The frontend is not built: no index.html in {settings.FRONTEND_DIR}")
    folder = os.environ.get("BROWSER_SHOTS")
    context = browser.new_context(viewport=DESKTOP, locale="en-GB")  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    opened = Tab(page=page, address=address, shots=Path(folder) if folder else None)
    page.on("console", opened.hear)
    page.on("pageerror", lambda error: opened.complaints.append(f"uncaught: {error}"))
    page.on("request", opened.asked)
    page.on("response", opened.answered)
    page.on("requestfailed", opened.failed)
    yield opened
    # Leave the application first: a poll in flight must not meet an emptied database.
    page.goto("about:blank")
    context.close()
    assert opened.complaints == []


@pytest.fixture
def tab(live_server: LiveServer, browser: Browser) -> Iterator[Tab]:
    with open_tab(browser, live_server.url) as opened:
        yield opened


def sign_in(tab: Tab, username: str, password: str = "correct horse battery") -> None:
    tab.open("/")
    tab.page.get_by_label("User name").fill(username)
    tab.page.get_by_role("textbox", name="Password").fill(password)
    tab.page.get_by_role("button", name="Sign in").click()
    expect(tab.page.get_by_role("heading", level=1, name="Jobs")).to_be_visible()
