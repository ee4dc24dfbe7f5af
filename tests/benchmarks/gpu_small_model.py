"""A training step of a MiniLM-sized BERT (6 layers of 384), batch 32, sequence 64: PST against the authors' layer.

    PYTHONPATH=workers python -m tests.benchmarks.gpu_small_model --authors FILE

A step searches the mask anew, runs forward and backward, and AdamW on the trained tensors. "layers": one by one;
"together": by :mod:`pst.layers.batched`; "graph": that as one CUDA graph. Random weights; one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertModel

from pst.layers.batched import group_layers, together
from pst.layers.linear import PSTLinear
from tests.benchmarks.gpu_layer import SPARSITY, authors_layer, pst_layer
from tests.benchmarks.gpu_timing import graphed, machine, show, timed


def model_with(make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """The model, its encoder's linear maps replaced; nothing else is trained."""
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    torch.manual_seed(0)
    model: nn.Module = BertModel(config, add_pooling_layer=False).cuda().requires_grad_(False)
    for parent in list(model.encoder.modules()):  # type: ignore[union-attr]
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, make(child))
    return model.eval()


def kept_of(layer: PSTLinear) -> int:
    return layer.weight.numel() - int(layer.weight.numel() * SPARSITY)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--authors", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    show(**machine())
    ids = torch.randint(1000, 20000, (32, 64), device="cuda")
    ours = model_with(lambda linear: pst_layer(linear.weight.detach()))
    theirs = model_with(lambda linear: authors_layer(options.authors, linear.weight.detach()))
    layers = [module for module in ours.modules() if isinstance(module, PSTLinear)]
    groups = group_layers(layers)

    def step_of(model: nn.Module, mode: str, autocast: bool) -> Callable[[], None]:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True, capturable=True)

        def step() -> None:
            for parameter in trained:
                parameter.grad = None
            if mode == "layers":
                for layer in layers:
                    layer.select_later(kept_of(layer))
            frozen = mode in ("together", "graph")
            with together(groups, lambda group: kept_of(group.layers[0])) if frozen else nullcontext():
                with torch.autocast("cuda", torch.bfloat16, enabled=autocast, cache_enabled=False):
                    hidden = model(input_ids=ids).last_hidden_state
                hidden.float().square().mean().backward()
            optimizer.step()

        return step

    base: dict[bool, float] = {}
    for mode in ("authors", "layers", "together", "graph"):
        for autocast in (False, True):
            step = step_of(theirs if mode == "authors" else ours, mode, autocast)
            found = timed(graphed(step) if mode == "graph" else step, options.repeats)
            base.setdefault(autocast, found["ms"])
            show(mode=mode, autocast=autocast, **found, times_faster=base[autocast] / found["ms"])


if __name__ == "__main__":
    main()
