"""Makes docs/screenshots: the stack of `make up`, the sample data, two real jobs on MiniLM, a browser, both themes.

PYTHONPATH=platform:workers:deploy:. python -m tests.browser.screenshots [--epochs 4] [--folder docs/screenshots]

With --whole FOLDER every page is also kept there at full length, as wide as a desktop and as a telephone, in both
themes: for looking at. With --data FOLDER the platform's data is kept there, and what is there already is pictured
without running the jobs again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from embedded.bootstrap import ROOT
from embedded.stack import Stack
from pst_client.client import Platform
from tests.browser.conftest import DESKTOP, FLAGS, TELEPHONE, chromium

PASSWORD = "a long enough passphrase"
BASE = "base/minilm-l6"
JOBS = {"support desk, 90 %": 0.9, "support desk, 75 %": 0.75}
PARTS = {"report-masks": "Where weights stay", "report-wrong": "Rows that it got wrong"}
"""Pictures of a part of the report: name and heading."""
TEXT = "It's been nine days and the tracking page still says label created. Has it even left the warehouse?"


def prepare(platform: Platform, epochs: float) -> tuple[str, list[str]]:
    """The id of the sample data set, and of two finished jobs on it; the first one's model is deployed."""
    done = [job for job in platform.jobs.find(ordering="created_at")["results"] if job["state"] == "succeeded"]
    if len(done) == len(JOBS):
        return done[0]["dataset"]["id"], [job["id"] for job in done]
    dataset = platform.datasets.wait(platform.datasets.create_sample()["id"])["id"]
    settings = {"epochs": epochs, "dense_epochs": 2}
    jobs = []
    for name, sparsity in JOBS.items():
        target = {"sparsity": sparsity}
        job = platform.jobs.submit(
            dataset=dataset, base_model=BASE, target=target, settings=settings, name=name, model_name="support-desk"
        )
        jobs.append(job["id"])
        for _ in platform.jobs.follow(job["id"]):
            pass
        state = platform.jobs.get(job["id"])
        if state["state"] != "succeeded":
            raise SystemExit(f"{name}: {state['state']}: {state['error']}")
    platform.models.move_alias("acme/support-desk", "production", version=1)
    deployment = platform.serving.deploy(model="acme/support-desk", revision="production")
    while not platform.serving.deployment(deployment["id"])["ready"]:
        time.sleep(0.5)
    return dataset, jobs


def measure(stack: Stack) -> None:
    """Have the serving node measure itself, so that times can be planned, however busy this machine is."""
    environment = os.environ | {"SPARSEWRIGHT_CACHE_DIR": str(stack.folder / "serve")}
    subprocess.run([sys.executable, "-m", "pst_serve", "--measure"], env=environment, check=True)


def forget_nodes(page: Page) -> None:
    """The nodes of an earlier start on the same data, which had other tokens."""
    page.get_by_text("online", exact=True).first.wait_for()
    buttons = page.get_by_role("table", name="Nodes").get_by_role("button", name="Forget")
    for left in range(buttons.count(), 0, -1):
        buttons.first.click()
        page.get_by_role("dialog").get_by_role("button", name="Forget").click()
        expect(buttons).to_have_count(left - 1)


def take(page: Page, url: str, folder: Path, whole: Path | None, dataset: str, jobs: list[str]) -> None:
    """One picture of each page, in each theme."""
    pages = {
        "datasets": "datasets",
        "upload": "datasets/new",
        "dataset": f"datasets/{dataset}",
        "new-job": f"jobs/new?dataset={dataset}",
        "jobs": "jobs",
        "job": f"jobs/{jobs[-1]}",
        "report": f"jobs/{jobs[-1]}/report",
        "compare": f"jobs/compare?jobs={','.join(jobs)}",
        "models": "models",
        "model": "models/acme/support-desk",
        "serving": "serving",
        "playground": "serving/playground",
        "settings": "settings",
        "members": "settings?tab=members",
        "limits": "settings?tab=limits",
        "audit": "settings?tab=audit",
    }
    for name, path in pages.items():
        page.goto(f"{url}/w/acme/{path}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_load_state("networkidle")
        if name == "playground":
            page.get_by_role("textbox", name="Text", exact=True).fill(TEXT)
            page.get_by_role("button", name="Ask").click()
            page.get_by_test_id("probabilities").wait_for()
        if name == "serving":
            forget_nodes(page)
        for theme, button in (("light", "Switch to light"), ("dark", "Switch to dark")):
            if page.get_by_role("button", name=button).count():
                page.get_by_role("button", name=button).click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(600)
            page.screenshot(path=folder / f"{name}-{theme}.png")
            if name == "report":
                for part, heading in PARTS.items():
                    page.get_by_role("heading", name=heading).scroll_into_view_if_needed()
                    page.get_by_role("heading", name=heading).evaluate("node => node.scrollIntoView()")
                    page.mouse.wheel(0, -80)  # from under the bar at the top
                    page.wait_for_timeout(300)
                    page.screenshot(path=folder / f"{part}-{theme}.png")
            for size in (TELEPHONE, DESKTOP) if whole else ():
                page.set_viewport_size(size)  # type: ignore[arg-type]
                page.wait_for_timeout(400)
                page.screenshot(path=whole / f"{name}-{size['width']}-{theme}.png", full_page=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--whole", type=Path)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    for folder in filter(None, (options.folder, options.whole)):
        folder.mkdir(parents=True, exist_ok=True)
    data = options.data or Path(tempfile.mkdtemp(prefix="sw-shots-"))
    with Stack(data) as stack, sync_playwright() as playwright:
        with Platform(stack.url) as visitor:
            if stack.needs_owner():
                me = visitor.accounts.setup(code=stack.setup_code, username="olga", password=PASSWORD, workspace="acme")
            else:
                me = visitor.accounts.sign_in(username="olga", password=PASSWORD)
            made = visitor.accounts.create_token(name="t", role="owner", workspace="acme", csrf_token=me["csrf_token"])
        with Platform(stack.url, made["token"]) as platform:
            measure(stack)
            dataset, jobs = prepare(platform, options.epochs)
        flags = FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else [])
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        page = browser.new_page(viewport=DESKTOP, locale="en-GB")
        page.set_default_timeout(60_000)
        page.goto(stack.url)
        page.get_by_label("User name").fill("olga")
        page.get_by_role("textbox", name="Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", level=1, name="Jobs").wait_for()
        take(page, stack.url, options.folder, options.whole, dataset, jobs)
        browser.close()


if __name__ == "__main__":
    main()
