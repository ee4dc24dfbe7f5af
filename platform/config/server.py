"""``python -m config.server``: the web tier on a port, or on a socket that is handed over."""

from __future__ import annotations

import argparse
import socket
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from pst_client.connections import LimitedConnection, allow_many


def configuration(app: Any, **address: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,  # Django's settings say what is logged, and how
        access_log=False,
        proxy_headers=False,  # Django reads them, where the settings say that a proxy is there
        server_header=False,
        backlog=1024,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=5,
        **address,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="number of an inherited socket, instead of host and port")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    allow_many()
    config = configuration("config.asgi:application", host=options.host, port=options.port, workers=options.workers)
    listener = config.bind_socket() if options.fd is None else socket.socket(fileno=options.fd)
    if options.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        Multiprocess(config, [listener]).run()


if __name__ == "__main__":
    main()
