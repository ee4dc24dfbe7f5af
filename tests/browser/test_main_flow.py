"""What a new user does: make the first account, upload, mend, upload, submit; then watch a job and fetch its model."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from hub.datasets.models import Dataset
from hub.datasets.tasks import validate
from jobs.models import Job
from tests.browser.conftest import Tab, sign_in
from tests.factories.accounts import person
from tests.factories.jobs import base_model, queued_job, worker
from tests.factories.serving import serving_node
from tests.workers.scripted.made import whole

pytestmark = pytest.mark.browser

BAD = "text,label\nwhere is my parcel,shipping\n,shipping\nrefund please,\n"
GOOD = "text,label\n" + "".join(
    f"{text} {number},{label}\n"
    for number in range(30)
    for text, label in (("where is my parcel", "shipping"), ("I was charged twice for order", "billing"))
)
PASSWORD = "a long enough passphrase"


def choose(page: Page, path: Path) -> None:
    page.locator("input[type=file]").first.set_input_files(path)
    expect(page.get_by_role("table", name="The first rows")).to_be_visible()


def validated(page: Page) -> Dataset:
    """Do what the platform's Celery worker does with the data set that the page shows, and return it."""
    page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}$"))
    identity = page.url.rsplit("/", 1)[1]
    validate(identity)
    return Dataset.objects.get(pk=identity)


def test_from_the_first_run_to_a_queued_job(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    base_model()

    tab.open("/")
    expect(page.get_by_role("heading", name="First run")).to_be_visible()
    tab.check("setup")
    page.get_by_label("Setup code").fill("wrong")
    page.get_by_label("User name").fill("olga")
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_label("Workspace").fill("acme")
    page.get_by_role("button", name="Make the first account").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Setup code").fill("let-me-in")
    page.get_by_role("button", name="Make the first account").click()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    tab.check("jobs-empty")

    page.get_by_role("button", name="olga").or_(page.get_by_role("button", name="Account")).click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    tab.check("sign-in")
    sign_in(tab, "olga", PASSWORD)

    page.get_by_role("link", name="Data sets", exact=True).click()
    expect(page.get_by_text("No data sets yet")).to_be_visible()
    page.get_by_role("link", name="Upload a data set").click()
    bad = tmp_path / "rows.csv"
    bad.write_text(BAD)
    choose(page, bad)
    tab.check("upload")
    page.get_by_role("button", name="Upload and validate").click()
    assert validated(page).state == "invalid"
    errors = page.get_by_test_id("errors")
    expect(errors.get_by_text("rows.csv:3:text")).to_be_visible()
    expect(errors.get_by_text("rows.csv:4:label")).to_be_visible()
    expect(page.get_by_text("1 class; always guessing it")).to_be_visible()
    tab.check("dataset-invalid")

    page.get_by_role("link", name="Data sets", exact=True).first.click()
    page.get_by_role("link", name="Upload a data set").click()
    good = tmp_path / "mended.csv"
    good.write_text(GOOD)
    choose(page, good)
    page.get_by_role("button", name="Upload and validate").click()
    assert validated(page).state == "ready"
    expect(page.get_by_role("heading", name="Class balance")).to_be_visible()
    expect(page.get_by_role("table", name="Browse the rows").get_by_text("where is my parcel").first).to_be_visible()
    tab.check("dataset-ready")

    page.get_by_role("link", name="Data sets", exact=True).first.click()
    expect(page.get_by_role("link", name="rows")).to_be_visible()
    tab.check("datasets")
    page.get_by_role("link", name="mended").click()
    page.get_by_role("link", name="Train on it").click()
    estimate = page.get_by_test_id("estimate")
    expect(estimate.get_by_text("attention")).to_be_visible()
    expect(estimate.get_by_text("90.0 %").first).to_be_visible()
    page.get_by_label("Sparsity, exactly").fill("75")
    expect(estimate.get_by_text("75.0 %").first).to_be_visible()
    page.get_by_text("Bytes", exact=True).click()
    page.get_by_label("Bytes").last.fill("0.001")
    expect(estimate.get_by_text("This budget can't be met")).to_be_visible()
    tab.check("job-unreachable")
    page.get_by_label("Bytes").last.fill("100")
    expect(estimate.get_by_text("Nothing would be removed", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Submit the job")).to_be_disabled()
    page.get_by_text("Memory", exact=True).click()
    page.get_by_role("textbox", name="Memory").fill("33.6")
    expect(estimate.get_by_text("not pruned: embeddings, head, norms")).to_be_visible()
    expect(page.get_by_role("button", name="Prune structured")).to_have_count(0)
    estimate.get_by_role("button", name="Store them in 8 bits").click()
    expect(estimate.get_by_role("button", name="Store them in 8 bits")).to_have_count(0)
    tab.check("job-memory")
    page.reload()
    page.get_by_text("Sparsity", exact=True).first.click()
    page.get_by_role("button", name="All settings").click()
    page.get_by_label("update rank").fill("4")
    expect(estimate.get_by_text("No worker is online for the queue default")).to_be_visible()
    tab.check("job-form")
    page.get_by_role("button", name="Submit the job").click()

    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    expect(page.get_by_test_id("message")).to_contain_text("No worker is online")
    tab.check("job-queued")
    job = Job.objects.get()
    assert (job.state, job.target["sparsity"], job.settings["update_rank"]) == ("queued", 0.9, 4)

    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.locator("[data-state=cancelled]")).to_be_visible()
    assert Job.objects.get().state == "cancelled"


REPORT: dict[str, Any] = {
    "metrics": {"validation": {"accuracy": 0.92, "macro_f1": 0.91, "interval": [0.87, 0.96]}, "test": None},
    "dense": {"validation": {"accuracy": 0.94, "macro_f1": 0.935}, "test": None},
    "sparsity": {"target": 0.9, "reached": 0.9001},
    "params": {"total": 22_713_216, "nonzero": 13_100_000},
    "bytes": {"dense": 90_861_234, "sparse": 52_512_000},
    "seconds": {"dense": 21.4, "train": 48.9},
    "agreement": 0.97,
}


def test_a_job_is_watched_to_its_model_and_deployed(tab: Tab) -> None:
    page = tab.page
    owner = person("olga", workspace="acme")
    job = queued_job(owner)
    sign_in(tab, "olga")
    expect(page.get_by_role("link", name="first try")).to_be_visible()
    tab.check("jobs")
    page.get_by_role("link", name="first try").click()
    expect(page.get_by_test_id("message")).to_contain_text("No worker is online")

    gpu = worker("gpu-1")
    assert gpu.claim(job).status_code == 200
    expect(page.locator("[data-state=running]")).to_be_visible()
    begin, seq, batch = datetime.now(UTC) - timedelta(seconds=60), gpu.claim_answer["next_seq"], []

    def tell(second: float, type: str, **data: Any) -> None:
        nonlocal seq
        batch.append({"seq": seq, "type": type, "at": (begin + timedelta(seconds=second)).isoformat(), "data": data})
        seq += 1

    tell(0, "phase", phase="dense", index=1, of=7)
    tell(20, "phase", phase="train", index=2, of=7)
    for step in range(1, 31):
        tell(
            20 + step,
            "progress",
            phase="train",
            step=step,
            total_steps=40,
            loss=2.5 / step,
            sparsity=min(0.9, step / 30),
            learning_rate=0.001,
            metric=0.9,
            eta_seconds=10.0,
        )
        if step % 10 == 0:
            tell(
                20 + step,
                "metric",
                phase="train",
                step=step,
                name="accuracy",
                split="validation",
                value=0.5 + step / 75,
            )
    tell(51, "log", level="warning", message="the learning rate is high")
    assert gpu.events(job, *batch).status_code == 200

    expect(page.get_by_text("step 30 of 40")).to_be_visible()
    expect(page.locator("[data-points='30']").first).to_be_attached()
    expect(page.locator("[data-points='3']")).to_be_attached()
    expect(page.get_by_text("the learning rate is high")).to_be_visible()
    tab.check("job-running")
    page.get_by_role("button", name="Switch to dark").click()
    tab.check("job-running-dark")
    page.get_by_role("button", name="Switch to light").click()

    finish = gpu.success(job) | {"report": whole(REPORT)}
    assert gpu.finish(job, finish).status_code == 200
    report = page.get_by_test_id("report")
    expect(report.get_by_text("92.0 %")).to_be_visible()
    expect(report.get_by_text("52.5 MB")).to_be_visible()
    tab.check("job-done")

    page.get_by_role("link", name=re.compile(r" v1$")).click()
    expect(page.get_by_role("heading", name="Files of version 1")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="config.json").click()
    assert json.loads(download.value.path().read_text())["model_type"] == "bert"
    tab.check("model")

    node = serving_node("edge-1")
    page.get_by_role("button", name="Set the alias").click()
    page.get_by_role("dialog").get_by_role("button", name="Set the alias").click()
    expect(page.get_by_text("production → v1").or_(page.get_by_text("production", exact=True)).first).to_be_visible()
    page.get_by_role("button", name="Deploy").click()
    page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
    expect(page.get_by_role("heading", name="Deployments")).to_be_visible()
    node.hold("ready")
    expect(page.locator("article [data-state=ready]").first).to_be_visible()
    tab.check("serving")
    page.get_by_role("link", name="Models", exact=True).click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="acme/first-try"))
    expect(row).to_contain_text("92.0 %")
    expect(row).to_contain_text("Accuracy · dense 94.0 %")
    tab.check("models")


def test_a_job_is_paused_goes_on_fails_and_is_tried_again(tab: Tab) -> None:
    page = tab.page
    owner = person("olga", workspace="acme")
    job = queued_job(owner)
    sign_in(tab, "olga")
    page.get_by_role("link", name="first try").click()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("[data-state=paused]")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-state=queued]")).to_be_visible()

    gpu = worker("gpu-1")
    assert gpu.claim(job).status_code == 200
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_text("It pauses once its worker has saved a checkpoint.")).to_be_visible()
    assert gpu.heartbeat(job).json()["directive"] == "pause"
    page.get_by_role("button", name="Don't pause").click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    assert gpu.heartbeat(job).json()["directive"] == "continue"

    failed = {"outcome": "failed", "error": "Not even one row fits the memory."}
    assert gpu.finish(job, failed).status_code == 200
    expect(page.get_by_role("alert").filter(has_text="Not even one row fits the memory.")).to_be_visible()
    tab.check("job-failed")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("[data-state=queued]")).to_be_visible()
    job.refresh_from_db()
    assert job.state == "queued"


def test_another_workspace_is_out_of_reach(tab: Tab) -> None:
    page = tab.page
    owner = person("olga", workspace="acme")
    person("oscar", workspace="elsewhere")
    job = queued_job(owner)
    sign_in(tab, "oscar")
    tab.open(f"/w/elsewhere/jobs/{job.id}")
    expect(page.get_by_role("alert")).to_contain_text("no access")
    tab.open("/w/acme/jobs")
    expect(page.get_by_text("You are not in this workspace")).to_be_visible()


def test_a_token_is_shown_once_and_can_be_revoked(tab: Tab) -> None:
    page = tab.page
    person("olga", workspace="acme")
    sign_in(tab, "olga")
    page.get_by_role("link", name="Settings", exact=True).click()
    page.get_by_role("textbox", name="Name", exact=True).fill("laptop")
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_text("Copy it now")).to_be_visible()
    assert re.fullmatch(r"sw_u_[\w-]{43}", page.locator("pre").first.inner_text().strip())
    tab.check("settings")
    page.reload()
    expect(page.get_by_role("cell", name="laptop")).to_be_visible()
    expect(page.locator("pre")).to_have_count(0)
    row = page.get_by_role("row", name=re.compile("laptop"))
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("cell", name="laptop")).to_have_count(0)
