"""Beside the main flow: both languages, an upload taken up again, report, comparison, members, playground."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from hub.accounts.models import Role
from hub.datasets.models import Dataset, Upload
from hub.registry.models import Alias
from hub.serving.models import Node
from jobs.models import Job
from tests.browser.conftest import Tab, sign_in
from tests.factories.accounts import Person, person
from tests.factories.jobs import base_model, queued_job, ready_dataset, worker
from tests.factories.serving import Answering, profile, serving_node
from tests.workers.scripted.made import whole

pytestmark = pytest.mark.browser

HEADINGS = {"数据集": "datasets", "任务": "jobs", "模型": "models", "部署": "serving", "设置": "settings"}


def test_every_page_speaks_chinese(tab: Tab) -> None:
    page = tab.page
    person("olga", workspace="acme")
    tab.open("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="简体中文").click()
    expect(page.get_by_role("heading", name="登录")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    tab.check("sign-in-zh")
    page.reload()
    page.get_by_label("用户名").fill("olga")
    page.get_by_role("textbox", name="密码").fill("something else")
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("alert")).to_contain_text("用户名或密码不正确。")
    page.get_by_role("textbox", name="密码").fill("correct horse battery")
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("heading", level=1, name="任务")).to_be_visible()
    for heading, name in HEADINGS.items():
        page.get_by_role("navigation", name="主导航").get_by_role("link", name=heading, exact=True).click()
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()
        tab.check(f"{name}-zh")
        english = page.get_by_role("main").inner_text()
        assert not re.findall(r"\b(?:the|and|of|your|no|all)\b", english), english
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1, name="Settings")).to_be_visible()


def test_the_first_page_takes_few_requests(tab: Tab) -> None:
    page = tab.page
    queued_job(person("olga", workspace="acme"))
    sign_in(tab, "olga")
    page.goto("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(tab.address)))
    tab.open("/w/acme/jobs")
    expect(page.get_by_role("link", name="first try")).to_be_visible()
    scripts = [url for url in asked if url.endswith(".js")]
    assert 1 <= len(scripts) <= 4, scripts
    answers = [url.partition("?")[0] for url in asked if url.startswith("/api/")]
    assert sorted(answers) == ["/api/v1/jobs", "/api/v1/me"], "each is asked for once"


def test_an_upload_is_taken_up_after_a_reload(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    person("olga", workspace="acme")
    rows = tmp_path / "large.csv"
    rows.write_text("text,label\n" + "".join(f"where is parcel number {n:07d},{'ab'[n % 2]}\n" for n in range(600_000)))
    sign_in(tab, "olga")
    sent: list[str] = []

    def break_off(route: Route) -> None:
        # The first piece arrives; then the line is dead.
        if route.request.method == "PATCH":
            sent.append(route.request.url)
        if len(sent) > 1:
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v1/uploads/*", break_off)
    tab.open("/w/acme/datasets/new")
    page.locator("input[type=file]").first.set_input_files(rows)
    expect(page.get_by_role("table", name="The first rows")).to_be_visible()
    page.get_by_role("button", name="Upload and validate").click()
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    for _ in range(200):
        if len(sent) > 1:
            break
        page.wait_for_timeout(50)
    arrived = page.request.get(sent[0]).json()["offset"]
    assert arrived == 8 * 1024 * 1024 < rows.stat().st_size

    tab.open("/w/acme/datasets")
    page.unroute_all(behavior="wait")
    tab.open("/w/acme/datasets/new")
    stopped = page.get_by_test_id("unfinished")
    expect(stopped).to_contain_text("large.csv")
    tab.check("upload-unfinished")
    offsets: list[str] = []
    page.on("request", lambda request: offsets.append(request.headers.get("upload-offset", "")))
    page.locator("input[type=file]").first.set_input_files(rows)
    # Until the rows are shown the button may move away from under the pointer.
    expect(page.get_by_role("table", name="The first rows")).to_be_visible()
    page.get_by_role("button", name="Upload and validate").click()
    page.wait_for_url(re.compile(r"/datasets/[0-9a-f-]{36}$"))
    assert str(arrived) in offsets and "0" not in offsets
    [file] = Dataset.objects.get().files.all()
    assert (file.size, file.sha256) == (rows.stat().st_size, hashlib.sha256(rows.read_bytes()).hexdigest())
    assert not Upload.objects.exists()


def matrix(depth: int, kind: str, bins: int = 24) -> dict[str, Any]:
    counts = {"edges": [-0.2, 0.2], "all": [4, 40, 200, 40, 4], "kept": [4, 20, 5, 20, 4]}
    return {
        "name": f"bert.encoder.layer.{depth}.{kind}.weight",
        "group": "attention",
        "stack": "encoder",
        "depth": depth,
        "kind": kind,
        "shape": [384, 384],
        "kept": 14_000 + 900 * depth,
        "empty_rows": depth,
        "empty_columns": 0,
        "density": {"rows": [n / 200 for n in range(bins)], "columns": [0.1] * bins}
        | ({"cells": [[(a * b % 7) / 40 for a in range(bins)] for b in range(bins)]} if depth == 0 else {}),
        "weight": counts,
        "score": counts,
        "magnitude_overlap": {"jaccard": 0.4, "chance": 0.05, "shared": 0.6},
    }


def report(accuracy: float, size: int) -> dict[str, Any]:
    matrices = [matrix(depth, kind) for depth in range(4) for kind in ("attention.self.query", "intermediate.dense")]
    return {
        "primary": "accuracy",
        "metrics": {
            "validation": {"accuracy": accuracy, "macro_f1": accuracy - 0.01, "interval": [accuracy - 0.05, 0.97]},
            "test": None,
        },
        "dense": {"validation": {"accuracy": 0.94, "macro_f1": 0.93, "interval": [0.9, 0.97]}, "test": None},
        "sparsity": {"target": 0.9, "reached": 0.9},
        "params": {"total": 22_713_216, "nonzero": size // 4, "trainable": 900_000},
        "bytes": {"dense": 90_861_234, "sparse": size},
        "seconds": {"dense": 21.4, "train": 48.9},
        "agreement": 0.97,
        "confusion": {
            "split": "validation",
            "labels": ["billing", "returns", "shipping"],
            "matrix": [[20, 1, 0], [2, 18, 1], [0, 0, 22]],
        },
        "measures": {
            "quality": {
                "metric": "accuracy",
                "splits": {"validation": {"difference": accuracy - 0.94, "difference_interval": [-0.05, 0.01]}},
            },
            "time": {
                "engine": "the sparse engine",
                "threads": 2,
                "note": "Both models in turns.",
                "shapes": [
                    {
                        "rows": 1,
                        "tokens": 64,
                        "dense": {"p50_ms": 9.0},
                        "sparse": {"p50_ms": size / 10_000_000},
                        "speedup": 90_000_000 / size,
                        "interval": [80_000_000 / size, 99_000_000 / size],
                    }
                ],
            },
            "robustness": {
                "metric": "accuracy",
                "split": "validation",
                "rows": 60,
                "clean": {"dense": 0.94, "sparse": accuracy},
                "drop": {"dense": 0.04, "sparse": accuracy - 0.85},
                "kinds": {"typos": {"dense": {"value": 0.9}, "sparse": {"value": 0.85}}},
            },
        },
        "pictures": {
            "distributions": {"attention": {name: matrices[0][name] for name in ("weight", "score")}},
            "matrices": matrices,
        },
        "samples": [
            {
                "source": f"name[Aromi], area[{n}]",
                "references": ["Aromi is a pub."],
                "text": f"Text {n}",
                "dense": "Bar",
            }
            for n in range(1, 8)
        ],
        "errors": {
            "split": "validation",
            "count": 1,
            "rows": [{"row": 3, "text": "where is it", "gold": "billing", "predicted": "returns", "dense": "billing"}],
        },
    }


def finished_job(owner: Person, name: str, *, accuracy: float, size: int, **changes: Any) -> Job:
    """A job that a worker took through its training to a version."""
    job = queued_job(owner, name=name, **changes)
    gpu = worker(f"gpu-{name}")
    assert gpu.claim(job).status_code == 200
    begin, seq = datetime.now(UTC) - timedelta(seconds=60), gpu.claim_answer["next_seq"]
    events: list[dict[str, Any]] = [{"type": "phase", "data": {"phase": "train", "index": 1, "of": 7}}]
    for step in range(20):
        data = {"phase": "train", "step": step, "total_steps": 20, "loss": 2 / (step + 1), "sparsity": step / 20}
        events.append({"type": "progress", "data": data | {"learning_rate": 1e-3, "metric": accuracy}})
    stamped = [
        event | {"seq": seq + at, "at": (begin + timedelta(seconds=at)).isoformat()} for at, event in enumerate(events)
    ]
    assert gpu.events(job, *stamped).status_code == 200
    answered = gpu.finish(job, gpu.success(job) | {"report": whole(report(accuracy, size))})
    assert answered.status_code == 200, answered.content
    return job


def test_reports_are_read_compared_and_taken_along(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    owner = person("olga", workspace="acme")
    large = finished_job(owner, "large", accuracy=0.93, size=60_000_000)
    same_rows = {"dataset": str(large.dataset_id), "base_model": large.base_model.model.repo_id}
    changes = same_rows | {"target": {"sparsity": 0.95}}
    jobs = [large, finished_job(owner, "small", accuracy=0.91, size=20_000_000, **changes)]
    sign_in(tab, "olga")
    page.get_by_role("link", name="large").click()
    page.get_by_role("link", name="The whole report").click()
    expect(page.get_by_role("heading", name="Report of large")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("60 of 64 rows are right"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Density of the mask: by rows from 0.00 %"))).to_be_visible()
    page.get_by_role("combobox", name="Matrix").fill("layer.3.attention")
    page.get_by_role("option", name="bert.encoder.layer.3.attention.self.query.weight").click()
    expect(page.get_by_role("table", name="Rows that it got wrong").get_by_text("where is it")).to_be_visible()
    expect(page.get_by_text("Text 5")).to_be_visible()
    page.get_by_role("button", name="Next page").click()
    expect(page.get_by_text("Text 7")).to_be_visible()
    expect(page.get_by_text("Text 5")).to_have_count(0)
    expect(page).to_have_url(re.compile("page=2"))
    others = page.get_by_role("table", name="Quality against sparsity")
    expect(others.get_by_role("row", name=re.compile(r"small PST 90.0 % 91.0 % 86.0"))).to_be_visible()
    expect(
        page.get_by_role("img", name=re.compile("Accuracy against Sparsity: Dense: 94.0 % at 0.0 %"))
    ).to_be_visible()
    tab.check("report")
    page.get_by_role("button", name="Switch to dark").click()
    tab.check("report-dark")
    page.get_by_role("button", name="Switch to light").click()
    with page.expect_download() as table:
        page.get_by_role("button", name="Download as CSV").click()
    assert "Accuracy (validation),share,0.94,0.9,0.97,0.93" in table.value.path().read_text("utf-8-sig")
    with page.expect_download() as picture:
        page.get_by_role("button", name="Save Density of the mask as PNG").click()
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")

    held: list[Route] = []
    page.route(f"**/api/v1/jobs/{jobs[0].id}", lambda route: held.append(route))
    tab.open(f"/w/acme/jobs/compare?jobs={jobs[0].id}")
    expect(page.get_by_text("Pick at least two jobs")).to_be_visible()
    page.get_by_role("combobox", name="Jobs").fill("small")
    page.get_by_role("option", name=re.compile("small")).click()
    # A job that is still on its way stays picked.
    expect(page).to_have_url(re.compile(f"{jobs[0].id}.*{jobs[1].id}"))
    [late] = held
    late.continue_()
    expect(page.get_by_role("table", name="What differs").get_by_text("target.sparsity")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("small: 91.0 % at 20.0 MB"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile(r"\(1 × 64 tokens\): .*small: 91.0 % at 4.50 ×"))).to_be_visible()
    expect(page.get_by_role("img", name="Accuracy against target.sparsity")).to_be_visible()
    expect(page.locator("[data-lines='2']").first).to_be_attached()
    page.keyboard.press("Escape")
    sweep = tmp_path / "sweep.json"
    sweep.write_text("{}")
    page.get_by_label("Open a sweep.json").set_input_files(sweep)
    expect(page.get_by_text("sweep.json is not the result of pst sweep")).to_be_visible()
    rung = {"share": 1.0, "metric": 0.9, "interval": [0.8, 0.95], "bytes": 5_000_000, "sparsity": 0.9}
    trials = [{"id": "a", "values": {"update_rank": 4}, "state": "finished", "rungs": [rung], "error": None}]
    search = {"values": {"update_rank": [4]}}
    result = {"format": "sparsewright-sweep", "metric": "accuracy", "search": search, "trials": trials, "front": ["a"]}
    sweep.write_text(json.dumps(result))
    page.get_by_label("Open a sweep.json").set_input_files(sweep)
    expect(page.get_by_role("row", name=re.compile(r"4 on the front 100 % 90.0 %"))).to_be_visible()
    tab.check("compare")

    tab.open(f"/w/acme/jobs/{jobs[1].id}")
    page.get_by_role("link", name="Clone with changes").click()
    expect(page.get_by_text("The settings of small are filled in")).to_be_visible()
    expect(page.get_by_label("Sparsity, exactly")).to_have_value("95 %")
    page.get_by_role("button", name="The same from a terminal").click()
    expect(page.get_by_text("--sparsity 0.95")).to_be_visible()
    tab.check("job-clone")


def test_a_time_is_planned_on_a_node(tab: Tab) -> None:
    page = tab.page
    owner = person("olga", workspace="acme")
    ready_dataset(owner.workspace)
    base_model()
    sign_in(tab, "olga")
    tab.open("/w/acme/jobs/new")
    expect(page.get_by_text("of the prunable weights", exact=True)).to_be_visible()
    expect(page.get_by_text("Speed-up", exact=True)).to_have_count(0)
    node = serving_node("edge", workspace=owner.workspace)
    Node.objects.filter(pk=node.id).update(profile=profile())
    page.reload()
    plan = page.get_by_test_id("estimate")
    expect(plan.get_by_text("Predicted on edge")).to_be_visible()
    page.get_by_text("Speed-up", exact=True).click()
    expect(plan.get_by_text("1 × 128 tokens, one pass")).to_be_visible()
    page.get_by_role("textbox", name="Speed-up").fill("1.2")
    expect(plan.get_by_text("1.20 ×")).to_be_visible()
    page.get_by_role("textbox", name="Tokens of each").fill("64")
    expect(plan.get_by_text("1 × 64 tokens, one pass")).to_be_visible()
    page.get_by_role("button", name="The same from a terminal").click()
    expect(page.get_by_text("--min-speedup 1.2")).to_be_visible()
    tab.check("job-time")
    page.get_by_role("textbox", name="Speed-up").fill("5000")
    expect(plan.get_by_text("a speed-up of 5,000 can't be met")).to_be_visible()
    page.get_by_role("button", name="简体中文").click()
    expect(plan.get_by_text("无法达到 5,000 倍加速")).to_be_visible()


def test_an_alias_moves_after_it_is_said_what_follows(tab: Tab) -> None:
    page = tab.page
    owner = person("olga", workspace="acme")
    finished_job(owner, "one", accuracy=0.9, size=10_000_000, model_name="desk")
    finished_job(owner, "two", accuracy=0.92, size=10_000_000, model_name="desk")
    assert owner.client.put("/api/v1/models/acme/desk/aliases/production", {"version": 1}).status_code == 200
    body = {"workspace": "acme", "model": "acme/desk", "revision": "production", "name": "answers"}
    assert owner.client.post("/api/v1/deployments", body).status_code == 201
    answering = Answering()
    node = serving_node("edge-1")
    Node.objects.filter(pk=node.id).update(url=answering.url)
    node.hold("ready")

    sign_in(tab, "olga")
    tab.open("/w/acme/models/acme/desk")
    page.get_by_role("button", name="Move from v1 to v2").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("answers (on 1 node)")
    dialog.get_by_role("button", name="Move from v1 to v2").click()
    expect(dialog).to_have_count(0)
    assert Alias.objects.get(name="production").version.number == 2
    tab.check("model-moved")

    page.get_by_role("link", name="Serving", exact=True).click()
    expect(page.get_by_text("0 of 1 nodes answer with v2")).to_be_visible()
    node.hold("ready")
    expect(page.get_by_text("1 of 1 nodes answer with v2")).to_be_visible()
    page.get_by_role("link", name="Try it").click()
    page.get_by_role("textbox", name="Text", exact=True).fill("where is my parcel")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_test_id("probabilities").get_by_text("90.0 %")).to_be_visible()
    expect(page.get_by_text("3.5 ms")).to_be_visible()
    tab.check("playground")
    answering.close()


def test_owners_manage_members_and_read_the_log(tab: Tab) -> None:
    page = tab.page
    person("olga", workspace="acme")
    person("carl", workspace="elsewhere", role=Role.OWNER)
    sign_in(tab, "olga")
    tab.open("/w/acme/settings")
    page.get_by_role("tab", name="Members").click()
    page.get_by_label("User name of a new member").fill("carl")
    page.get_by_role("button", name="Add", exact=True).click()
    row = page.get_by_role("row", name=re.compile("carl"))
    expect(row).to_be_visible()
    page.get_by_role("combobox", name="Role of those shown").click()
    page.get_by_role("option", name="Owner", exact=False).click()
    expect(page).to_have_url(re.compile("role=owner"))
    expect(row).to_have_count(0)
    tab.open("/w/acme/settings?tab=members&search=car")
    expect(row).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("olga"))).to_have_count(0)
    tab.check("members")
    row.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("dialog")).to_contain_text("carl loses access to acme")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    page.get_by_role("tab", name="Audit log").click()
    expect(page.get_by_role("cell", name="member.added")).to_be_visible()
    page.get_by_label("Action").fill("member.removed")
    expect(page.get_by_role("cell", name="member.added")).to_have_count(0)
    expect(page).to_have_url(re.compile("action=member.removed"))
    tab.check("audit")
