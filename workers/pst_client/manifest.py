"""A version's manifest, and the check that a folder holds exactly what it says.

Trust starts at the commit: it is the hash of the manifest (the first 40 hex digits of the sha256 over the bytes of
``manifest.json``, which are canonical JSON), and the manifest holds the hash of every file. So whoever knows the
commit can check every byte, whatever the way it came.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from pst.messages import Message
from pst_client.client import file_sha256
from pst_client.contract import FileRef, Manifest
from pst_client.errors import Damaged
from pst_client.layout import COMPACT, MANIFEST


def read(folder: Path, *, commit: str) -> Manifest:
    """The manifest in ``folder``. Raises :class:`Damaged` when it is missing, malformed or not that commit's."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise Damaged(Message("{folder} has no {file}.", folder=folder, file=MANIFEST)) from None
    # The file is written in the canonical form that the commit is a hash of.
    if (found := hashlib.sha256(content).hexdigest()[:40]) != commit:
        raise Damaged(
            Message(
                "The manifest in {folder} belongs to commit {found}, not {commit}.",
                folder=folder,
                found=found,
                commit=commit,
            )
        )
    try:
        manifest = Manifest.read_json(content)
    except ValidationError as error:
        raise Damaged(
            Message("{path} is no manifest: {error}.", path=folder / MANIFEST, error=error.errors()[0]["msg"])
        ) from None
    for file in manifest.files:
        inside(folder, file.path)
    return manifest


def inside(folder: Path, name: str) -> Path:
    """The path ``name`` in ``folder``. Raises :class:`Damaged` where it would leave the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise Damaged(Message("The platform names the unsafe path {path}.", path=repr(name)))
    return folder / path


def is_spared(path: str, manifest: Manifest) -> bool:
    """Whether the file holds dense weights that the version's compact file, a fraction of their size, can rebuild."""
    compact = any(file.path.startswith(f"{COMPACT}/") for file in manifest.files)
    return compact and "/" not in path and (path.endswith(".safetensors") or path == "model.safetensors.index.json")


def holds(folder: Path, file: FileRef) -> bool:
    """Whether the folder has the file already, byte for byte."""
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == file.sha256


def verify(folder: Path, files: list[FileRef]) -> None:
    """Check size and sha256 of each file. Raises :class:`Damaged` naming the first one that is missing or differs."""
    for file in files:
        path = folder / file.path
        if not path.is_file():
            raise Damaged(Message("{path} is missing.", path=file.path))
        if (size := path.stat().st_size) != file.size:
            raise Damaged(
                Message(
                    "{path} has {size} bytes, the manifest says {wanted}.",
                    path=file.path,
                    size=size,
                    wanted=file.size,
                )
            )
        if file_sha256(path) != file.sha256:
            raise Damaged(Message("{path} does not have the sha256 that the manifest says.", path=file.path))
