"""``python -m tests.benchmarks.serving``: the sparse engine against dense engines, all in turns on this machine.

Each engine is a process of its own; every round asks each once, in an order that changes, so that all meet the same
machine. What is printed is the median of the rounds' ratios to torch float32, with the middle half of them. Models have
the real shapes with random weights, pruned at random places: an engine's time does not depend on the values.

ONNX Runtime and OpenVINO are installed into a folder of their own on the first run (``--peers none`` leaves them out).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pst_native
import torch
from transformers import BertConfig, BertForSequenceClassification

from pst.files.formats import write_sparse
from pst_client.hardware import processor
from tests.benchmarks.serving.peer import ENGINES, onnx_file

PACKAGES = ("onnx==1.23.1", "onnxruntime==1.32.0", "openvino==2026.4.1")
SHAPES: dict[str, dict[str, int]] = {
    "bert-base": {},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}
BASE = "torch float32"
WARM_UP = 2


def make(folder: Path, shape: str, sparsity: float, *, onnx: bool) -> None:
    """A model of that shape and sparsity: dense and compact files, and an ONNX file of the dense one."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=3, **SHAPES[shape])).eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layer." in name:
            module.weight.data *= torch.rand_like(module.weight) >= sparsity
    model.save_pretrained(folder)
    write_sparse(model.state_dict(), folder / "sparse")
    if onnx:
        ids = torch.ones(2, 16, dtype=torch.long)
        axes = {name: {0: "rows", 1: "tokens"} for name in ("input_ids", "attention_mask")}
        torch.onnx.export(
            model,
            (ids, ids),
            onnx_file(folder),
            input_names=list(axes),
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )


class Peer:
    """A running engine."""

    def __init__(self, engine: str, folder: Path, threads: int, packages: Path) -> None:
        self.engine = engine
        path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(packages)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serving.peer", engine, str(folder), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
        )
        self.load = self._read()["load"]

    def ask(self, rows: int, tokens: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rows} {tokens}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.engine} ended")
        found: dict[str, Any] = json.loads(line)
        return found


def measure(peers: list[Peer], rows: int, tokens: int, rounds: int) -> list[dict[str, Any]]:
    for peer in peers:
        for _ in range(WARM_UP):
            peer.ask(rows, tokens)
    found: dict[str, list[dict[str, Any]]] = {peer.engine: [] for peer in peers}
    for number in range(rounds):
        for place in range(len(peers)):
            peer = peers[(place + number) % len(peers)]
            found[peer.engine].append(peer.ask(rows, tokens))
    base = [answer["seconds"] for answer in found[BASE]]
    wanted = torch.tensor(found[BASE][0]["logits"])
    lines = []
    for peer in peers:
        answers = found[peer.engine]
        ratios = sorted(one / answer["seconds"] for one, answer in zip(base, answers, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        logits = torch.tensor(answers[0]["logits"])
        lines.append(
            {
                "engine": peer.engine,
                "rows": rows,
                "tokens": tokens,
                "ms": statistics.median(answer["seconds"] for answer in answers) * 1000,
                "times": middle,
                "from": low,
                "to": high,
                "load_seconds": peer.load,
                "resident_mb": answers[-1]["resident"] / 1e6,
                "error": float((logits - wanted).norm() / wanted.norm()),
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving", description=__doc__)
    parser.add_argument("--shapes", default="bert-base,minilm")
    parser.add_argument("--sparsities", default="0.5,0.8,0.9,0.95,0.99")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batches", default="1x16,1x128,8x128", help="rows x tokens, by commas")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", choices=("all", "none"), default="all")
    parser.add_argument("--work", type=Path, default=Path(".data/benchmarks/serving"), help="for models and peers")
    parser.add_argument("--out", type=Path, help="append the raw lines here")
    options = parser.parse_args()
    work, packages = options.work.resolve(), options.work.resolve() / "packages"
    engines = [name for name in ENGINES if options.peers == "all" or name.split()[0] in ("sparse", "torch")]
    if options.peers == "all" and not packages.is_dir():
        subprocess.run(["uv", "pip", "install", "--quiet", "--target", str(packages), *PACKAGES], check=True)
    sys.path.append(str(packages))
    machine = f"{processor()}; {', '.join(pst_native.instructions())}; {platform.machine()}; torch {torch.__version__}"
    print(machine)
    for shape in options.shapes.split(","):
        for sparsity in map(float, options.sparsities.split(",")):
            folder = work / f"{shape}-{sparsity}"
            if not folder.is_dir():
                make(folder, shape, sparsity, onnx=options.peers == "all")
            for threads in map(int, options.threads.split(",")):
                peers = [Peer(engine, folder, threads, packages) for engine in engines]
                try:
                    for batch in options.batches.split(","):
                        rows, tokens = map(int, batch.split("x"))
                        for line in measure(peers, rows, tokens, options.rounds):
                            about = {
                                "machine": machine,
                                "shape": shape,
                                "sparsity": sparsity,
                                "threads": threads,
                            } | line
                            print(
                                f"{shape} {sparsity:.0%} {threads} threads {batch:>6}  {line['engine']:<20}"
                                f"{line['ms']:8.2f} ms {line['times']:6.2f}x ({line['from']:.2f} to {line['to']:.2f})"
                                f" {line['resident_mb']:6.0f} MB  error {line['error']:.0e}",
                                flush=True,
                            )
                            if options.out:
                                with options.out.open("a", encoding="utf-8") as file:
                                    file.write(json.dumps(about | line) + "\n")
                finally:
                    for peer in peers:
                        peer.close()


if __name__ == "__main__":
    main()
