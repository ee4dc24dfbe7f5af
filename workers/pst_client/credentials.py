"""Where the command line keeps the platform's address, the user's token, and the key that the platform signs with.

``SPARSEWRIGHT_URL`` and ``SPARSEWRIGHT_TOKEN`` win over the file, which is ``credentials.json`` in
``SPARSEWRIGHT_CONFIG`` (a folder), or in ``~/.config/sparsewright``. Only its owner can read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pst_client.environment import PREFIX
from pst_client.errors import PlatformError

FILE = "credentials.json"


class NotSignedIn(PlatformError):
    def __init__(self) -> None:
        message = f"You are not signed in: run pst login, or set {PREFIX}URL and {PREFIX}TOKEN."
        super().__init__("not_signed_in", message, status=401)


@dataclass(frozen=True)
class Credentials:
    """``signing_key`` is the platform's public key at the time of signing in; None where it is not known."""

    url: str
    token: str
    signing_key: str | None = None


def path(environ: Mapping[str, str] = os.environ) -> Path:
    folder = environ.get(PREFIX + "CONFIG")
    if folder:
        return Path(folder) / FILE
    home = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "sparsewright" / FILE


def saved(environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """What ``pst login`` wrote, if anything. Raises PlatformError for a damaged file."""
    file = path(environ)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        key = value.get("signing_key")
        return Credentials(str(value["url"]), str(value["token"]), None if key is None else str(key))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError("credentials", f"{file} can't be read ({error}); delete it and run pst login.") from None


def find(environ: Mapping[str, str] = os.environ) -> Credentials:
    """The credentials to use. Raises :class:`NotSignedIn`."""
    url, token = environ.get(PREFIX + "URL"), environ.get(PREFIX + "TOKEN")
    if url and token:
        return Credentials(url, token)
    kept = saved(environ)
    if kept is None:
        raise NotSignedIn
    # A saved token is never sent to another address than the one that gave it.
    if url and url.rstrip("/") != kept.url.rstrip("/"):
        raise NotSignedIn
    return replace(kept, token=token or kept.token)


def save(credentials: Credentials, environ: Mapping[str, str] = os.environ) -> Path:
    file = path(environ)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = file.with_name(f"{FILE}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(credentials), stream)
    partial.replace(file)
    return file
