"""Which files a version of a model may have, and which it must: the platform publishes, and a node pulls, no others."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from pst.messages import Message

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
COMPACT = "sparse"
"""Folder of the compact file in a version."""
CONFIG = "config.json"
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
COMPACT_INDEX = f"{COMPACT}/index.json"
COMPACT_FORMAT = "sparsewright-sparse"
CARD, REPORT = "README.md", "report.json"
WRITTEN = (CARD, REPORT)
"""By the platform, beside the manifest and its signature, which no manifest lists."""
OF_A_MODEL = (
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
"""Names of files: config, weights, tokenizer, licence."""
OF_THE_COMPACT = ("index.json", "config.json", "engine.json", "*.safetensors")
UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npy", "*.npz", "*.h5", "*.msgpack", "*.py")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "*.bpe.model")
"""Of which a model has one."""


def matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unsafe(name: str) -> bool:
    return matches(name.lower(), UNSAFE)


def allowed(path: str) -> bool:
    """Whether a model's files may have one of this path, beside what the platform writes."""
    folder, _, name = path.rpartition("/")
    patterns = {"": OF_A_MODEL, COMPACT: OF_THE_COMPACT}.get(folder, ())
    return matches(name, patterns) and not unsafe(name)


def problem(paths: Collection[str]) -> Message | None:
    """Why files of these paths are no version of a model, in one sentence; None where they are."""
    for path in sorted(paths):
        if not allowed(path) and path not in WRITTEN:
            return Message("{path} is no file of a model; leave it out.", path=repr(path[:200]))
    if CONFIG not in paths:
        return Message("The model has no {file}.", file=CONFIG)
    if not {WEIGHTS, WEIGHTS_INDEX, COMPACT_INDEX} & set(paths):
        return Message("The model has no weights: neither {dense} nor {compact}.", dense=WEIGHTS, compact=COMPACT_INDEX)
    return None
