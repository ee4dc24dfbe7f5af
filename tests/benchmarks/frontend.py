"""What the browser UI costs, in a real Chromium on the stack of `make up`: first load, bytes of JavaScript, and frames
a second while a live view of 100,000 points is zoomed.

    PYTHONPATH=platform:workers:deploy:. python -m tests.benchmarks.frontend [--points 100000] [--write]

``--write`` puts the result into docs/benchmarks/frontend.md. The frontend must be built (`make frontend`); CHROMIUM
names another browser than the one that is found.
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import platform as machine
import statistics
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from embedded.bootstrap import ROOT
from embedded.stack import Stack
from pst_client.api.worker import Leased
from pst_client.client import Platform
from pst_client.contract import Event, EventBatch, EventType, NodeRegistration

DIST = ROOT / "frontend" / "dist"
PAGE = ROOT / "docs" / "benchmarks" / "frontend.md"
PASSWORD = "a long enough passphrase"
ROWS = "text,label\n" + "".join(f"row {n} of {'ab'[n % 2]},{'ab'[n % 2]}\n" for n in range(40))
BATCH = 500
LOADS = 7
FRAMES = 300

ZOOM = """async ([frames]) => {
  const charts = [...document.querySelectorAll(".u-over")];
  const box = charts[0].getBoundingClientRect();
  const place = { clientX: box.left + box.width / 3, clientY: box.top + 20 };
  const wheel = (deltaY) => charts[0].dispatchEvent(
    new WheelEvent("wheel", { deltaY, ctrlKey: true, bubbles: true, cancelable: true, ...place }));
  const times = [];
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  for (let n = 0; n < frames; n++) {
    wheel(n % 60 < 30 ? -12 : 12);
    times.push(await frame());
  }
  return times.slice(1).map((time, at) => time - times[at]);
}"""


@dataclass
class Load:
    """One visit with an empty cache."""

    paint_ms: float
    ready_ms: float
    scripts: dict[str, int]  # name -> bytes


def gzipped(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 6))


def visit(browser: Browser, url: str, selector: str, state: str | None) -> Load:
    context = browser.new_context(storage_state=state)
    page = context.new_page()
    scripts: dict[str, int] = {}

    def hear(response: Response) -> None:
        if response.url.endswith(".js"):
            scripts[response.url.rsplit("/", 1)[1]] = 0

    page.on("response", hear)
    page.goto(url)
    page.wait_for_selector(selector)
    ready = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? performance.now()")
    context.close()
    return Load(paint, ready, {name: gzipped(DIST / "assets" / name) for name in scripts})


def loads(browser: Browser, url: str, selector: str, state: str | None = None) -> list[Load]:
    visit(browser, url, selector, state)  # the server's first answer to anything is not what is measured
    return [visit(browser, url, selector, state) for _ in range(LOADS)]


def long_job(platform: Platform, node: Platform, base: str, rows: Path, points: int) -> str:
    """The id of a running job whose record holds ``points`` progress events."""
    dataset = platform.datasets.wait(platform.datasets.create(rows, text_column="text", label_column="label")["id"])
    job = platform.jobs.submit(dataset=dataset["id"], base_model=base, target={"sparsity": 0.9}, queue="bench")
    registered = node.node.register(
        NodeRegistration(name="bench", kind="worker", version="1", queues=["bench"], hardware={})
    )
    claim = node.worker.claim(UUID(job["id"]), registered.node_id)
    lease = Leased(node.http, UUID(job["id"]), claim.lease.token)
    begin, seq = datetime.now(UTC) - timedelta(seconds=points / 10), claim.next_seq
    phase = {"phase": "train", "index": 2, "of": 7}
    events = [Event(seq=seq, type=EventType.PHASE, at=begin, data=phase)]
    for step in range(1, points + 1):
        data = {
            "phase": "train",
            "step": step,
            "total_steps": points,
            "loss": 2 / math.sqrt(step) + math.sin(step * 12.9898) * 0.05,
            "sparsity": min(0.9, step / points),
            "learning_rate": 1e-3 * (1 - step / points),
            "metric": 0.9,
            "eta_seconds": 1.0,
        }
        at = begin + timedelta(seconds=step / 10)
        events.append(Event(seq=seq + step, type=EventType.PROGRESS, at=at, data=data))
    for start in range(0, len(events), BATCH):
        lease.events(EventBatch(events=events[start : start + BATCH]))
        if start % (20 * BATCH) == 0:
            lease.heartbeat(timeout=10)
    return str(job["id"])


def zoom(page: Page, url: str, points: int) -> tuple[float, list[float]]:
    """Seconds until every point is drawn, and the milliseconds between frames while all four charts are zoomed."""
    page.goto(url)
    begin = datetime.now(UTC)
    page.wait_for_selector(f"[data-points='{points}']", state="attached", timeout=240_000)
    seconds = (datetime.now(UTC) - begin).total_seconds()
    page.wait_for_timeout(1500)
    intervals: list[float] = page.evaluate(ZOOM, [FRAMES])
    return seconds, intervals


def signed_in(browser: Browser, url: str) -> tuple[BrowserContext, str]:
    """A context in which olga is signed in, and its cookies as a file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(url)
    page.get_by_label("User name").fill("olga")
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1, name="Jobs").wait_for()
    state = tempfile.mkstemp(suffix=".json")[1]
    context.storage_state(path=state)
    page.close()
    return context, state


def summary(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def report(found: dict[str, list[Load]], drawn: float, intervals: list[float], points: int, browser: str) -> str:
    scripts = sorted(DIST.glob("assets/*.js"))
    total = sum(gzipped(path) for path in scripts)
    ordered = sorted(intervals)
    p95 = ordered[int(0.95 * len(ordered))]
    lines = [
        "# The browser UI, measured",
        "",
        "Made by `python -m tests.benchmarks.frontend --write`: the stack of `make up` on this machine's loopback,",
        f"an empty cache at each of {LOADS} visits. {machine.system()} {machine.machine()}, {os.cpu_count()} cores,",
        f"load {os.getloadavg()[0]:.1f} while it ran, {browser} (headless, no GPU), {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| first load | first paint, ms | page ready, ms | scripts | JavaScript, gzip kB |",
        "|---|---|---|---|---|",
    ]
    for name, visits in found.items():
        size = sum(visits[0].scripts.values()) / 1000
        paint, ready = summary([v.paint_ms for v in visits]), summary([v.ready_ms for v in visits])
        lines.append(f"| {name} | {paint} | {ready} | {len(visits[0].scripts)} | {size:.0f} |")
    lines += [
        "",
        f"Median, least and most. Wanted: under 1,000 ms and at most 300 kB. All {len(scripts)} scripts of every page",
        f"together: {total / 1000:.0f} kB gzip.",
        "",
        f"| live view of {points:,} points in each of three charts | |",
        "|---|---|",
        f"| from the address to all points drawn | {drawn:.1f} s |",
        f"| frames a second while zooming (median, {FRAMES} frames) | {1000 / statistics.median(intervals):.0f} |",
        f"| frames a second, whole run | {1000 * len(intervals) / sum(intervals):.0f} |",
        f"| slowest of 95 % of the frames | {p95:.1f} ms |",
        "",
        "Each frame turns the wheel once with Ctrl held, which draws all four charts anew. Wanted: above 50.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/frontend.md")
    options = parser.parse_args()
    from tests.browser.conftest import FLAGS, chromium
    from tests.e2e.tiny import write_model

    folder = Path(tempfile.mkdtemp(prefix="sw-bench-"))
    (folder / "rows.csv").write_text(ROWS)
    with Stack(folder / "stack") as stack, sync_playwright() as playwright:
        with Platform(stack.url) as visitor:
            me = visitor.accounts.setup(code=stack.setup_code, username="olga", password=PASSWORD, workspace="acme")
            csrf = me["csrf_token"]
            user = visitor.accounts.create_token(name="b", role="owner", workspace="acme", csrf_token=csrf)["token"]
            token = visitor.accounts.create_token(name="n", kind="worker", workspace="acme", csrf_token=csrf)["token"]
        with Platform(stack.url, user) as platform, Platform(stack.url, token) as node:
            base = platform.models.upload_base_model("tiny", write_model(folder / "tiny"))["repo"]
            job = long_job(platform, node, base, folder / "rows.csv", options.points)
        flags = FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else [])
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        context, state = signed_in(browser, stack.url)
        found = {
            "sign in": loads(browser, stack.url, "h1"),
            "list of jobs": loads(browser, f"{stack.url}/w/acme/jobs", "main table", state),
            "a job": loads(browser, f"{stack.url}/w/acme/jobs/{job}", "main h1", state),
        }
        drawn, intervals = zoom(context.new_page(), f"{stack.url}/w/acme/jobs/{job}", options.points)
        text = report(found, drawn, intervals, options.points, f"Chromium {browser.version}")
        browser.close()
    print(text)
    if options.write:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
