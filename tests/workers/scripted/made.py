"""What a training makes, as small as it can be: an export with all its parts, and a report with all its entries."""

from __future__ import annotations

import json
import struct
from typing import Any

METRICS = {"accuracy": 0.9, "interval": [0.8, 1.0], "intervals": {}}
QUALITY = {
    "rows": 3,
    "dense": 0.9,
    "dense_interval": [0.8, 1.0],
    "sparse": 0.9,
    "sparse_interval": [0.8, 1.0],
    "difference": 0.0,
    "difference_interval": [0.0, 0.0],
}
DROP = {"value": 0.9, "drop": 0.0, "drop_interval": [0.0, 0.0]}
REPORT: dict[str, Any] = {
    "format": "sparsewright-report",
    "version": 2,
    "task": "classification",
    "primary": "accuracy",
    "method": "pst",
    "labels": ["billing", "shipping", "returns"],
    "settings": {},
    "plan": {"sparsity_by_group": {}},
    "seed": 42,
    "rows": {"train": 12, "validation": 3},
    "metrics": {"validation": METRICS, "test": None},
    "dense": {"validation": METRICS, "test": None},
    "agreement": 1.0,
    "agreement_split": "validation",
    "confusion": None,
    "errors": None,
    "sparsity": {"target": 0.9, "reached": 0.9, "matrices": []},
    "params": {"total": 4, "prunable": 4, "nonzero": 1, "trainable": 1},
    "bytes": {"dense": 16, "sparse": 8, "expanded": 16},
    "best_step": 1,
    "steps": 1,
    "seconds": {},
    "device": {"type": "cpu", "name": "x86_64", "threads": 1},
    "versions": {},
    "verify": {"ok": True, "message": "", "rows": 3},
    "measures": {
        "quality": {"metric": "accuracy", "splits": {"validation": QUALITY}},
        "flops": None,
        "time": None,
        "trainable": {"dense": 4, "sparse": 1, "share": 0.25},
        "size": {
            "files": {"dense": 16, "sparse": 8},
            "memory": {"dense": 16, "sparse": 8},
            "memory_note": "",
            "parameters": {"dense": 4, "sparse": 4},
            "nonzeros": {"dense": 4, "sparse": 1},
        },
        "carbon": {"kwh": None, "grams_co2e": None, "seconds": 1, "measured_seconds": 0, "reason": "not measured"},
        "loyalty": {
            "split": "validation",
            "agreement": 1.0,
            "agreement_interval": [1.0, 1.0],
            "closeness": None,
            "closeness_interval": None,
        },
        "robustness": {
            "metric": "accuracy",
            "split": "validation",
            "rows": 3,
            "clean": {"dense": 0.9, "sparse": 0.9},
            "kinds": {key: {"dense": DROP, "sparse": DROP} for key in ("typos", "word_drop", "case")},
            "drop": {"dense": 0.0, "sparse": 0.0},
        },
    },
    "pictures": {"distributions": {}, "matrices": []},
}


def tensors(mark: str) -> bytes:
    """A safetensors file of one matrix."""
    header = {"__metadata__": {"mark": mark}, "weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(16)


def export(mark: str, config: dict[str, Any] | None = None) -> dict[str, bytes]:
    """The files by their paths; ``mark`` makes the weights those of one job."""
    index = {
        "format": "sparsewright-sparse",
        "version": 1,
        "file": "model.sparse.safetensors",
        "tensors": {"weight": {"shape": [2, 2], "dtype": "float32", "encoding": "dense"}},
    }
    return {
        "config.json": json.dumps(config or {"model_type": "bert"}).encode(),
        "model.safetensors": tensors(mark),
        "tokenizer.json": b"{}",
        "sparse/index.json": json.dumps(index).encode(),
        "sparse/model.sparse.safetensors": tensors(mark),
    }


def whole(report: dict[str, Any], base: dict[str, Any] = REPORT) -> dict[str, Any]:
    """The report with what it lacks."""
    inner = {key: whole(value, base[key]) for key, value in report.items() if isinstance(value, dict) and base.get(key)}
    return {**base, **report, **inner}
