"""The rules as functions from a module's source to what is wrong in it, each with examples that break it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

WEB = ("platform", "jobs")
PRODUCT = (*WEB, "workers", "deploy")

OF_THE_WORKERS = (
    "pst.config",
    "pst.messages",
    "pst.plan",
    "pst_client.contract",
    "pst_client.connections",
    "pst_client.layout",
)
"""What the web tier may import of the workers' code."""

Finding = tuple[int, str]
Check = Callable[[ast.Module, str], Iterator[Finding]]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import, wherever it stands; ``from a import b`` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """(call, dotted name of what is called; "" for what has none, with every call on the way written as ())."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def no_signals(tree: ast.Module, path: str) -> Iterator[Finding]:
    for line, name in imported(tree):
        if within(name, "django.dispatch") or re.match(r"django\.(\w+\.)*signals\b", name):
            yield line, f"imports {name}: call the service instead"


def no_save_override(tree: ast.Module, path: str) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name in {"save", "delete", "save_base"}:
                    if any(argument.arg == "request" for argument in item.args.args):
                        continue  # a view's answer to the HTTP method
                    yield item.lineno, f"{node.name}.{item.name} hides work in a model: write a service"


def no_utils(tree: ast.Module, path: str) -> Iterator[Finding]:
    if Path(path).stem in {"utils", "util", "helpers", "misc", "common"}:
        yield 1, "a module is named by what it is about"


BULK_WRITES = {"bulk_create", "bulk_update"}
WRITES = {"save", "delete", "create", "update", "get_or_create", "update_or_create"} | BULK_WRITES


def writes_to_the_database(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that the ORM writes by. It takes names; what is given its first argument by place, as in ``digest.update(
    part)`` or ``cache.delete(key)``, is something else: but for the bulk ones, whose objects come first."""
    for call, name in calls(tree):
        last = name.rsplit(".", 1)[-1].removeprefix("a") if "." in name else ""
        if last in BULK_WRITES or (last in WRITES and not call.args):
            yield call


def keyword_only_services(tree: ast.Module, path: str) -> Iterator[Finding]:
    """What writes to the database is a function of a services module, keyword-only and typed, as is what opens a
    transaction there. Nothing but migrations, which are not read here, writes elsewhere."""
    services = Path(path).parent.name == "services"
    for node in tree.body:
        written = list(writes_to_the_database(node))
        if not services or not isinstance(node, ast.FunctionDef):
            yield from ((call.lineno, "writes to the database outside of a service") for call in written)
            continue
        arguments = node.args
        atomic = any("atomic" in ast.unparse(item) for item in node.decorator_list)
        if (atomic or written) and (arguments.args or arguments.posonlyargs or arguments.vararg):
            yield node.lineno, f"{node.name} takes positional arguments"
        everything = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if node.returns is None or any(item.annotation is None for item in everything):
            yield node.lineno, f"{node.name} is not fully typed"


def web_imports_little_of_the_workers(tree: ast.Module, path: str) -> Iterator[Finding]:
    for line, name in imported(tree):
        if within(name, "pst", "pst_client", "pst_worker", "pst_serve") and not within(name, *OF_THE_WORKERS):
            yield line, f"imports {name}; the web tier may import of the workers only {', '.join(OF_THE_WORKERS)}"


def nothing_unpickled(tree: ast.Module, path: str) -> Iterator[Finding]:
    for line, name in imported(tree):
        if within(name, "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
            yield line, f"imports {name}: whoever writes the file runs code here; use safetensors or JSON"
        if name in {"torch.load", "torch.save"}:
            yield line, f"imports {name}: it is pickle; use safetensors"
    for call, name in calls(tree):
        if name in {"torch.load", "torch.save"}:
            yield call.lineno, f"{name} is pickle; use safetensors"


def no_remote_code(tree: ast.Module, path: str) -> Iterator[Finding]:
    if path == "workers/pst/plan/foreign.py":  # the list of what is refused
        return
    for node in ast.walk(tree):
        refused = isinstance(node, ast.keyword) and ast.unparse(node.value) == "False"
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and not refused:
            yield node.value.lineno, "trust_remote_code runs what somebody else wrote"
        if isinstance(node, ast.Constant) and node.value == "trust_remote_code":
            yield node.lineno, "trust_remote_code runs what somebody else wrote"


def http_in_one_place(tree: ast.Module, path: str) -> Iterator[Finding]:
    if path == "workers/pst_client/client.py":
        return
    for line, name in imported(tree):
        if within(name, "httpx", "requests", "urllib.request", "urllib3", "http.client", "aiohttp"):
            yield line, f"imports {name}; only pst_client.client speaks HTTP to the platform"


def one_writer_of_state(tree: ast.Module, path: str) -> Iterator[Finding]:
    if path == "jobs/services/moves.py":
        return
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "state":
                yield node.lineno, "writes a job's state; only jobs.services.moves does"
    for call, name in calls(tree):
        writes = name.rsplit(".", 1)[-1] in {"update", "create", "get_or_create", "update_or_create"} or name == "Job"
        if writes and any(item.arg == "state" for item in call.keywords):
            yield call.lineno, "writes a job's state; only jobs.services.moves does"
        if name == "setattr" and len(call.args) > 1 and ast.unparse(call.args[1]) == "'state'":
            yield call.lineno, "writes a job's state; only jobs.services.moves does"


def events_are_only_added(tree: ast.Module, path: str) -> Iterator[Finding]:
    for call, name in calls(tree):
        changes = name.rsplit(".", 1)[-1] in {"update", "delete", "bulk_update", "update_or_create", "_raw_delete"}
        if changes and re.search(r"\bJobEvent\b|\.events\b|\bAuditEvent\b|\.audit_events\b", name):
            yield call.lineno, "changes or deletes entries of an append-only record"


def one_way_to_start_work(tree: ast.Module, path: str) -> Iterator[Finding]:
    if path == "platform/hub/core/queue.py":
        return
    for call, name in calls(tree):
        if name.rsplit(".", 1)[-1] in {"send_task", "delay", "apply_async"}:
            yield call.lineno, f"{name}: work is started by hub.core.queue.enqueue, on commit"


def no_shared_folder(tree: ast.Module, path: str) -> Iterator[Finding]:
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.search(r"(^|/)(work|\.\.)/shared\b", text):
            yield node.lineno, "the tests' data are where SPARSEWRIGHT_DATA says"


def library_modules_have_a_docstring(tree: ast.Module, path: str) -> Iterator[Finding]:
    if Path(path).name != "__init__.py" and not ast.get_docstring(tree):
        yield 1, "the docstring gives formula and legend, before any code"


RULES: dict[str, tuple[Check, tuple[str, ...], list[tuple[str, str]]]] = {
    # name: (check, where it holds, examples that break it as (path, source))
    "no signals": (
        no_signals,
        WEB,
        [
            ("jobs/a.py", "from django.db.models.signals import post_save"),
            ("jobs/a.py", "from django.dispatch import receiver"),
            ("jobs/a.py", "def f():\n    import django.core.signals"),
            ("jobs/a.py", "from django.contrib.auth import signals"),
        ],
    ),
    "no save() overrides": (
        no_save_override,
        WEB,
        [
            ("jobs/a.py", "class Job(Model):\n    def save(self, *args):\n        super().save(*args)"),
            ("jobs/a.py", "class Job(models.Model):\n    def delete(self):\n        pass"),
        ],
    ),
    "no utils.py": (
        no_utils,
        (*PRODUCT, "tests"),
        [("jobs/utils.py", ""), ("workers/pst/helpers.py", "x = 1")],
    ),
    "services are keyword-only and typed": (
        keyword_only_services,
        WEB,
        [
            ("hub/x/services/y.py", "@transaction.atomic\ndef make(name: str) -> None: ..."),
            ("jobs/services/x.py", "@atomic\ndef make(*names: str) -> None: ..."),
            ("hub/x/services/y.py", "def make(*, name) -> None: ..."),
            ("hub/x/services/y.py", "@transaction.atomic(savepoint=False)\ndef make(*, name: str): ..."),
            ("hub/x/services/y.py", "def _try(hook: Webhook) -> None:\n    hook.save(update_fields=['state'])"),
            ("hub/x/services/y.py", "class Made:\n    def make(self) -> None:\n        Webhook.objects.create()"),
            ("hub/x/webhooks.py", "def make(*, url: str) -> None:\n    Webhook(url=url).save()"),
            ("hub/x/api/uploads.py", "class View:\n    def delete(self, request):\n        self.upload().delete()"),
            ("hub/x/placement.py", "def place():\n    Placement.objects.bulk_create(rows)"),
            ("jobs/planning.py", "def plan(job):\n    Job.objects.filter(pk=job).update(plan={})"),
            ("hub/x/management/commands/y.py", "def handle(self):\n    Workspace.objects.get_or_create(slug='base')"),
        ],
    ),
    "the web tier imports little of the workers": (
        web_imports_little_of_the_workers,
        WEB,
        [
            ("jobs/a.py", "from pst import layers"),
            ("jobs/a.py", "import pst.sparsity.schedule"),
            ("jobs/a.py", "from pst_client.client import Platform"),
            ("jobs/a.py", "def f():\n    from pst_worker import run"),
        ],
    ),
    "nothing is unpickled": (
        nothing_unpickled,
        PRODUCT,
        [
            ("workers/a.py", "import pickle"),
            ("workers/a.py", "def f(p):\n    return torch.load(p)"),
            ("workers/a.py", "from torch import save"),
            ("workers/a.py", "torch.save(state, path)"),
        ],
    ),
    "no remote code": (
        no_remote_code,
        PRODUCT,
        [
            ("workers/a.py", "AutoModel.from_pretrained(x, trust_remote_code=True)"),
            ("workers/a.py", "AutoModel.from_pretrained(x, trust_remote_code=flag)"),
            ("workers/a.py", "options = {'trust_remote_code': True}"),
        ],
    ),
    "one client speaks HTTP to the platform": (
        http_in_one_place,
        ("workers",),
        [
            ("workers/pst_serve/node.py", "import httpx"),
            ("workers/pst_worker/a.py", "from urllib.request import urlopen"),
            ("workers/pst_client/cli.py", "def f():\n    import requests"),
        ],
    ),
    "one writer of a job's state": (
        one_writer_of_state,
        ("jobs",),
        [
            ("jobs/api.py", "job.state = 'failed'"),
            ("jobs/services/lease.py", "Job.objects.filter(pk=1).update(state='failed')"),
            ("jobs/services/lease.py", "job = Job(name='a', state='running')"),
            ("jobs/tasks.py", "setattr(job, 'state', 'failed')"),
        ],
    ),
    "records are only added to": (
        events_are_only_added,
        WEB,
        [
            ("jobs/a.py", "JobEvent.objects.filter(job=job).delete()"),
            ("jobs/a.py", "job.events.filter(seq=3).update(data={})"),
            ("platform/hub/a.py", "AuditEvent.objects.all().delete()"),
        ],
    ),
    "work starts through enqueue": (
        one_way_to_start_work,
        WEB,
        [
            ("jobs/a.py", "current_app.send_task('x')"),
            ("jobs/a.py", "reap.delay()"),
            ("jobs/a.py", "validate.apply_async(countdown=3)"),
        ],
    ),
    "no path of the shared folder": (
        no_shared_folder,
        (*PRODUCT, "tests"),
        [("tests/a.py", f"DATA = '/work/{'shared'}/data'"), ("tests/a.py", f"DATA = Path('../{'shared'}')")],
    ),
    "modules of the library have a docstring": (
        library_modules_have_a_docstring,
        ("workers/pst",),
        [("workers/pst/a.py", "import torch")],
    ),
}
