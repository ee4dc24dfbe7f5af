"""Versions of models, out of bytes that the tests choose."""

from __future__ import annotations

import json
import struct
from typing import Any
from uuid import UUID

from hub.accounts.models import Workspace
from hub.registry.models import ModelKind, ModelVersion
from hub.registry.services.models import ensure_model
from hub.registry.services.versions import publish, store_blob, verify
from pst.plan.families import ModelDescription
from pst_client.contract import FileRef

CONFIG = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
BASE = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 20,
    "max_position_embeddings": 16,
}
"""A config with all its sizes."""
REPORT = {
    "metrics": {"validation": {"accuracy": 0.91, "macro_f1": 0.9}, "test": {"accuracy": 0.9, "macro_f1": 0.89}},
    "dense": {"validation": {"accuracy": 0.92, "macro_f1": 0.91}, "test": {"accuracy": 0.91, "macro_f1": 0.9}},
    "sparsity": {"reached": 0.9},
    "params": {"total": 22_000_000, "nonzero": 13_000_000},
    "bytes": {"dense": 90_000_000, "sparse": 50_000_000},
}


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]] | None = None) -> bytes:
    """A safetensors file of (dtype, shape, bytes) per name, put together by hand."""
    tensors = {"w": ("F32", [2, 3], bytes(range(24)))} if tensors is None else tensors
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def base_files(config: dict[str, Any] | None = None, tokens: int = 20, **changed: bytes | None) -> dict[str, bytes]:
    """The files of a tiny base model that belong together; None leaves one out."""
    config = BASE if config is None else config
    weights = {
        spec.name: ("F32", list(spec.shape), bytes(4 * spec.numel))
        for spec in ModelDescription(config, labels=2).tensors
        if not spec.head
    }
    found: dict[str, bytes | None] = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors(weights),
        "tokenizer.json": word_tokenizer(tokens),
        "tokenizer_config.json": b'{"tokenizer_class": "TokenizersBackend", "pad_token": "w0"}',
    }
    return {name: content for name, content in {**found, **changed}.items() if content is not None}


def word_tokenizer(tokens: int, added: dict[str, int] | None = None) -> bytes:
    """A tokenizer.json of so many words w0, w1, ..., and tokens added to them."""
    vocabulary = {f"w{number}": number for number in range(tokens)}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    more = [{"id": number, "content": content, "special": True, **plain} for content, number in (added or {}).items()]
    return json.dumps(
        {"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"}, "added_tokens": more}
    ).encode()


def files(**changed: bytes) -> dict[str, bytes]:
    """A small version's files: one in a folder, one empty."""
    found = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors": safetensors(),
        "sparse/index.json": b'{"format": "test"}',
        "sparse/model.sparse.safetensors": bytes(range(256)) * 40,
        "tokenizer.json": b'{"version": "1.0"}',
        "labels.txt": b"",
    }
    return {**found, **changed}


def stored(contents: dict[str, bytes]) -> list[FileRef]:
    """The contents as blobs, by their references."""
    found = []
    for path, content in contents.items():
        blob = store_blob(parts=[content], max_bytes=2**40)
        found.append(FileRef(path=path, sha256=blob.sha256, size=blob.size))
    return found


def published(
    workspace: Workspace,
    name: str = "tickets",
    *,
    contents: dict[str, bytes] | None = None,
    kind: ModelKind = ModelKind.SPARSE,
    lineage: dict[str, Any] | None = None,
    report: dict[str, Any] | None = None,
    job_id: UUID | None = None,
) -> ModelVersion:
    """The next version of ``workspace/name``."""
    return publish(
        model=ensure_model(workspace=workspace, name=name, kind=kind),
        files=verify(stored(files() if contents is None else contents)),
        lineage={"dataset": {"name": "tickets", "sha256": "ab" * 32}} if lineage is None else lineage,
        report=REPORT if report is None else report,
        job_id=job_id,
    )
