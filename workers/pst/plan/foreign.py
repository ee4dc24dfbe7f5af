"""Keys of a model's JSON files that name code, or a kernel of the public Hub, for a library to fetch and run.

Standard library only: the web tier refuses such files when they are uploaded, and the library before it loads them.
"""

from __future__ import annotations

import json
from pathlib import Path

from pst.errors import PSTError
from pst.messages import Message

KEYS = frozenset(
    {
        "auto_map",
        "trust_remote_code",
        "code_revision",
        "custom_generate",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
        "kernels",
        "use_kernels",
        "kernel_config",
        "hub_kernels",
        "quantization_config",
        "custom_pipelines",
        "transformers_weights",
        "per_layer_config",
        "compile_config",
        "distributed_config",
        "base_model_tp_plan",
        "base_model_pp_plan",
        "base_model_ep_plan",
    }
)
"""``quantization_config`` is among them, as it chooses a library and its kernels; those behind it choose a file, change
single layers, compile, or split a model over machines."""


NOT_READ_AS_CONFIGS = frozenset(
    {"tokenizer.json", "vocab.json", "model.safetensors.index.json", "report.json", "manifest.json"}
)


def check_folder(folder: Path) -> None:
    """Raise :class:`PSTError` where a JSON file of a model's folder, as a library reads it, has such a key."""
    for path in sorted(folder.glob("*.json")):
        if path.name in NOT_READ_AS_CONFIGS:
            continue
        try:
            key = names_code(json.loads(path.read_text("utf-8")))
        except (ValueError, RecursionError) as error:
            raise PSTError(Message("{name} is not valid JSON.", name=path.name)) from error
        if key:
            raise PSTError(
                Message(
                    "The model's {name} has the key {key}, which can make a library load code.", name=path.name, key=key
                )
            )


def names_code(value: object) -> str | None:
    """The first such key in ``value``, at any depth; None where there is none, or but with null or false."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            for key, inner in found.items():
                if key in KEYS and inner is not None and inner is not False:
                    return str(key)
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return None
