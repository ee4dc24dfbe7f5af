"""The main job, from rows to a serving node that answers, through the public REST API alone: what `make demo` shows."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from embedded.bootstrap import ROOT
from embedded.stack import Stack, StackError
from pst_client.client import Platform
from pst_client.errors import PlatformError
from pst_client.show import JobBars

BASE_MODEL = "base/minilm-l6"
SERVE_SECONDS = 60.0
SHOWN_PREDICTIONS = 6

console = Console(highlight=False, soft_wrap=True)


class OptionsError(Exception):
    """A variable given to make is missing or wrong; the message says which."""


@dataclass(frozen=True)
class Options:
    """What `make demo` was told: DATA, TEXT, TEXT2, LABEL, TEST, SPARSITY, EPOCHS."""

    data: Path | None
    test: Path | None
    text: str | None
    text_pair: str | None
    label: str | None
    sparsity: float
    epochs: float | None

    @classmethod
    def from_environment(cls) -> Options:
        def given(name: str) -> str | None:
            return os.environ.get(name) or None

        def file(name: str) -> Path | None:
            value = given(name)
            if value is None:
                return None
            path = Path(value).expanduser()
            if not path.is_file():
                raise OptionsError(f"{name}={value}: there is no such file.")
            return path

        def number(name: str, default: float | None) -> float | None:
            value = given(name)
            try:
                return float(value.rstrip("%")) if value else default
            except ValueError:
                raise OptionsError(f"{name}={value} is no number.") from None

        data = file("DATA")
        if data is None and any(given(name) for name in ("TEXT", "TEXT2", "LABEL", "TEST")):
            raise OptionsError("TEXT, TEXT2, LABEL and TEST describe your own file: name it with DATA=file.")
        if data is not None and not (given("TEXT") and given("LABEL")):
            raise OptionsError("Name the columns of your file: make demo DATA=file TEXT=column LABEL=column")
        sparsity = number("SPARSITY", 0.9) or 0.0
        sparsity = sparsity / 100 if sparsity > 1 else sparsity
        if not 0.5 <= sparsity <= 0.99:
            raise OptionsError(f"SPARSITY={given('SPARSITY')}: give a share from 0.5 to 0.99, or 50 to 99 percent.")
        epochs = number("EPOCHS", None)
        if epochs is not None and not 0 < epochs <= 1000:
            raise OptionsError(f"EPOCHS={given('EPOCHS')}: give a number above 0, at most 1000.")
        return cls(data, file("TEST"), given("TEXT"), given("TEXT2"), given("LABEL"), sparsity, epochs)


def heading(number: int, text: str) -> None:
    console.print(f"\n[bold cyan]{number}[/] [bold]{text}[/]")


def demo(options: Options) -> int:
    """Run it all on a data folder of its own, which is removed unless something failed. Returns the exit status."""
    started = time.monotonic()
    (ROOT / ".data").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=ROOT / ".data"))
    keep = False
    try:
        console.print("Starting the platform: Valkey, web, beat, one worker, one serving node …")
        with Stack(folder) as stack:
            console.print(f"  it answers at {stack.url} after {time.monotonic() - started:.0f} s")
            result = main_job(stack, options)
        console.print(f"\nDone in {time.monotonic() - started:.0f} s; nothing is left running.")
        print(json.dumps(result, ensure_ascii=False))
    except (PlatformError, StackError) as error:
        keep = True
        details = getattr(error, "details", [])
        for detail in details[:10]:
            where = ":".join(str(detail[key]) for key in ("file", "line", "column") if detail.get(key))
            print(f"  {where or detail.get('field', '')}: {detail.get('message')}", file=sys.stderr)
        print(f"\nThe demo failed: {error}\nLogs: {folder / 'logs'}", file=sys.stderr)
        return 1
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def main_job(stack: Stack, options: Options) -> dict[str, Any]:
    with Platform(stack.url, sign_up(stack)) as platform:
        dataset = upload(platform, options)
        estimate(platform, dataset, options)
        job = train(platform, stack, dataset, options)
        version = job["version"]
        node_url, name = deploy(platform, stack, version)
        predictions = ask(platform, node_url, name, dataset)
        report = platform.jobs.report(job["id"])
        return report_card(report, version, predictions)


def sign_up(stack: Stack) -> str:
    """Make the first user and a token, as a person would; return the token."""
    heading(1, "A user and a token")
    with Platform(stack.url) as visitor:
        password = os.urandom(12).hex()
        me = visitor.accounts.setup(code=stack.setup_code, username="demo", password=password, workspace="demo")
        token = visitor.accounts.create_token(
            name="make demo", role="editor", workspace="demo", csrf_token=me["csrf_token"]
        )
    console.print(f"  user demo in the workspace demo, token {token['prefix']}… (role {token['role']})")
    return str(token["token"])


def upload(platform: Platform, options: Options) -> dict[str, Any]:
    heading(2, "Upload and validation")
    if options.data is None:
        samples = ROOT / "platform" / "hub" / "datasets" / "samples" / "support_desk"
        created = platform.datasets.create(
            samples / "train.csv",
            test_file=samples / "test.csv",
            name="support-desk",
            text_column="text",
            label_column="intent",
        )
    else:
        created = platform.datasets.create(
            options.data,
            test_file=options.test,
            name=options.data.stem[:100],
            text_column=options.text,
            text_pair_column=options.text_pair,
            label_column=options.label,
        )
    dataset = platform.datasets.wait(created["id"])
    if dataset["state"] != "ready":
        raise PlatformError("invalid_dataset", f"{dataset['name']} cannot be used.", details=dataset["errors"])
    report, found = dataset["report"], dataset["found"]
    rows = ", ".join(f"{split['rows']} {split['split']}" for split in dataset["splits"])
    console.print(f"  {dataset['name']}: {rows} rows, {len(dataset['labels'])} classes")
    console.print(
        f"  read as {found.get('format')}, {found.get('encoding')}; validation split seed {found.get('seed')}"
    )
    table = Table("class", "rows", "", box=None, pad_edge=False, padding=(0, 2))
    classes = report["splits"]["train"]["classes"]
    largest = max(item["count"] for item in classes)
    for item in classes[:15]:
        table.add_row(item["label"], f"{item['count']:>5}", "█" * max(1, round(24 * item["count"] / largest)))
    console.print(table)
    if len(classes) > 15:
        console.print(f"  … and {len(classes) - 15} more classes")
    for warning in report["warnings"]:
        console.print(f"  [yellow]note[/] {warning['message']}")
    return dataset


def megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def estimate(platform: Platform, dataset: dict[str, Any], options: Options) -> None:
    """Ask what the target means, then the other way round: which sparsity a budget in bytes would need."""
    heading(3, "Estimate, before anything is queued")
    target = {"sparsity": options.sparsity}
    plan = platform.jobs.estimate(base_model=BASE_MODEL, target=target, dataset=dataset["id"])["plan"]
    table = Table("group", "matrices", "weights", "sparsity", "nonzeros", "bytes", box=None, pad_edge=False)
    for group in plan["groups"]:
        cells = (group["matrices"], f"{group['weights']:,}", f"{group['sparsity']:.0%}", f"{group['nonzeros']:,}")
        table.add_row(group["name"], *map(str, cells), megabytes(group["bytes"]))
    console.print(table)
    console.print(
        f"  {plan['sparsity']:.0%} sparse: {megabytes(plan['dense_bytes'])} -> {megabytes(plan['sparse_bytes'])}; "
        f"{plan['trainable_params']:,} parameters are trained"
    )
    budget = int((plan["dense_bytes"] + plan["sparse_bytes"]) / 2)
    answer = platform.jobs.estimate(base_model=BASE_MODEL, target={"max_bytes": budget}, dataset=dataset["id"])["plan"]
    console.print(f"  a budget of {megabytes(budget)} would need {answer['sparsity']:.0%}")


def train(platform: Platform, stack: Stack, dataset: dict[str, Any], options: Options) -> dict[str, Any]:
    heading(4, f"PST at {options.sparsity:.0%}")
    settings: dict[str, float] = {} if options.epochs is None else {"epochs": options.epochs}
    if options.data is None:
        # The sample data learn enough in fewer passes than the default; two cores then need five minutes at most.
        settings = {"epochs": 9, "dense_epochs": 4, **settings}
    job = platform.jobs.submit(
        dataset=dataset["id"],
        base_model=BASE_MODEL,
        target={"sparsity": options.sparsity},
        settings=settings,
        name=f"{dataset['name']}-{round(options.sparsity * 100)}"[:100],
        idempotency_key="demo",
    )
    with JobBars(console) as bars:
        for event in platform.jobs.follow(job["id"], interval=0.5):
            bars.take(event)
            stack.check()
    job = platform.jobs.get(job["id"])
    if job["state"] != "succeeded":
        raise PlatformError("job_failed", f"The job {job['state']}: {job['error'] or 'no reason was given'}")
    version = job["version"]
    console.print(f"  published as {version['repo']} v{version['number']}, commit {version['commit']}")
    return job


def deploy(platform: Platform, stack: Stack, version: dict[str, Any]) -> tuple[str, str]:
    """Deploy the version and wait until a node has pulled, verified and loaded it. Returns its address and name."""
    heading(5, "A serving node pulls it")
    deployment = platform.serving.deploy(model=version["repo"], revision=f"v{version['number']}")
    deadline, shown = time.monotonic() + SERVE_SECONDS, ""
    while True:
        deployment = platform.serving.deployment(deployment["id"])
        for placement in deployment["placements"]:
            if placement["state"] != shown:
                shown = placement["state"]
                console.print(f"  {placement['node']}: {shown} {placement['message']}".rstrip())
            if deployment["ready"] and placement["state"] == "ready":
                return placement["url"], f"{deployment['workspace']}/{deployment['name']}"
        stack.check()
        if time.monotonic() > deadline:
            raise StackError(f"No serving node held the version after {SERVE_SECONDS:.0f} s.")
        time.sleep(0.2)


def ask(platform: Platform, node_url: str, name: str, dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """Send rows that the model never saw to the node: one of each class, as far as they go."""
    heading(6, f"Ask {name} at {node_url}")
    split = next(s for s in ("test", "validation", "train") if any(item["split"] == s for item in dataset["splits"]))
    rows: dict[str, dict[str, Any]] = {}
    for row in platform.datasets.rows(dataset["id"], split=split):
        rows.setdefault(row["label"], row)
        if len(rows) == min(SHOWN_PREDICTIONS, len(dataset["labels"])):
            break
    inputs = [{"text": row["text"], "text_pair": row["text_pair"]} for row in rows.values()]
    answer = platform.serving.ask(name, inputs, node_url=node_url)
    shown = []
    for row, prediction in zip(rows.values(), answer["predictions"], strict=True):
        mark = "[green]✓[/]" if prediction["label"] == row["label"] else "[red]✗[/]"
        text = row["text"] if len(row["text"]) <= 76 else row["text"][:75] + "…"
        console.print(f"  {mark} {prediction['label']} ({prediction['score']:.2f})  ", end="")
        console.print(text, markup=False)
        shown.append(
            {"text": row["text"], "label": row["label"], "predicted": prediction["label"], "score": prediction["score"]}
        )
    console.print(f"  {len(inputs)} answers in {answer['milliseconds']:.0f} ms")
    return shown


def report_card(report: dict[str, Any], version: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[str, Any]:
    heading(7, "Report card")
    split = "test" if report["metrics"].get("test") else "validation"
    sparse, dense = report["metrics"][split], report["dense"][split]
    sizes, params = report["bytes"], report["params"]
    table = Table("", "dense", "sparse", box=None, pad_edge=False, padding=(0, 3))

    def interval(values: list[float]) -> str:
        return f"{values[0]:.1%} to {values[1]:.1%}"

    table.add_row(f"accuracy ({split})", f"{dense['accuracy']:.1%}", f"{sparse['accuracy']:.1%}")
    table.add_row("  95 % interval", interval(dense["interval"]), interval(sparse["interval"]))
    table.add_row("macro F1", f"{dense['macro_f1']:.1%}", f"{sparse['macro_f1']:.1%}")
    table.add_row("sparsity of pruned matrices", "0 %", f"{report['sparsity']['reached']:.2%}")
    table.add_row("nonzero parameters", f"{params['total']:,}", f"{params['nonzero']:,}")
    table.add_row("bytes", megabytes(sizes["dense"]), megabytes(sizes["sparse"]))
    memory, time = report["measures"]["size"]["memory"], report["measures"]["time"]
    table.add_row("memory when served", megabytes(memory["dense"]), megabytes(memory["sparse"]))
    for shape in time["shapes"]:
        words = f"ms for {shape['rows']} x {shape['tokens']} tokens"
        table.add_row(words, *(f"{shape[name]['p50_ms']:.1f}" for name in ("dense", "sparse")))
    console.print(table)
    one, *_ = time["shapes"]
    console.print(
        f"  one text of {one['tokens']} tokens: {one['speedup']:.1f} times as fast as the dense model, in "
        f"{memory['sparse'] / memory['dense']:.0%} of its memory, on this machine's {time['threads']} threads"
    )
    console.print(f"  {time['engine']}")
    console.print(
        f"  trained {params['trainable']:,} parameters; answers equal to the dense model's: {report['agreement']:.1%}"
    )
    console.print("  seconds: " + ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in report["seconds"].items()))
    return {
        "accuracy_dense": dense["accuracy"],
        "accuracy": sparse["accuracy"],
        "sparsity": report["sparsity"]["reached"],
        "bytes_dense": sizes["dense"],
        "bytes_sparse": sizes["sparse"],
        "ms_dense": one["dense"]["p50_ms"],
        "ms_sparse": one["sparse"]["p50_ms"],
        "memory_dense": memory["dense"],
        "memory_sparse": memory["sparse"],
        "engine": time["engine"],
        "model": version["repo"],
        "version": version["number"],
        "commit": version["commit"],
        "predictions": predictions,
    }
