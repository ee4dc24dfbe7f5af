"""The files of a version as they come in: their paths, and JSON that is safe to keep in the database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from hub.core.errors import UserError
from pst.messages import Message

MAX_PATH = 255
MAX_JSON_BYTES = 16 * 1024 * 1024


def path_problem(path: str) -> str | None:
    """Why ``path`` can't name a file of a version, or None. Paths are relative, with forward slashes."""
    if not path or len(path) > MAX_PATH:
        return Message("a path has 1 to {most} characters", most=MAX_PATH)
    if "\\" in path or any(ord(character) < 32 or ord(character) == 127 for character in path):
        return Message("backslashes and control characters are not allowed")
    if any(part in {"", ".", ".."} for part in path.split("/")):
        return Message("it must be relative, without empty parts, . or ..")
    return None


def check_paths(paths: Iterable[str]) -> None:
    """Raise UserError unless every path is allowed, unique (without regard to case), and no file is also a folder."""
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        if problem := path_problem(path):
            raise UserError(
                Message("The path {path} is not allowed: {problem}.", path=repr(path), problem=problem),
                details=[{"file": path}],
            )
        folded = path.casefold()
        if folded in seen:
            raise UserError(
                Message("The path {path} is there twice; each file needs a path of its own.", path=repr(path))
            )
        seen[folded] = path
        parts = folded.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for folder in folders & seen.keys():
        raise UserError(Message("{path} is both a file and a folder; rename one of them.", path=repr(seen[folder])))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_object(raw: bytes, *, name: str, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """``raw`` as a JSON object. Raises UserError naming the file: not UTF-8, not JSON, not an object, NaN, NUL."""
    if len(raw) > most:
        raise UserError(
            Message("{name} is larger than {most:,} bytes.", name=name, most=most),
            details=[{"file": name}],
        )
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
        # The database's JSON can't hold NUL, however it was written.
        if "\\u0000" in text.replace("\\\\", ""):
            raise ValueError("it contains a NUL character")
    except (ValueError, RecursionError) as error:
        raise UserError(
            Message("{name} is not valid JSON: {error}.", name=name, error=error),
            details=[{"file": name, "message": str(error)}],
        ) from None
    if not isinstance(value, dict):
        raise UserError(
            Message("{name} must hold a JSON object.", name=name),
            details=[{"file": name, "message": Message("not an object")}],
        )
    return value
