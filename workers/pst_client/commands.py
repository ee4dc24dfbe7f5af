"""What each command of ``pst`` does with the platform. A command returns its exit code."""

from __future__ import annotations

import getpass
import json
import math
import socket
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pst_client import credentials, layout, manifest, signature
from pst_client.api import Json, given
from pst_client.client import Platform
from pst_client.credentials import Credentials
from pst_client.errors import PlatformError
from pst_client.show import JobBars, Output, prediction, size

OK, FAILED = 0, 1
SUCCEEDED = "succeeded"
PUSH_OPTIONS = (
    "name",
    "workspace",
    "task",
    "format",
    "encoding",
    "delimiter",
    "header",
    "text_column",
    "text_pair_column",
    "label_column",
    "references_column",
    "label_separator",
    "validation_share",
    "seed",
)


def connect() -> Platform:
    found = credentials.find()
    return Platform(found.url, found.token)


def login(options: Namespace, output: Output) -> int:
    """Check a token, or make one with user name and password, and keep it."""
    kept = credentials.saved()
    url = options.url or (kept.url if kept else None)
    if url is None:
        raise PlatformError("usage", "Say which platform: pst login https://models.example.org")
    if options.username:
        password = _secret(f"Password of {options.username}: ")
        with Platform(url) as visitor:
            csrf = visitor.accounts.sign_in(username=options.username, password=password)["csrf_token"]
            name = f"pst on {socket.gethostname()}"[:100]
            made = visitor.accounts.create_token(
                name=name, workspace=options.workspace, role=options.role, csrf_token=csrf
            )
            token = made["token"]
            visitor.accounts.sign_out(csrf_token=csrf)
    else:
        token = options.token or _secret("Token: ")
    with Platform(url, token) as platform:
        me = platform.accounts.me()
        key = platform.models.signing_key()
    if me["kind"] != "user":
        raise PlatformError("wrong_token", f"This is a token of a {me['kind']}; sign in with a token of a user.")
    file = credentials.save(Credentials(url, token, key))
    places = ", ".join(f"{item['slug']} ({item['role']})" for item in me["workspaces"]) or "no workspace"
    output.result(me, f"Signed in to {url} as {me['user']['username']}: {places}.", f"Kept in {file}.")
    return OK


def push(options: Namespace, output: Output) -> int:
    with connect() as platform:
        dataset = platform.datasets.create(
            options.file,
            validation_file=options.validation_file,
            test_file=options.test_file,
            **{name: getattr(options, name) for name in PUSH_OPTIONS},
        )
        if options.wait:
            output.note(f"Uploaded as {dataset['id']}; validating.")
            dataset = platform.datasets.wait(dataset["id"])
    splits = ", ".join(f"{item['rows']} {item['split']}" for item in dataset["splits"])
    output.result(
        dataset,
        f"Data set {dataset['id']} ({dataset['name']}) is {dataset['state']}."
        + (f" Rows: {splits}." if splits else ""),
    )
    if dataset["labels"]:
        shares = (dataset["report"] or {}).get("splits", {}).get("train", {}).get("classes", [])
        output.table(["label", "rows", "share"], [(c["label"], c["count"], f"{c['share']:.1%}") for c in shares])
    for warning in (dataset["report"] or {}).get("warnings", []):
        output.note(f"warning: {warning['message']}")
    if dataset["state"] == "invalid":
        output.error("The data set has errors; mend the file and push it again.", dataset["errors"], code="invalid")
        return FAILED
    return OK


def estimate(options: Namespace, output: Output) -> int:
    with connect() as platform:
        answer = platform.jobs.estimate(
            base_model=_base_model(options),
            target=_target(options, platform),
            settings=_settings(options),
            dataset=options.dataset,
            num_labels=options.num_labels,
        )
    plan = answer["plan"]
    if plan is None:
        output.result(answer, "The sizes of a public model are known only once it has been fetched.")
        return OK
    queue, time = answer["queue"], plan["time"]
    times = []
    if time is not None:
        times.append(
            f"On {time['node']}, {time['rows']} x {time['tokens']} tokens: {time['latency_ms']:.3g} ms, "
            f"{time['speedup']:.2f} times as fast as the dense model."
        )
    output.result(
        answer,
        f"{plan['sparsity']:.1%} of the prunable weights become zero; {plan['nonzero_params']:,} of "
        f"{plan['total_params']:,} parameters stay.",
        f"Files: dense {size(plan['dense_bytes'])}, compact {size(plan['sparse_bytes'])}; "
        f"loaded {size(plan['memory_bytes'])}.",
        *times,
        f"Queue {queue['name']}: place {queue['position']}, {queue['workers_online']} workers online.",
    )
    groups = [
        (g["name"], g["matrices"], f"{g['sparsity']:.2%}", g["nonzeros"], size(g["bytes"])) for g in plan["groups"]
    ]
    output.table(["group", "matrices", "sparsity", "nonzeros", "bytes"], groups)
    return OK


def submit(options: Namespace, output: Output) -> int:
    with connect() as platform:
        job = platform.jobs.submit(
            dataset=options.dataset,
            base_model=_base_model(options),
            target=_target(options, platform),
            settings=_settings(options),
            idempotency_key=options.idempotency_key,
            workspace=options.workspace,
            name=options.name,
            model_name=options.model_name,
            queue=options.queue,
        )
        if options.watch:
            output.note(f"Job {job['id']} ({job['name']}).")
            return _watch(platform, job["id"], output)
    output.result(job, f"Job {job['id']} ({job['name']}) is {job['state']}. {job['message']}".rstrip())
    return OK


def watch(options: Namespace, output: Output) -> int:
    with connect() as platform:
        return _watch(platform, options.job, output)


def _watch(platform: Platform, job_id: str, output: Output) -> int:
    if (message := platform.jobs.get(job_id)["message"]) and not output.as_json:
        output.note(message)
    try:
        with JobBars(output.err, silent=output.as_json) as bars:
            for event in platform.jobs.follow(job_id):
                bars.take(event)
    except KeyboardInterrupt:
        output.note(f"The job goes on; watch it again with: pst watch {job_id}")
        raise
    job = platform.jobs.get(job_id)
    version, lines = job["version"], [f"Job {job['id']} {job['state']}."]
    if version is not None:
        lines.append(f"Published {version['repo']} v{version['number']} ({version['commit']}).")
    if job["report_available"]:
        metrics = platform.jobs.report(job_id).get("metrics", {}).get("validation", {})
        numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
        lines += [f"Validation {name}: {value:.3f}" for name, value in numbers.items()]
    output.result(job, *lines)
    if job["state"] != SUCCEEDED:
        output.error(job["error"] or f"The job was {job['state']}.", code=job["state"])
        return FAILED
    return OK


def pull(options: Namespace, output: Output) -> int:
    """Every file checked against the manifest, and the manifest against the commit and the platform's signature."""
    repo, _, revision = options.model.partition("@")
    folder: Path = options.folder
    with connect() as platform:
        key = options.signing_key or _signing_key(platform)
        commit = platform.models.commit(repo, revision or "main")
        # A folder of another version keeps its manifest until this one's is proven.
        partial = folder / ".pulling" / commit
        for name in (layout.MANIFEST, layout.SIGNATURE):
            platform.models.download(repo, commit, name, partial / name)
        listed = manifest.read(partial, commit=commit)
        signature.check(partial, key=key)
        files = [file for file in listed.files if not (options.compact and manifest.is_spared(file.path, listed))]
        for file in files:
            target = folder / file.path
            if manifest.holds(folder, file):
                continue
            with output.transfer(file.path, file.size) as received:
                platform.models.download(
                    repo, commit, file.path, target, sha256=file.sha256, size=file.size, received=received
                )
    for name in (layout.MANIFEST, layout.SIGNATURE):
        (partial / name).replace(folder / name)
    partial.rmdir()
    partial.parent.rmdir()
    total = sum(file.size for file in files)
    output.result(
        {
            "repo": repo,
            "version": listed.version,
            "commit": commit,
            "folder": str(folder),
            "files": len(files),
            "bytes": total,
        },
        f"{repo} v{listed.version} ({commit}) is in {folder}: {len(files)} files, {size(total)}, all checked.",
    )
    return OK


def _signing_key(platform: Platform) -> str:
    """The key that the platform publishes, which must be the one of the time of signing in, where that is known."""
    key, known = platform.models.signing_key(), credentials.find().signing_key
    if known not in (None, key):
        raise PlatformError(
            "signing_key",
            f"{platform.url} signs with the key {key}; when you signed in it was {known}. If its owner changed it, "
            "run pst login again; if not, somebody else may be answering.",
        )
    return key


def predict(options: Namespace, output: Output) -> int:
    texts = list(options.text)
    if options.file is not None:
        texts += _lines(options.file)
    if not texts:
        raise PlatformError("usage", "Give at least one text, or --file FILE with one text per line.")
    inputs = [{"text": text, "text_pair": options.pair} for text in texts] if options.pair else texts
    with connect() as platform:
        answer = platform.serving.ask(options.model, inputs, top_k=options.top_k, node_url=options.node)
    output.result(answer, f"{answer['model']} v{answer['version']} ({answer['milliseconds']:.0f} ms)")
    said = [prediction(item) for item in answer["predictions"]]
    columns = [name for name in ("label", "score", "written") if any(name in row for row in said)]
    rows = [(*(row.get(name) for name in columns), text) for row, text in zip(said, texts, strict=True)]
    output.table([*columns, "text"], rows)
    return OK


def _lines(path: Path) -> list[str]:
    """The lines of a file, or of standard input (-), of which each is a text. Only a line break ends a line."""
    name = "Standard input" if str(path) == "-" else str(path)
    content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PlatformError(
            "usage", f"{name}, line {line}: this is not UTF-8; convert it, such as with: iconv -f latin1 -t utf-8"
        ) from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, 1):
        if not line:
            raise PlatformError("usage", f"{name}, line {number}: the line is empty; every line must hold a text.")
    return lines


def nodes(options: Namespace, output: Output) -> int:
    with connect() as platform:
        found = list(platform.serving.nodes())
    output.result(found)
    rows = []
    for node in found:
        held = ", ".join(f"{item['name']} {item['state']}" for item in node["holds"])
        state = "online" if node["online"] else "offline"
        rows.append((node["name"], node["kind"], state, held or ", ".join(node["queues"]), node["url"]))
    output.table(["node", "kind", "state", "holds / queues", "address"], rows)
    return OK


def _base_model(options: Namespace) -> str | dict[str, str]:
    return {"public": options.public_model} if options.public_model else str(options.base_model)


def _target(options: Namespace, platform: Platform) -> Json:
    names = ("sparsity", "max_nonzero_params", "max_bytes", "max_memory_bytes", "max_latency_ms", "min_speedup")
    found = given(**{name: getattr(options, name) for name in names}, groups=_groups(options.group) or None)
    if options.on is None:
        if options.rows or options.tokens:
            raise PlatformError("usage", "--rows and --tokens say what --on NODE is asked; name a node.")
        return found
    on = given(node=_node_id(platform, options.on), rows=options.rows, tokens=options.tokens)
    return found | {"on": on}


def _node_id(platform: Platform, name: str) -> str:
    """The id of the serving node of that name or id."""
    known = [node for node in platform.serving.nodes(kind="serve") if name in (node["name"], node["id"])]
    if len(known) == 1:
        return str(known[0]["id"])
    if known:
        raise PlatformError("usage", f"There are {len(known)} nodes named {name}; give the id: pst nodes --json.")
    raise PlatformError("not_found", f"There is no serving node {name}; pst nodes lists them.", status=404)


def _groups(pairs: Sequence[str]) -> dict[str, float]:
    """``--group name=share`` pairs."""
    shares: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not name or not math.isfinite(share):
            raise PlatformError("usage", f"--group takes name=share, such as decoder=0.9, not {pair!r}.")
        if name in shares:
            raise PlatformError("usage", f"--group names {name} twice; give it one share.")
        shares[name] = share
    return shares


def _settings(options: Namespace) -> Json | None:
    """``--set name=value`` pairs; a value that is no JSON is a text."""
    values: dict[str, Any] = {}
    for pair in options.set:
        name, sign, text = pair.partition("=")
        if not sign:
            raise PlatformError("usage", f"--set takes name=value, not {pair!r}.")
        try:
            values[name] = json.loads(text, parse_constant=_no_number)
        except ValueError:
            values[name] = text
    return values or None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _secret(prompt: str) -> str:
    """Asked without echo on a terminal, else the first line of standard input."""
    secret = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()
    if not secret.strip():
        raise PlatformError("usage", "Nothing was given; try again.")
    return secret.strip()
