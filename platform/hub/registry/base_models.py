"""Base models: pretrained models that jobs start from, uploaded or imported from a folder. Safetensors only."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings
from django.db import transaction

from hub.accounts.models import User, Workspace
from hub.core.errors import TooLarge, UserError
from hub.core.streams import chunks
from hub.registry.files import MAX_JSON_BYTES, check_paths, parse_object
from hub.registry.models import ModelKind, ModelVersion
from hub.registry.services import CARD, CONFIG, REPORT, ensure_model, publish, store_blob, verify
from hub.registry.weights import Weights, read_header
from pst.messages import Message
from pst_client.contract import FileRef

WEIGHTS_INDEX = "model.safetensors.index.json"
ALLOWED = (
    CONFIG,
    "*.safetensors",
    WEIGHTS_INDEX,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    CARD,
    "LICENSE*",
    "NOTICE*",
)
"""Names of the files that a base model may have: config, weights, tokenizer, licence."""

UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npy", "*.npz", "*.h5", "*.msgpack", "*.py")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "*.bpe.model")


def allowed(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in ALLOWED)


@dataclass(frozen=True)
class Source:
    """A file on its way in. ``stream`` is binary and seekable."""

    name: str
    stream: IO[bytes]
    size: int


def check_names(names: Iterable[str]) -> None:
    """Raise UserError for a file that a base model may not have, or when config, weights or tokenizer are missing."""
    names = list(names)
    check_paths(names)
    for name in names:
        if any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in UNSAFE):
            raise UserError(
                Message(
                    "{name} can run code when it is loaded, so it is refused: upload the weights as "
                    "safetensors (model.safetensors).",
                    name=name,
                ),
                code="unsafe_file",
                details=[{"file": name, "message": Message("not safetensors")}],
            )
        if not allowed(name):
            raise UserError(
                Message(
                    "{name} is no file of a base model; send config.json, *.safetensors and the tokenizer's files.",
                    name=name,
                ),
                details=[{"file": name, "message": Message("unknown name")}],
            )
    if CONFIG not in names:
        raise UserError(
            Message("config.json is missing; it says what kind of model this is."), details=[{"file": CONFIG}]
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            Message("There are no weights: send model.safetensors."), details=[{"file": "model.safetensors"}]
        )
    if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in TOKENIZERS):
        raise UserError(
            Message("There is no tokenizer: send tokenizer.json, or the vocabulary."),
            details=[{"file": "tokenizer.json"}],
        )


def _read_json(source: Source) -> dict[str, Any]:
    source.stream.seek(0)
    return parse_object(source.stream.read(MAX_JSON_BYTES + 1), name=source.name)


def _check_index(index: Mapping[str, Any], names: set[str]) -> None:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(
            Message("{name} has no weight_map.", name=WEIGHTS_INDEX),
            details=[{"file": WEIGHTS_INDEX}],
        )
    for missing in sorted(set(shards.values()) - names):
        raise UserError(
            Message("{name} names {missing}, which is missing.", name=WEIGHTS_INDEX, missing=missing),
            details=[{"file": missing}],
        )


def inspect(sources: list[Source]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config, facts) of a base model's files; facts are ``architecture``, ``parameters``, ``weight_bytes``, ``dtypes``
    and ``tensors``. Raises UserError naming the file that is wrong."""
    by_name = {source.name: source for source in sources}
    check_names(source.name for source in sources)
    config = _read_json(by_name[CONFIG])
    kind = config.get("model_type")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", kind):
        raise UserError(
            Message("config.json has no model_type."),
            details=[{"file": CONFIG, "message": Message("model_type missing")}],
        )
    for name, source in by_name.items():
        if name.endswith(".json") and name != CONFIG and name not in {"vocab.json", "tokenizer.json"}:
            content = _read_json(source)
            if name == WEIGHTS_INDEX:
                _check_index(content, set(by_name))
    headers: list[Weights] = []
    for source in sources:
        if source.name.endswith(".safetensors"):
            source.stream.seek(0)
            headers.append(read_header(source.stream, size=source.size, name=source.name))
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    return config, {
        "architecture": named if isinstance(named, str) else kind,
        "parameters": sum(header.parameters for header in headers),
        "tensors": sum(header.tensors for header in headers),
        "dtypes": sorted({dtype for header in headers for dtype in header.dtypes}),
        "weight_bytes": sum(source.size for source in sources if source.name.endswith(".safetensors")),
    }


def add_base_model(
    *,
    workspace: Workspace,
    name: str,
    sources: list[Source],
    user: User | None = None,
    title: str = "",
    license: str = "",
    source: str = "",
) -> tuple[ModelVersion, bool]:
    """Publish files as the next version of a base model; (version, whether it is new).

    The same files with the same title, licence and source as the newest version are that version. Raises UserError
    naming the file that is wrong, and TooLarge.
    """
    config, facts = inspect(sources)
    total = sum(item.size for item in sources)
    if total > settings.BASE_MODEL_MAX_BYTES:
        raise TooLarge(
            Message(
                "The files have {total:,} bytes; this installation takes {most:,}.",
                total=total,
                most=settings.BASE_MODEL_MAX_BYTES,
            )
        )
    files = []
    for item in sources:
        item.stream.seek(0)
        blob = store_blob(parts=chunks(item.stream), max_bytes=settings.BASE_MODEL_MAX_BYTES)
        files.append(FileRef(path=item.name, sha256=blob.sha256, size=blob.size))
    lineage = {key: value for key, value in (("title", title), ("license", license), ("source", source)) if value}
    verified = verify(files)
    with transaction.atomic():
        model = ensure_model(workspace=workspace, name=name, kind=ModelKind.BASE, user=user, description=title)
        newest = model.versions.order_by("-number").first()
        if newest is not None and _same(newest, files, lineage):
            return newest, False
        return publish(
            model=model, files=verified, lineage=lineage, report={"base_model": facts}, config=config, user=user
        ), True


def _same(version: ModelVersion, files: list[FileRef], lineage: dict[str, Any]) -> bool:
    given = {file.path: file.sha256 for file in files}
    kept = {item["path"]: item["sha256"] for item in version.manifest["files"]}
    added = kept.keys() - given.keys()
    return version.manifest["lineage"] == lineage and given.items() <= kept.items() and added <= {CARD, REPORT}
