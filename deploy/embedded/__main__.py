"""``python -m embedded demo|up``: what `make demo` and `make up` run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from embedded.bootstrap import ROOT
from embedded.demo import Options, OptionsError, demo
from embedded.stack import Stack, StackError


def up() -> int:
    """Run the stack in the foreground on the data folder ``.data`` (or DATA_DIR) until Ctrl-C."""
    folder = Path(os.environ.get("DATA_DIR") or ROOT / ".data")
    port = os.environ.get("PORT", "8000")
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise OptionsError(f"PORT={port} is no port number.")
    print("Starting Sparsewright …", flush=True)
    with Stack(folder, port=int(port)) as stack:
        print(f"\n  Open     {stack.url}")
        if stack.needs_owner():
            print(f"  Sign in  make the first owner with the setup code {stack.setup_code}")
        else:
            print("  Sign in  with the user name and password that you chose before")
        print(f"  API      {stack.url}/api/v1/docs")
        print(f"  Data     {stack.folder}   (logs in logs/)")
        print("\nCtrl-C stops it; the data stay.", flush=True)
        stack.watch()
    return 0


def main() -> int:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    # A SIGTERM (a closed terminal, a service manager) ends everything as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command not in {"demo", "up"}:
        print("usage: python -m embedded demo|up", file=sys.stderr)
        return 2
    try:
        return up() if command == "up" else demo(Options.from_environment())
    except (StackError, OptionsError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
