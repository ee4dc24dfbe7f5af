"""The rules of ARCHITECTURE.md that import-linter's contracts (pyproject.toml) don't hold, and that those can break.

Each rule of :mod:`tests.architecture_rules` is run over the product, and over examples that break it, so that a check
that sees nothing is seen itself.
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
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.urls import URLPattern, URLResolver, get_resolver

from tests.architecture_rules import PRODUCT, RULES, WEB, imported, within

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = (ROOT / "platform", ROOT / "workers", ROOT / "deploy", ROOT)
OWN = {ROOT / "tests/test_architecture.py", ROOT / "tests/architecture_rules.py"}
SKIPPED = {"node_modules", "dist", "migrations", "__pycache__", "test-results", "playwright-report"}
TEXT = {".py", ".toml", ".yml", ".yaml", ".md", ".ts", ".tsx", ".mjs", ".js", ".json", ".html", ".css", ".sh", ".txt"}
TEXT |= {".in", ".cfg", ".conf", ".svg", ".tpl", ".example", ".lock", ".csv", ""}
MAX_LINES = 550  # "about 500"


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


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@pytest.mark.parametrize("name", list(RULES))
def test_the_product_keeps(name: str) -> None:
    check, folders, _ = RULES[name]
    found = []
    for file in files(*folders):
        if file not in OWN:
            path = file.relative_to(ROOT).as_posix()
            found += [f"{path}:{line}: {message}" for line, message in check(parsed(file), path)]
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
        "the web tier imports little of the workers": "from pst.plan import planner\nimport pst_client.contract",
        "services are keyword-only and typed": (
            "@transaction.atomic\ndef make(*, name: str) -> None:\n    Webhook(name=name).save()\n"
            "def digest(part: bytes) -> None:\n    hashlib.sha256().update(part)\n    cache.delete('key')"
        ),
    }
    for name, source in right.items():
        assert not list(RULES[name][0](ast.parse(source), "hub/x/services/y.py")), name


# Files


def too_long(text: str) -> bool:
    return text.count("\n") > MAX_LINES


def test_long_files_are_split() -> None:
    generated = {ROOT / "frontend/src/api/schema.d.ts"}
    checked = files(*PRODUCT, "tests", "frontend/src", "frontend/e2e", suffixes=(".py", ".ts", ".tsx"))
    found = [file for file in checked if file not in generated and too_long(file.read_text(encoding="utf-8"))]
    assert not found, f"split by noun: {found}"
    assert too_long("x\n" * (MAX_LINES + 1)) and not too_long("x\n" * MAX_LINES)


def test_the_library_is_in_rooms() -> None:
    """A module of ``pst`` has a room; at the top is what every room reads, and the run that walks through them."""
    top = list((ROOT / "workers" / "pst").glob("*.py"))
    assert len(top) <= 10, f"give one of them a room: {sorted(file.name for file in top)}"


APPS = {name: ROOT / "platform" / "hub" / name for name in ("accounts", "datasets", "registry", "serving")}
APPS |= {"jobs": ROOT / "jobs"}


@pytest.mark.parametrize("name", APPS)
def test_every_app_has_the_same_rooms(name: str) -> None:
    """Where a thing is in one app, it is in the others: import-linter's "Inside an app" names these, too."""
    for room in ("models.py", "services/__init__.py", "api/__init__.py", "urls.py", "admin.py", "apps.py"):
        assert (APPS[name] / room).is_file(), f"{name} has no {room}"
    views = [f"{view.__module__}.{view.__name__}" for _, view in views_of(name)]
    assert views and all(re.search(r"\.?api\.\w+\.\w+$", view) for view in views), "views stand in api/, a file a noun"
    tasks = [file for file in files(APPS[name].relative_to(ROOT).as_posix()) if "shared_task" in file.read_text()]
    assert tasks in ([], [APPS[name] / "tasks.py"]), "what the beat or a message starts stands in tasks.py"


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


def loaded_by(code: str, **environment: str) -> set[str]:
    """Names of the modules that a fresh Python holds after running the code."""
    path = os.pathsep.join(str(root) for root in SOURCE_ROOTS)
    environment |= {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nimport json, sys\nprint('\\n' + json.dumps([name for name in sys.modules if sys.modules[name]]))",
        ],
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
    modules = loaded_by(
        f"import django\ndjango.setup()\n{imports}",
        SPARSEWRIGHT_DEBUG="1",
        DJANGO_SETTINGS_MODULE="config.settings",
    )
    assert not roots(modules) & {
        "torch",
        "transformers",
        "safetensors",
        "tokenizers",
        "numpy",
        "pst_worker",
        "pst_serve",
    }
    door = {"pst", "pst.config", "pst.errors", "pst.messages"}
    inside = {name for name in modules if within(name, "pst")}
    assert "pst.plan.planner" in inside
    assert {name for name in inside - door if not within(name, "pst.plan")} == set()


def test_the_workers_parent_never_loads_torch() -> None:
    # Celery's transport uses Django where it is installed; the worker must do without.
    without = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'transformers', 'django', 'hub', 'jobs']))\n"
    modules = loaded_by(f"{without}import pst_worker.celery, pst_worker.agent, pst_worker.attempt, pst_worker.__main__")
    assert not roots(modules) & {"torch", "transformers", "django", "rest_framework", "config", "hub", "jobs"}


def test_the_library_loads_nothing_of_the_platform() -> None:
    """The planner and the settings are torch-free too; the rest may have torch and what transformers brings."""
    library = ROOT / "workers" / "pst"
    plan = modules_below("plan")
    assert {"pst.plan.planner", "pst.plan.families"} <= set(plan)
    door = ["pst", "pst.config", "pst.errors", "pst.machine", "pst.messages", "pst.spec", *plan]
    modules = loaded_by("\n".join(f"import {name}" for name in door))
    assert not roots(modules) & {"torch", "transformers", "numpy", "pydantic", "httpx", "celery", "django"}
    rooms = sorted(path.parent.name for path in library.glob("*/__init__.py"))
    assert {"sparsity", "files", "model", "layers", "training", "export"} <= set(rooms)
    algorithm = [name for room in rooms for name in modules_below(room) if "triton" not in name]
    modules = loaded_by("\n".join(f"import {name}" for name in algorithm))
    assert not roots(modules) & {"pst_client", "pst_worker", "pydantic", "httpx", "celery", "django"}


def modules_below(room: str) -> list[str]:
    """Dotted names of all modules of a room of the library."""
    workers = ROOT / "workers"
    found = [file.relative_to(workers).with_suffix("").parts for file in sorted((workers / "pst" / room).rglob("*.py"))]
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in found]


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
    "Layers of the web tier": ("platform/hub/core/pagination.py", "import hub.accounts.models"),
    "Inside an app": ("jobs/models.py", "import jobs.services.moves"),
    "Workers know nothing of the web tier": ("workers/pst_client/contract.py", "import hub.core.errors"),
    "The algorithm library stands alone": ("workers/pst/errors.py", "import pydantic"),
    "Rooms of the algorithm library": ("workers/pst/plan/sizes.py", "import pst.sparsity.schedule"),
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


def views_of(app: str) -> list[tuple[str, Any]]:
    package = APPS[app].relative_to(ROOT).as_posix().removeprefix("platform/").replace("/", ".")
    return [item for item in views(get_resolver().url_patterns) if within(item[1].__module__, package)]


def test_every_view_has_the_one_error_shape_and_pagination() -> None:
    from hub.core import errors
    from hub.core.pagination import Pages

    found = [(path, view) for path, view in views(get_resolver().url_patterns) if path.startswith("api/v1/")]
    assert len(found) > 40
    for path, view in found:
        assert view().get_exception_handler() is errors.exception_handler, path
        assert issubclass(getattr(view, "pagination_class", None) or Pages, Pages), path


def test_a_setting_is_defined_once() -> None:
    """The OpenAPI schema has the settings of pst.config, with their bounds and descriptions."""
    from jobs.api.schemas import JobSubmission
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


@pytest.mark.parametrize("folder", ["layers/kernels", "export"])
def test_kernels_and_exporters_have_tests(folder: str) -> None:
    """Each module of the folder is imported by a test, or by another one of the folder that is."""
    package = f"pst.{folder.replace('/', '.')}"
    modules = {file.stem: file for file in (ROOT / "workers" / "pst" / folder).glob("[!_]*.py")}
    reached = {name for file in files("tests") if file not in OWN for name in modules_of(package, file)}
    while further := {name for stem in reached & set(modules) for name in modules_of(package, modules[stem])} - reached:
        reached |= further
    assert set(modules) <= reached, f"no test imports {sorted(set(modules) - reached)} of {package}"


def modules_of(package: str, file: Path) -> set[str]:
    names = [name for _, name in imported(parsed(file)) if within(name, package)]
    depth = package.count(".") + 1
    return {name.split(".")[depth] for name in names if name.count(".") >= depth}
