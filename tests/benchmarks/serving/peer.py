"""One engine in a process of its own: ``python -m tests.benchmarks.serving.peer ENGINE FOLDER THREADS``.

Reads lines "ROWS TOKENS"; answers each with a JSON line: the seconds of one pass over that many made rows, the
process's resident memory, and the first row's logits, by which the parent compares what the engines compute.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Call = Callable[[list[list[int]]], Any]

ENGINES = (
    "sparse float32",
    "sparse int8",
    "torch float32",
    "torch bfloat16",
    "torch compile",
    "onnxruntime float32",
    "onnxruntime int8",
    "openvino float32",
    "openvino bfloat16",
)


def made(rows: int, tokens: int, vocabulary: int) -> list[list[int]]:
    """Token ids, the same in every process."""
    return [[5 + (row * 7919 + place * 104729) % (vocabulary - 5) for place in range(tokens)] for row in range(rows)]


def sparse(folder: Path, threads: int, precision: str) -> Call:
    from pst_native import Precision

    from pst.files.formats import Compact
    from pst.native.choice import Chooser
    from pst.native.encoders import NativeEncoder
    from pst.plan.families import ModelDescription

    config = json.loads((folder / "config.json").read_text("utf-8"))
    chooser = Chooser({Precision[precision.upper()]}, threads)
    compact = Compact(folder / "sparse", check=False)
    encoder = NativeEncoder(ModelDescription(config, labels=len(config["id2label"])), compact, chooser)
    return lambda ids: encoder.logits(ids, None, threads)


def torch_model(folder: Path, threads: int, kind: str) -> Call:
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    run = torch.compile(model) if kind == "compile" else model

    def call(ids: list[list[int]]) -> Any:
        with torch.inference_mode():
            return run(input_ids=torch.tensor(ids)).logits.float()

    return call


def onnx_file(folder: Path) -> Path:
    """The dense model for the other engines, made once by the parent."""
    return folder / "model.onnx"


def onnxruntime(folder: Path, threads: int, kind: str) -> Call:
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    path = onnx_file(folder)
    if kind == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        small = folder / "model.int8.onnx"
        if not small.exists():
            quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True)
        path = small
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(ids: list[list[int]]) -> Any:
        given = np.array(ids, dtype=np.int64)
        return session.run(None, {"input_ids": given, "attention_mask": np.ones_like(given)})[0]

    return call


def openvino(folder: Path, threads: int, kind: str) -> Call:
    import numpy as np
    import openvino as ov

    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    hints["INFERENCE_PRECISION_HINT"] = "bf16" if kind == "bfloat16" else "f32"
    compiled = ov.Core().compile_model(str(onnx_file(folder)), "CPU", hints)

    def call(ids: list[list[int]]) -> Any:
        given = np.array(ids, dtype=np.int64)
        return compiled({"input_ids": given, "attention_mask": np.ones_like(given)})[0]

    return call


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(engine: str, folder: Path, threads: int) -> None:
    name, kind = engine.split()
    makers = {"sparse": sparse, "torch": torch_model, "onnxruntime": onnxruntime, "openvino": openvino}
    begin = time.perf_counter()
    call = makers[name](folder, threads, kind)
    loaded = time.perf_counter() - begin
    vocabulary = json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"]
    sys.stdout.write(json.dumps({"load": loaded}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        rows, tokens = map(int, line.split())
        ids = made(rows, tokens, vocabulary)
        begin = time.perf_counter()
        logits = call(ids)
        seconds = time.perf_counter() - begin
        answer = {"seconds": seconds, "resident": resident(), "logits": [float(value) for value in logits[0]]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
