"""The rules of ARCHITECTURE.md that import-linter's contracts (pyproject.toml) don't hold.

A rule is a function from a module's source to what is wrong in it. Each is run over the product, and over examples that
break it, so that a check that sees nothing is seen itself.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.urls import URLPattern, URLResolver, get_resolver

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = (ROOT / "platform", ROOT / "workers", ROOT / "deploy", ROOT)
WEB = ("platform", "jobs")
PRODUCT = (*WEB, "workers", "deploy")
SKIPPED = {"node_modules", "dist", "migrations", "__pycache__", "test-results", "playwright-report"}
TEXT = {".py", ".toml", ".yml", ".yaml", ".md", ".ts", ".tsx", ".mjs", ".js", ".json", ".html", ".css", ".sh", ".txt"}
TEXT |= {".in", ".cfg", ".conf", ".svg", ".tpl", ".example", ".lock", ".csv", ""}
MOST_LINES = 500

Finding = tuple[int, str]
Check = Callable[[ast.Module, str], Iterator[Finding]]


def files(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    """Files below the folders of the root ("" is the root itself), without what is generated or installed."""
    found = []
    for folder in folders:
        for path, directories, names in os.walk(ROOT / folder):
            directories[:] = sorted(
                name for name in directories if name not in SKIPPED and (name == ".ci" or not name.startswith("."))
            )
            found += [Path(path) / name for name in sorted(names) if Path(name).suffix in suffixes]
    return found


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


# The rules


def no_signals(tree: ast.Module, path: str) -> Iterator[Finding]:
    for line, name in imported(tree):
        if within(name, "django.dispatch") or re.match(r"django\.(\w+\.)*signals\b", name):
            yield line, f"imports {name}: call the service instead"


def no_save_override(tree: ast.Module, path: str) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name in {"save", "delete", "save_base"}:
                    if {base.attr if isinstance(base, ast.Attribute) else ast.unparse(base) for base in node.bases} & {
                        "APIView"
                    }:
                        continue  # the HTTP method
                    yield item.lineno, f"{node.name}.{item.name} hides work in a model: write a service"


def no_utils(tree: ast.Module, path: str) -> Iterator[Finding]:
    if Path(path).stem in {"utils", "util", "helpers", "misc", "common"}:
        yield 1, "a module is named by what it is about"


def keyword_only_services(tree: ast.Module, path: str) -> Iterator[Finding]:
    """What changes the database in a services module under ``transaction.atomic``: keyword-only, typed."""
    if Path(path).name != "services.py" and Path(path).parent.name != "services":
        return
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = node.args
        service = any("atomic" in ast.unparse(item) for item in node.decorator_list)
        if service and (arguments.args or arguments.posonlyargs or arguments.vararg):
            yield node.lineno, f"{node.name} takes positional arguments"
        everything = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        if node.returns is None or any(item.annotation is None for item in everything):
            yield node.lineno, f"{node.name} is not fully typed"


def web_imports_little_of_the_workers(tree: ast.Module, path: str) -> Iterator[Finding]:
    for line, name in imported(tree):
        if within(name, "pst", "pst_client", "pst_worker", "pst_serve") and not within(
            name, "pst.config", "pst.budget", "pst_client.contract"
        ):
            yield line, f"imports {name}; the web tier may use pst.config, pst.budget and pst_client.contract"


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
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
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
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r"(^|/)(work|\.\.)/shared\b", node.value):
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
            ("hub/x/services.py", "@transaction.atomic\ndef make(name: str) -> None: ..."),
            ("jobs/services/x.py", "@atomic\ndef make(*names: str) -> None: ..."),
            ("hub/x/services.py", "def make(*, name) -> None: ..."),
            ("hub/x/services.py", "@transaction.atomic(savepoint=False)\ndef make(*, name: str): ..."),
        ],
    ),
    "the web tier imports little of the workers": (
        web_imports_little_of_the_workers,
        WEB,
        [
            ("jobs/a.py", "from pst import layers"),
            ("jobs/a.py", "import pst.families"),
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


@pytest.mark.parametrize("name", list(RULES))
def test_the_product_keeps(name: str) -> None:
    check, folders, _ = RULES[name]
    found = []
    for file in files(*folders):
        path = file.relative_to(ROOT).as_posix()
        if path == Path(__file__).relative_to(ROOT).as_posix():
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"), path)
        found += [f"{path}:{line}: {message}" for line, message in check(tree, path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "path", "source"),
    [(name, path, source) for name, (_, _, examples) in RULES.items() for path, source in examples],
)
def test_the_check_sees(name: str, path: str, source: str) -> None:
    assert list(RULES[name][0](ast.parse(source), path)), f"nothing is found in {source!r}"


def test_the_checks_let_through_what_is_right() -> None:
    """What looks like a breach and is none."""
    right = {
        "no save() overrides": "class TokenView(APIView):\n    def delete(self, request): ...",
        "no remote code": "AutoModel.from_pretrained(x, trust_remote_code=False)",
        "one writer of a job's state": "Job.objects.filter(state='queued')",
        "records are only added to": "digest.update(part)\nJobEvent.objects.create(seq=1)",
        "the web tier imports little of the workers": "from pst import budget\nfrom pst_client.contract import Target",
        "services are keyword-only and typed": "@transaction.atomic\ndef make(*, name: str) -> None: ...",
    }
    for name, source in right.items():
        assert not list(RULES[name][0](ast.parse(source), "hub/x/services.py")), name


# Files


def too_long(text: str) -> bool:
    return text.count("\n") > MOST_LINES


def test_long_files_are_split() -> None:
    generated = {ROOT / "frontend/src/api/schema.d.ts"}
    checked = files(*PRODUCT, "tests", "frontend/src", "frontend/e2e", suffixes=(".py", ".ts", ".tsx"))
    found = [file for file in checked if file not in generated and too_long(file.read_text(encoding="utf-8"))]
    assert not found, f"split by noun: {found}"
    assert too_long("x\n" * (MOST_LINES + 1)) and not too_long("x\n" * MOST_LINES)


def test_platform_is_a_source_root_and_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists(), "it would shadow Python's own module platform"


# Put together from parts, so that this file does not name them.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("hugging" + "face", "co"),
        ("hf-" + "mirror", "com"),
        ("model" + "scope", "cn"),
        ("py" + "pi", "org"),
        ("python" + "hosted", "org"),
        ("download", "py" + "torch", "org"),
        ("npm" + "js", "org"),
        ("npm" + "mirror", "com"),
        ("registry", "yarn" + "pkg", "com"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("nvcr", "io"),
        ("gcr", "io"),
        ("registry", "k8s", "io"),
    )
]


def hosts_in(text: str) -> list[str]:
    lowered = text.lower()
    return [host for host in HOSTS if re.search(rf"(?<![\w-]){re.escape(host)}(?![\w-])", lowered)]


def test_no_host_of_a_registry_is_named() -> None:
    found = []
    for file in files("", suffixes=tuple(TEXT)):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file without a suffix
        found += [f"{file.relative_to(ROOT)}: {host}" for host in hosts_in(text)]
    assert not found, "\n".join(found)


def test_the_check_of_hosts_sees_them() -> None:
    for host in HOSTS:
        assert hosts_in(f"see https://files.{host}/simple") == [host]
        assert hosts_in(f"image: {host.upper()}/x") == [host]
    assert not hosts_in("the socket.io and docker.iota, and mypypi.orgs")


# What a process loads


def loaded_by(code: str) -> set[str]:
    """Names of the modules that a fresh Python holds after running the code."""
    path = os.pathsep.join(str(root) for root in SOURCE_ROOTS)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": path,
        "SPARSEWRIGHT_DEBUG": "1",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys\nprint('\\n' + json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


def roots(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_the_web_tier_never_loads_torch() -> None:
    """Not even indirectly: every module of the web tier is imported, as the running process would."""
    names = []
    for file in files(*WEB):
        parts = list(file.relative_to(ROOT / "platform" if "platform" in file.parts else ROOT).with_suffix("").parts)
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert "config.urls" in names and "jobs.tasks" in names and len(names) > 40
    imports = "\n".join(f"import {name}" for name in names)
    modules = loaded_by(f"import django\ndjango.setup()\n{imports}")
    assert not roots(modules) & {"torch", "transformers", "safetensors", "tokenizers", "numpy", "pst_worker", "pst_serve"}
    assert {name for name in modules if within(name, "pst")} <= {
        "pst",
        "pst.config",
        "pst.budget",
        "pst.errors",
        "pst.families",
    }


def test_the_workers_parent_never_loads_torch() -> None:
    modules = loaded_by("import pst_worker.celery, pst_worker.agent, pst_worker.attempt, pst_worker.__main__")
    assert not roots(modules) & {"torch", "transformers", "django", "rest_framework", "config", "hub", "jobs"}


def test_the_library_loads_nothing_of_the_platform() -> None:
    """The planner and the settings are torch-free too; the rest may have torch and what transformers brings."""
    modules = loaded_by("import pst, pst.config, pst.budget, pst.families, pst.errors")
    assert not roots(modules) & {"torch", "transformers", "numpy", "pydantic", "httpx", "celery", "django"}
    algorithm = sorted(
        file.stem
        for file in (ROOT / "workers" / "pst").glob("*.py")
        if file.stem in {"scores", "masks", "schedule", "layers", "inject", "merge", "formats"}
    )
    assert {"masks", "schedule", "layers", "inject"} <= set(algorithm)
    modules = loaded_by("\n".join(f"import pst.{name}" for name in algorithm))
    assert not roots(modules) & {"pst_client", "pst_worker", "pydantic", "httpx", "celery", "django"}


def test_what_a_process_loads_is_seen() -> None:
    assert {"decimal", "fractions"} <= loaded_by("import fractions")


# Import contracts


def lint_imports(root: Path, home: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(root / folder) for folder in ("platform", "workers", ""))
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=root,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path, "HOME": str(home), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


BREACHES = {
    "Layers of the web tier": ("platform/hub/core/api.py", "import hub.accounts.models"),
    "Inside an app": ("jobs/models.py", "import jobs.services.moves"),
    "Workers know nothing of the web tier": ("workers/pst_client/contract.py", "import hub.core.errors"),
    "The algorithm library stands alone": ("workers/pst/errors.py", "import pydantic"),
    "The client, the worker and the serving node": ("workers/pst_serve/__init__.py", "import pst_worker.agent"),
    "The web tier never loads torch": ("platform/hub/core/errors.py", "import torch"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "node_modules", ".*")
    for folder in ("platform", "jobs", "workers"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_the_import_contracts_are_kept(copy: Path, tmp_path: Path) -> None:
    done = lint_imports(copy, tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.count("KEPT") == len(BREACHES), "each contract has its breach below"


def test_each_import_contract_can_break(copy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(copy, broken)
    for path, line in BREACHES.values():
        file = broken / path
        file.write_text(f"{line}\n{file.read_text(encoding='utf-8')}".replace("from __future__ import annotations", ""))
    done = lint_imports(broken, tmp_path)
    for name in BREACHES:
        assert re.search(rf"{re.escape(name)}.* BROKEN", done.stdout), f"{name} was not seen broken:\n{done.stdout}"


# What the running product says of itself


def test_objects_of_a_workspace_are_read_through_visible_to() -> None:
    reached_otherwise = {"Membership"}  # through its workspace
    for app in ("accounts", "datasets", "registry", "serving", "jobs"):
        for model in apps.get_app_config(app).get_models():
            if any(field.name == "workspace" for field in model._meta.fields):
                assert model.__name__ in reached_otherwise or hasattr(model._default_manager, "visible_to"), model


def views(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for item in patterns:
        path = prefix + str(item.pattern)
        if isinstance(item, URLResolver):
            yield from views(item.url_patterns, path)
        elif (view := getattr(item.callback, "cls", None)) is not None:
            yield path, view


def test_every_view_has_the_one_error_shape_and_pagination() -> None:
    from hub.core import errors
    from hub.core.api import Pages

    found = [(path, view) for path, view in views(get_resolver().url_patterns) if path.startswith("api/v1/")]
    assert len(found) > 40
    for path, view in found:
        assert view().get_exception_handler() is errors.exception_handler, path
        assert issubclass(getattr(view, "pagination_class", None) or Pages, Pages), path


def test_a_setting_is_defined_once() -> None:
    """The OpenAPI schema has the settings of pst.config, with their bounds and descriptions."""
    from jobs.schemas import JobSubmission
    from pst.config import TrainSettings
    from pst_client.contract import JobSpec

    for message in (JobSubmission, JobSpec):
        shown = message.model_json_schema(mode="serialization")["$defs"]["TrainSettings"]["properties"]
        fields = {field.name: field for field in dataclasses.fields(TrainSettings)}
        assert list(shown) == list(fields)
        for name, field in fields.items():
            assert shown[name]["description"] == field.metadata["description"]
            assert shown[name]["default"] == field.default
            assert shown[name].get("minimum") == field.metadata.get("ge")
            assert shown[name].get("exclusiveMinimum") == field.metadata.get("gt")


@pytest.mark.parametrize("folder", ["kernels", "export"])
def test_kernels_and_exporters_have_tests(folder: str) -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in files("tests") if file != Path(__file__).resolve())
    for file in (ROOT / "workers" / "pst" / folder).glob("*.py"):
        if file.stem != "__init__":
            module = re.escape(f"pst.{folder}")
            pattern = rf"{module}\.{file.stem}\b|from {module} import [^\n]*\b{file.stem}\b"
            assert re.search(pattern, tests), f"no test imports pst.{folder}.{file.stem}"
