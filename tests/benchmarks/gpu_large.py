"""27 B parameters on one GPU: a decoder's training steps, and an encoder-decoder's way from base model to export.

    PYTHONPATH=workers python -m tests.benchmarks.gpu_large steps [--blocks 32] [--steps 5] [--methods "pst anew" ...]
    PYTHONPATH=workers python -m tests.benchmarks.gpu_large path [--card 80] [--folder FOLDER]

``steps``: 25.8 B weights (hidden 8192, FFN 32768, 32 blocks), 8,192 tokens a step as 4 rows of 2,048, checkpointing by
block, 90 % sparse, fused AdamW on the trained tensors: LoRA; PST with the mask anew in each step and with it kept; both
again with W in 8 bits, into which it is rounded matrix by matrix. All have the same W, one after the other, in one
process.

``path``: PLUG's shape (T5 with 24 + 6 layers, hidden 8192, FFN 32768, 25.8 B weights) through the product's pipeline at
90 %: tune on rows, merge, export the compact file, load it again, equal logits. The base model's random weights are
made on the device, where the pipeline asks for each: they would not fit the disk beside the export.

Sizes can be made small, and both run on a CPU too, slowly.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerFast, T5Config

from pst import pipeline
from pst.layers.kernels.reference import Scales
from pst.layers.linear import PSTLinear
from pst.model.loading import TensorLocation
from pst.plan.families import ModelDescription
from pst.sparsity.masks import kept_count
from tests.benchmarks.gpu_layer import SPARSITY, LoRA
from tests.benchmarks.gpu_timing import machine, show

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GIB = 2**30
METHODS = ("lora", "pst anew", "pst kept", "8-bit kept", "8-bit anew")
Make = Callable[[Tensor], nn.Module]


def settle() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak() -> float:
    """Most GiB on the device since the last call."""
    if DEVICE.type != "cuda":
        return 0.0
    most = torch.cuda.max_memory_allocated() / GIB
    torch.cuda.reset_peak_memory_stats()
    return most


def drop() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


# steps


class Block(nn.Module):
    """Pre-norm attention and FFN, no bias, from six layers."""

    def __init__(self, layers: list[nn.Module], heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out, self.up, self.down = layers
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        rows, length, hidden = x.shape
        h = F.rms_norm(x, (hidden,))
        q, k, v = (m(h).view(rows, length, self.heads, -1).transpose(1, 2) for m in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(F.rms_norm(x, (hidden,)))))


def pst(weight: Tensor) -> PSTLinear:
    layer = PSTLinear(
        weight,
        None,
        update_rank=16,
        score_rank=8,
        scales=Scales(1.0, 1.0, 1.0),
        init_scale=0.01,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        for factor in layer.factors():
            factor.normal_(0, 0.01)
    return layer


def train(name: str, model: nn.ModuleList, x: Tensor, steps: int, anew: bool) -> None:
    """Prints the median and spread of a step's time, and the peak of memory."""
    layers = [module for module in model.modules() if isinstance(module, PSTLinear)]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    dy = torch.randn_like(x).mul_(1e-3)
    tokens = x.shape[0] * x.shape[1]
    x = x.requires_grad_()
    for layer in layers:
        layer.select_later(kept_count(layer.weight.numel(), SPARSITY))
    settle()
    peak()
    times = []
    for step in range(steps + 1):
        settle()
        begin = time.monotonic()
        if anew:
            for layer in layers:
                layer.select_later(kept_count(layer.weight.numel(), SPARSITY))
        h = x
        for block in model:
            h = checkpoint(block, h, use_reentrant=False)
        h.backward(dy)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        settle()
        if step:  # the first compiles
            times.append(time.monotonic() - begin)
    median = statistics.median(times)
    show(
        method=name,
        weights=sum(p.numel() for p in model.parameters() if not p.requires_grad),
        trained=sum(p.numel() for p in trained),
        seconds=median,
        least=min(times),
        most=max(times),
        tokens_per_second=tokens / median,
        peak_gib=peak(),
    )


def compare_steps(options: argparse.Namespace) -> None:
    hidden, inner = options.hidden, 4 * options.hidden
    shapes = [(hidden, hidden)] * 4 + [(inner, hidden), (hidden, inner)]

    def weight(n: int, k: int) -> Tensor:
        return torch.randn(n, k, device=DEVICE, dtype=torch.bfloat16).mul_(k**-0.5)

    weights = [[weight(*shape) for shape in shapes] for _ in range(options.blocks)]
    x = torch.randn(options.rows, options.length, hidden, device=DEVICE, dtype=torch.bfloat16)

    def built(make: Make) -> nn.ModuleList:
        return nn.ModuleList(Block([make(matrix) for matrix in block], options.heads) for block in weights)

    if "lora" in options.methods:
        train("lora", built(lambda matrix: LoRA(matrix, 16)), x, options.steps, anew=False)
        drop()
    model = built(pst)
    for name in ("pst anew", "pst kept"):
        if name in options.methods:
            train(name, model, x, options.steps, anew=name == "pst anew")
    if not {"8-bit kept", "8-bit anew"} & set(options.methods):
        return
    weights.clear()
    for layer in model.modules():
        if isinstance(layer, PSTLinear):
            layer.hold_in_8_bits()
    drop()
    for name in ("8-bit kept", "8-bit anew"):
        if name in options.methods:
            train(name, model, x, options.steps, anew=name == "8-bit anew")


# path


class Random:
    """A T5's random weights, each drawn on its device when it is asked for."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.shapes = {spec.name: spec.shape for spec in ModelDescription(config, "generation", 0).tensors}
        self.head, self.width = config["d_kv"], config["d_model"]

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def tensor(self, name: str, device: torch.device) -> Tensor:
        shape = self.shapes[name]
        if len(shape) == 1:
            return torch.ones(shape, device=device)
        draw = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
        scale = 1.0 if name == "shared.weight" else shape[1] ** -0.5
        if name.endswith((".q.weight", "relative_attention_bias.weight")):
            scale = (self.width * self.head) ** -0.5  # T5 has no 1 / sqrt(d) in its attention
        return torch.randn(shape, device=device, dtype=torch.bfloat16, generator=draw).mul_(scale)


WORDS = [f"w{number}" for number in range(1000)]


def write_job(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A base folder without weights, rows, and spec.json; returns the base's config."""
    base = folder / "base"
    base.mkdir(parents=True)
    special = ["<pad>", "</s>", "<unk>"]
    made = T5Config(
        vocab_size=options.vocabulary,
        d_model=options.hidden,
        d_kv=options.hidden // options.heads,
        d_ff=4 * options.hidden,
        num_layers=options.encoder,
        num_decoder_layers=options.decoder,
        num_heads=options.heads,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        dropout_rate=0.0,
        architectures=["T5ForConditionalGeneration"],
    )
    made.save_pretrained(base)
    words = {word: index for index, word in enumerate(special + WORDS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(" ", "removed")
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=512, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(base)
    draw = torch.Generator().manual_seed(0)
    for name, count in (("train", options.steps * options.batch), ("validation", 8)):
        lines = []
        for _ in range(count):
            said = [WORDS[i] for i in torch.randint(len(WORDS), (options.words,), generator=draw).tolist()]
            lines.append(json.dumps({"source": " ".join(said), "target": " ".join(reversed(said[-30:]))}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {
        "epochs": 1.0,
        "batch_size": options.batch,
        "micro_batch_size": options.batch,
        "gradient_checkpointing": "on",
        "max_length": 512,
        "max_target_length": 32,
        "score_rank": 8,
        "evaluations": 1,
        "threshold": options.threshold,
        "activation_power": 0.0,
        "frozen_weights": options.weights,
        "storage_dtype": "bfloat16",
        "compare_dense": False,
        "distill": False,
        "dense_file": False,
    }
    spec = {
        "base_model": "base",
        "task": "generation",
        "train": "train.jsonl",
        "validation": "validation.jsonl",
        "settings": settings,
        "target": {"sparsity": SPARSITY},
    }
    (folder / "spec.json").write_text(json.dumps(spec), "utf-8")
    config: dict[str, Any] = json.loads((base / "config.json").read_text("utf-8"))
    return config


class Watch:
    """Seconds and peaks of what lies between two calls of :meth:`mark`."""

    def __init__(self) -> None:
        self.name, self.begin, self.host = "", time.monotonic(), 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
            self.host = max(self.host, pages * 4096 / GIB)

    def mark(self, name: str) -> None:
        settle()
        if self.name:
            show(phase=self.name, seconds=time.monotonic() - self.begin, device_gib=peak(), host_gib=self.host)
        peak()
        self.name, self.begin, self.host = name, time.monotonic(), 0.0

    def close(self) -> None:
        self.mark("")
        self._done.set()
        self._thread.join()


def logits_of(model: Any) -> Tensor:
    ids = torch.arange(3, 67, device=DEVICE).view(4, 16) % 1000 + 3
    with torch.no_grad():
        return model.eval()(input_ids=ids, decoder_input_ids=ids[:, :8]).logits.float().cpu()  # type: ignore[no-any-return]


def walk_path(options: argparse.Namespace) -> None:
    if DEVICE.type == "cuda":
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, options.card * GIB / total))
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        config = write_job(folder, options)
        weights = Random(config)
        show(weights=sum(math.prod(shape) for shape in weights.shapes.values()))
        watch, seen = Watch(), list[tuple[Tensor, Any]]()

        def emit(event: dict[str, Any]) -> None:
            if event["type"] == "phase":
                watch.mark({"train": "read, compare, first step"}.get(event["phase"], event["phase"]))
            elif event["type"] == "progress":
                if watch.name.endswith("first step"):
                    watch.mark("other steps")
                show(step=event["step"], loss=event["loss"], sparsity=event["sparsity"])
            elif event["type"] == "log":
                print(event["message"], flush=True)

        report = pipeline.run(
            folder,
            emit=emit,
            should_stop=lambda: False,
            quick=True,
            weights=weights,
            merged=lambda model, task: seen.append((logits_of(model), task)),
        )
        drop()
        watch.mark("load the export")
        before, task = seen[0]
        at = folder / pipeline.EXPORT_FOLDER
        model = task.open(at, 0, TensorLocation(DEVICE, None)).finish()
        watch.mark("logits")
        after = logits_of(model)
        watch.close()
        files = {p.relative_to(at).as_posix(): p.stat().st_size for p in sorted(at.rglob("*")) if p.is_file()}
        show(equal_logits=torch.equal(before, after), finite=bool(after.isfinite().all()), spread=float(after.std()))
        show(files=files, sparsity=report["sparsity"]["reached"], trained=report["params"]["trainable"])
        show(perplexity=report["metrics"]["validation"]["perplexity"], base=report["dense"]["validation"]["perplexity"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("steps", "path"))
    parser.add_argument("--hidden", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--encoder", type=int, default=24)
    parser.add_argument("--decoder", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=32128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--words", type=int, default=250)
    parser.add_argument("--threshold", choices=("matrix", "global"), default="global")
    parser.add_argument("--weights", choices=("bfloat16", "int8"), default="bfloat16")
    parser.add_argument("--card", type=float, default=80.0, help="GiB of the device that the path may take")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    if DEVICE.type == "cuda":
        show(**machine())
    torch.manual_seed(0)
    (compare_steps if options.part == "steps" else walk_path)(options)


if __name__ == "__main__":
    main()
