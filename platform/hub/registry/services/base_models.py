"""Base models: pretrained models that jobs start from, uploaded or imported from a folder. Safetensors only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from django.conf import settings
from django.db import transaction

from hub.accounts.models import User, Workspace
from hub.core.errors import TooLarge, UserError
from hub.core.streams import chunks
from hub.registry import sentencepieces, tokenizers
from hub.registry.entries import GENERATION, check_entries
from hub.registry.files import MAX_JSON_BYTES, check_paths, parse_object
from hub.registry.finite import check_finite
from hub.registry.fit import check_config, check_no_code, check_shapes
from hub.registry.models import ModelKind, ModelVersion
from hub.registry.services.models import ensure_model
from hub.registry.services.versions import publish, store_blob, verify
from hub.registry.weights import MAX_HEADER_BYTES, Weights, read_header
from pst.messages import Message
from pst_client.contract import FileRef
from pst_client.layout import CARD, CONFIG, REPORT, TOKENIZERS, WEIGHTS, WEIGHTS_INDEX, allowed, matches, unsafe

MAX_CONFIG_BYTES = 1024 * 1024
TOKENIZER_FILES = {
    "vocab.txt",
    "vocab.json",
    tokenizers.FILE,
    tokenizers.CONFIG,
    tokenizers.SPECIAL,
    tokenizers.ADDED,
    *sentencepieces.FILES,
}


@dataclass(frozen=True)
class Source:
    """A file on its way in. ``stream`` is binary and seekable; ``folder`` is where it lay, which is not kept."""

    name: str
    stream: IO[bytes]
    size: int
    folder: str = ""

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name


def of_the_model(sources: Iterable[Source]) -> list[Source]:
    """The files beside the config.json that describes a model, without their folder. A repository of
    sentence-transformers has a config.json and weights for each of its modules, and what sends a form may drop the
    folders: then the config.json with a model_type is the model's, and the largest file of weights. Raises UserError.
    """
    placed = []
    for source in sources:
        folder, _, name = source.name.rpartition("/")
        placed.append(replace(source, name=name, folder=folder))
    configs = [source for source in placed if source.name == CONFIG and _describes_a_model(source)]
    if not configs:
        return [source for source in placed if not source.folder]
    nearest = min(configs, key=lambda source: len(source.folder.split("/")) if source.folder else 0)
    beside = [source for source in placed if source.folder == nearest.folder]
    weights = max((source for source in beside if source.name == WEIGHTS), key=lambda item: item.size, default=None)
    others = {
        id(source)
        for source in beside
        if (source.name == CONFIG and not _describes_a_model(source))
        or (source.name == WEIGHTS and source is not weights)
    }
    return [source for source in beside if id(source) not in others]


def _describes_a_model(source: Source) -> bool:
    """A config.json that is broken counts as one, so that what is wrong with it is said."""
    try:
        return "model_type" in _read_json(source, most=MAX_CONFIG_BYTES)
    except UserError:
        return True


def split_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """(files of a base model, others that are left out: what else a public repository holds).

    Raises UserError where the weights are but in files that can run code, and when config, weights or tokenizer are
    missing.
    """
    given = list(names)
    check_paths(given)
    safe = any(name.endswith(".safetensors") for name in given)
    for name in given:
        if unsafe(name) and not safe:
            raise UserError(
                Message(
                    "{name} can run code when it is loaded, so it is refused: upload the weights as "
                    "safetensors (model.safetensors).",
                    name=name,
                ),
                code="unsafe_file",
                details=[{"file": name, "message": Message("not safetensors")}],
            )
    names = [name for name in given if allowed(name)]
    if CONFIG not in names:
        raise UserError(
            Message("config.json is missing; it says what kind of model this is."), details=[{"file": CONFIG}]
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError(
            Message("There are no weights: send model.safetensors."), details=[{"file": "model.safetensors"}]
        )
    if not any(matches(name, TOKENIZERS) for name in names):
        raise UserError(
            Message("There is no tokenizer: send tokenizer.json, or the vocabulary."),
            details=[{"file": "tokenizer.json"}],
        )
    return names, [name for name in given if not allowed(name)]


def _read_json(source: Source, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    source.stream.seek(0)
    return parse_object(source.stream.read(most + 1), name=source.name, most=most)


def _files_of_tensors(by_name: Mapping[str, Source]) -> dict[str, str] | None:
    """The file of each tensor, as the index says; None where all tensors are in one file. Raises UserError."""
    if WEIGHTS in by_name:
        return None
    if WEIGHTS_INDEX not in by_name:
        raise UserError(
            Message("The weights lie in several files; send {name} too, which says what is where.", name=WEIGHTS_INDEX),
            details=[{"file": WEIGHTS_INDEX}],
        )
    shards = _read_json(by_name[WEIGHTS_INDEX]).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(Message("{name} has no weight_map.", name=WEIGHTS_INDEX), details=[{"file": WEIGHTS_INDEX}])
    for missing in sorted(set(shards.values()) - by_name.keys()):
        raise UserError(
            Message("{name} names {missing}, which is missing.", name=WEIGHTS_INDEX, missing=missing),
            details=[{"file": missing}],
        )
    return shards


def read_weights(by_name: Mapping[str, Source]) -> tuple[dict[str, Weights], dict[str, str]]:
    """What the header of each file says, and the file of each tensor that is used. Raises UserError."""
    places = _files_of_tensors(by_name)
    headers: dict[str, Weights] = {}
    left = MAX_HEADER_BYTES
    for name in sorted(by_name):
        if name.endswith(".safetensors"):
            by_name[name].stream.seek(0)
            headers[name] = read_header(by_name[name].stream, size=by_name[name].size, name=name, most=left)
            left -= headers[name].header_bytes
    if places is None:
        return headers, dict.fromkeys(headers[WEIGHTS].shapes, WEIGHTS)
    for tensor, name in places.items():
        if name not in headers or tensor not in headers[name].shapes:
            raise UserError(
                Message(
                    "{index} says that {name} holds {tensor}, which it does not.",
                    index=WEIGHTS_INDEX,
                    name=name,
                    tensor=repr(tensor),
                ),
                details=[{"file": WEIGHTS_INDEX}],
            )
    return headers, places


def inspect(sources: list[Source]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(config, facts) of a base model's files; facts are ``architecture``, ``parameters``, ``weight_bytes``, ``dtypes``
    and ``tensors``. Raises UserError naming the file that is wrong."""
    by_name = {source.name: source for source in sources}
    config = _read_json(by_name[CONFIG], most=MAX_CONFIG_BYTES)
    kind = config.get("model_type")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", kind):
        raise UserError(
            Message("config.json has no model_type."),
            details=[{"file": CONFIG, "message": Message("model_type missing")}],
        )
    check_no_code(config, name=CONFIG)
    for name, source in by_name.items():
        if name.endswith(".json") and name not in {CONFIG, WEIGHTS_INDEX, "vocab.json", tokenizers.FILE}:
            check_no_code(_read_json(source), name=name)
    check_config(config)
    check_entries(config, _read_json(by_name[GENERATION]) if GENERATION in by_name else {})
    by_file, places = read_weights(by_name)
    headers = list(by_file.values())
    check_shapes(config, {tensor: by_file[name].shapes[tensor] for tensor, name in places.items()})
    read = {name: _read(source) for name, source in by_name.items() if name in TOKENIZER_FILES}
    tokenizers.check(read, rows=config["vocab_size"])
    for name, header in by_file.items():
        check_finite(by_name[name].stream, header, name=name)
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    return config, {
        "architecture": named if isinstance(named, str) else kind,
        "parameters": sum(header.parameters for header in headers),
        "tensors": sum(header.tensors for header in headers),
        "dtypes": sorted({dtype for header in headers for dtype in header.dtypes}),
        "weight_bytes": sum(source.size for source in sources if source.name.endswith(".safetensors")),
    }


def _read(source: Source) -> bytes:
    source.stream.seek(0)
    return source.stream.read(tokenizers.MAX_BYTES + 1)


def add_base_model(
    *,
    workspace: Workspace,
    name: str,
    sources: list[Source],
    user: User | None = None,
    title: str = "",
    license: str = "",
    source: str = "",
) -> tuple[ModelVersion, bool, list[str]]:
    """Publish files as the next version of a base model; (version, whether it is new, names that were left out).

    The same files with the same title, licence and source as the newest version are that version. Raises UserError
    naming the file that is wrong, and TooLarge.
    """
    given = [item.name for item in sources]
    sources = of_the_model(sources)
    names, _ = split_names(item.name for item in sources)
    sources = [item for item in sources if item.name in names]
    left_out = [*(Counter(given) - Counter(item.path for item in sources)).elements()]
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
            return newest, False, left_out
        version = publish(
            model=model, files=verified, lineage=lineage, report={"base_model": facts}, config=config, user=user
        )
    return version, True, left_out


def _same(version: ModelVersion, files: list[FileRef], lineage: dict[str, Any]) -> bool:
    given = {file.path: file.sha256 for file in files}
    kept = {item["path"]: item["sha256"] for item in version.manifest["files"]}
    added = kept.keys() - given.keys()
    return version.manifest["lineage"] == lineage and given.items() <= kept.items() and added <= {CARD, REPORT}
