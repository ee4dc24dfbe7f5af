"""A decoder of PLUG's size, 25.8 B weights, trained on one GPU: PST with bf16 and with 8-bit frozen weights, and LoRA.

    PYTHONPATH=workers python -m tests.benchmarks.gpu_whole_model [--blocks 32] [--steps 4]

Random weights, made on the device; 8,192 tokens a step as 4 rows of 2,048; checkpointing by block; 90 % sparse with the
mask anew in each step; fused AdamW on the trained tensors. The three run one after the other in one process.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pst.kernels.reference import Scales
from pst.layers import PSTLinear
from tests.benchmarks.gpu_layer import SPARSITY, LoRA
from tests.benchmarks.gpu_timing import machine, show

HIDDEN, INNER, HEADS, ROWS, LENGTH = 8192, 32768, 64, 4, 2048
Make = Callable[[int, int], nn.Module]


class Block(nn.Module):
    """Pre-norm attention and FFN, no bias."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (make(HIDDEN, HIDDEN) for _ in range(4))
        self.up, self.down = make(INNER, HIDDEN), make(HIDDEN, INNER)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        h = F.rms_norm(x, (HIDDEN,))
        q, k, v = (part(h).view(rows, length, HEADS, -1).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, length, HIDDEN)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(F.rms_norm(x, (HIDDEN,)))))


def random_weight(n: int, k: int) -> Tensor:
    return torch.randn(n, k, device="cuda", dtype=torch.bfloat16).mul_(k**-0.5)


def lora(n: int, k: int) -> nn.Module:
    return LoRA(random_weight(n, k), 16)


def pst(n: int, k: int, *, eight: bool) -> PSTLinear:
    layer = PSTLinear(
        random_weight(n, k),
        None,
        update_rank=16,
        score_rank=8,
        scales=Scales(1.0, 1.0, 1.0),
        init_scale=0.01,
        generator=torch.Generator().manual_seed(0),
    )
    if eight:
        layer.hold_in_8_bits()
    with torch.no_grad():
        for factor in layer.factors():
            factor.normal_(0, 0.01)
    return layer


def run(name: str, make: Make, blocks: int, steps: int) -> None:
    """Prints the median and spread of a step's time, and the peak of memory."""
    begin = time.monotonic()
    model = nn.ModuleList(Block(make) for _ in range(blocks))
    layers = [module for module in model.modules() if isinstance(module, PSTLinear)]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    torch.cuda.synchronize()
    built = time.monotonic() - begin
    x = torch.randn(ROWS, LENGTH, HIDDEN, device="cuda", dtype=torch.bfloat16)
    dy = torch.randn_like(x).mul_(1e-3)
    torch.cuda.reset_peak_memory_stats()
    times = []
    for step in range(steps + 1):
        torch.cuda.synchronize()
        begin = time.monotonic()
        for layer in layers:
            layer.select(layer.weight.numel() - int(layer.weight.numel() * SPARSITY))
        h = x.requires_grad_()
        for block in model:
            h = checkpoint(block, h, use_reentrant=False)
        h.backward(dy)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        x.grad = None
        torch.cuda.synchronize()
        if step:  # the first compiles
            times.append(time.monotonic() - begin)
    median = statistics.median(times)
    show(
        method=name,
        weights=sum(x.numel() for x in model.parameters() if not x.requires_grad),
        trained=sum(x.numel() for x in trained),
        seconds=median,
        least=min(times),
        most=max(times),
        tokens_per_second=ROWS * LENGTH / median,
        peak_gib=torch.cuda.max_memory_allocated() / 2**30,
        built_seconds=built,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    show(**machine())
    torch.manual_seed(0)
    methods: dict[str, Make] = {
        "lora": lora,
        "pst anew": lambda n, k: pst(n, k, eight=False),
        "pst anew, 8-bit W": lambda n, k: pst(n, k, eight=True),
    }
    for name, make in methods.items():
        run(name, make, options.blocks, options.steps)
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
