"""``python -m pst_serve --host HOST --port PORT``: the serving node as a process (see workers/README.md).

Port 0 takes a free one. ``--measure`` measures this machine anew, now, and ends; a node that runs on the same cache
folder tells the platform. Exit codes: 0 stopped by SIGTERM or Ctrl-C; 1 the port or the cache folder is in use, or the
platform refuses this node; 2 a setting is missing.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from pst import machine
from pst_client.client import Platform
from pst_client.connections import LimitedConnection, allow_many
from pst_client.environment import SettingsMissing
from pst_serve.app import make_app
from pst_serve.authentication import TokenAuthenticator
from pst_serve.engine import NativeEngine
from pst_serve.measurable import Expanding, sparse
from pst_serve.node import Node
from pst_serve.profile import Profiler
from pst_serve.settings import cache_dir, from_environment
from pst_serve.store import AlreadyRunning, Store

log = logging.getLogger("pst_serve")

DRAIN_SECONDS = 30
ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 (compared with, not bound)


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def address(host: str, listener: socket.socket) -> str:
    """Where others reach the listener, when nobody says otherwise."""
    name = socket.gethostname() if host in ANYWHERE else host
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


def configuration(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pst_serve", description="Serve the versions that a platform deploys."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any free port")
    parser.add_argument("--measure", action="store_true", help="measure this machine anew, and end")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    machine.limit_threads(os.environ)
    if options.measure:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        Profiler(folder, Expanding(), sparse()).write()
        return 0
    try:
        settings = from_environment()
    except SettingsMissing as error:
        log.error("%s", error)
        return 2
    store = Store(settings.cache_dir, endpoint=f"{settings.url.rstrip('/')}/hf", token=settings.node_token)
    try:
        store.open()
        listener = listen(options.host, options.port)
    except AlreadyRunning as error:
        log.error("%s", error)
        return 1
    except OSError as error:
        log.error("%s:%d can't be listened on: %s", options.host, options.port, error.strerror)
        return 1
    with Platform(settings.url, settings.node_token) as platform:
        url = settings.public_url or address(options.host, listener)
        profiler = Profiler(settings.cache_dir, Expanding(), sparse()) if settings.measures else None
        refusals: list[str] = []

        def refused(reason: str) -> None:
            log.error("%s", reason)
            refusals.append(reason)
            server.should_exit = True

        node = Node(settings, platform, NativeEngine(), store, url=url, profiler=profiler, refused=refused)
        app = make_app(
            node.cache,
            TokenAuthenticator(platform),
            node.problem,
            node.stop,
            metrics_token=settings.metrics_token,
        )
        allow_many()
        server = uvicorn.Server(configuration(app))
        node.start()
        # Uvicorn stops on a signal and then raises it again for whoever handled it before.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, frame: None)
        server.run(sockets=[listener])
    store.close()
    return 1 if refusals else 0


if __name__ == "__main__":
    sys.exit(main())
