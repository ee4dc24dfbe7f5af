"""What a job's worker says it has made: a whole model of known files, with a whole report, or nothing is published."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from functools import cache
from importlib.resources import files as resources
from typing import Any

from hub.core import storage
from hub.core.errors import UserError
from hub.registry.files import MAX_JSON_BYTES, check_paths, parse_object
from hub.registry.fit import check_no_code
from hub.registry.services.base_models import Source, read_weights
from hub.registry.services.versions import VerifiedFiles
from hub.registry.weights import MAX_HEADER_BYTES, read_header
from pst.messages import Message
from pst_client import layout
from pst_client.contract import FileRef

NO_CONFIGS = {layout.WEIGHTS_INDEX, layout.COMPACT_INDEX, "tokenizer.json", "vocab.json"}
"""JSON without anything that a library takes for an instruction."""


class NoExport(UserError):
    code = "no_export"


def check_export(*, files: VerifiedFiles, report: Mapping[str, Any] | None) -> None:
    """Raise UserError, in one sentence, unless the files are an export with all its parts and nothing else."""
    check_paths(file.path for file in files)
    by_path = {file.path: file for file in files}
    for path in (layout.MANIFEST, layout.SIGNATURE):
        if path in by_path:
            raise NoExport(Message("{written} is written by the platform; leave it out.", written=path))
    if problem := layout.problem(by_path):
        raise NoExport(problem)
    if layout.COMPACT_INDEX not in by_path:
        raise NoExport(Message("The model has no {file}.", file=layout.COMPACT_INDEX))
    if not any(layout.matches(path, layout.TOKENIZERS) for path in by_path):
        raise NoExport(Message("The model has no tokenizer."))
    for path, file in by_path.items():
        if path.endswith(".json") and path not in NO_CONFIGS:
            check_no_code(_json(file), name=path)
    _check_dense({path: file for path, file in by_path.items() if "/" not in path})
    _check_compact(by_path)
    _check_report(report)


def _start(file: FileRef, most: int) -> bytes:
    with closing(storage.read(file.sha256, 0, min(file.size, most))) as reading:
        return b"".join(reading)


def _json(file: FileRef) -> dict[str, Any]:
    return parse_object(_start(file, MAX_JSON_BYTES + 1), name=file.path)


def _source(file: FileRef) -> Source:
    """The beginning of the file, which is all that is looked at; the size is that of the whole."""
    most = 8 + MAX_HEADER_BYTES if file.path.endswith(".safetensors") else MAX_JSON_BYTES + 1
    return Source(file.path, io.BytesIO(_start(file, most)), file.size)


def _check_dense(files: Mapping[str, FileRef]) -> None:
    """The dense weights may be left out; they are never there in part."""
    weights = {path for path in files if path.endswith(".safetensors")}
    if not weights and layout.WEIGHTS_INDEX not in files:
        return
    sources = {path: _source(files[path]) for path in {*weights, layout.WEIGHTS_INDEX} & files.keys()}
    _, places = read_weights(sources)
    _refuse_others(weights - set(places.values()))


def _check_compact(files: Mapping[str, FileRef]) -> None:
    index = _json(files[layout.COMPACT_INDEX])
    names, tensors = index.get("files", [index.get("file")]), index.get("tensors")
    if (
        index.get("format") != layout.COMPACT_FORMAT
        or not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or not isinstance(tensors, dict)
        or not tensors
    ):
        raise NoExport(Message("{index} does not describe a compact model.", index=layout.COMPACT_INDEX))
    held: set[str] = set()
    left = MAX_HEADER_BYTES
    for name in names:
        path = f"{layout.COMPACT}/{name}"
        if not name.endswith(".safetensors") or path not in files:
            raise NoExport(
                Message("{name} names {missing}, which is missing.", name=layout.COMPACT_INDEX, missing=name[:200])
            )
        source = _source(files[path])
        header = read_header(source.stream, size=source.size, name=path, most=left)
        left -= header.header_bytes
        held |= header.shapes.keys()
    for tensor in tensors:
        if not {tensor, f"{tensor}.values"} & held:
            raise NoExport(
                Message(
                    "{index} names the tensor {tensor}, which is in none of its files.",
                    index=layout.COMPACT_INDEX,
                    tensor=repr(tensor[:200]),
                )
            )
    there = {path for path in files if path.startswith(f"{layout.COMPACT}/") and path.endswith(".safetensors")}
    _refuse_others(there - {f"{layout.COMPACT}/{name}" for name in names})


def _refuse_others(paths: Iterable[str]) -> None:
    for path in sorted(paths):
        raise NoExport(Message("No index names {path}; leave it out.", path=path))


@cache
def _schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((resources("pst") / "report" / "schema.json").read_text("utf-8"))
    return found


def _check_report(report: Mapping[str, Any] | None) -> None:
    if missing := _missing(_schema(), report or {}, ""):
        raise NoExport(Message("The report has no {entry}.", entry=missing))


def _missing(schema: Mapping[str, Any], value: Mapping[str, Any], at: str) -> str | None:
    """The first entry that the schema requires, at any depth of objects, and the report has not."""
    for name in schema.get("required", []):
        if name not in value:
            return f"{at}{name}"
    for name, inner in schema.get("properties", {}).items():
        if isinstance(value.get(name), dict):
            if missing := _missing(inner, value[name], f"{at}{name}."):
                return missing
        elif name in value and inner.get("type") == "object":
            return f"{at}{name}"
    return None
