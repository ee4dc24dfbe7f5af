"""One linear map, forward and backward, on a GPU: PST against dense full fine-tuning, LoRA and the authors' layer.

    PYTHONPATH=workers python -m tests.benchmarks.gpu_layer [--authors FILE] [--shapes 16384x4096x16384 ...]
        [--errors 4096x4096 ...]

A shape is n x k x tokens; none to leave the comparison out.
FILE is the authors' sparse.py (AliceMind, S4/PST/pst), which this project does not contain. All methods run in one
process; each figure is a median with its spread. "anew": the mask is searched in every step; "kept": it is not.
Legend: W (n, k); x (tokens, k).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pst.layers import kernels
from pst.layers.kernels import reference
from pst.layers.kernels.reference import Factors, Scales
from pst.layers.linear import PSTLinear
from pst.sparsity.masks import mask_of, select
from tests.benchmarks.gpu_timing import graphed, machine, show, timed, transient

SPARSITY = 0.9
SCALES = Scales(1.0, 1.0, 1.0)


class LoRA(nn.Module):
    """y = x W^T + (x A^T) B^T with W frozen."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        n, k = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.a = nn.Parameter(torch.randn(rank, k, device=weight.device, dtype=weight.dtype) * 0.02)
        self.b = nn.Parameter(torch.randn(n, rank, device=weight.device, dtype=weight.dtype) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) + F.linear(F.linear(x, self.a), self.b)


def pst_layer(weight: Tensor) -> PSTLinear:
    """A layer in the midst of training: no factor is zero."""
    generator = torch.Generator().manual_seed(0)
    layer = PSTLinear(weight, None, update_rank=16, score_rank=8, scales=SCALES, init_scale=0.02, generator=generator)
    with torch.no_grad():
        for factor in layer.factors():
            factor.copy_(torch.randn(factor.shape, generator=generator) * 0.02)
    return layer


def authors_layer(path: Path, weight: Tensor) -> nn.Module:
    """Their layer with W and settings as here."""
    spec = importlib.util.spec_from_file_location("authors_sparse", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    n, k = weight.shape
    layer: nn.Module = module.SparseLinear(k, n, bias=False, weight_rank=16, mask_rank=8).to(weight.device)
    layer.weight.data = weight.float()
    layer.cur_sparsity = SPARSITY  # type: ignore[assignment]
    return layer


def step_of(layer: nn.Module, x: Tensor, dy: Tensor, before: Callable[[], None] | None = None) -> Callable[[], None]:
    """One forward and backward pass; ``before`` runs first."""

    def step() -> None:
        for parameter in layer.parameters():
            parameter.grad = None
        x.grad = None
        if before is not None:
            before()
        layer(x).backward(dy)

    return step


def speed(n: int, k: int, tokens: int, repeats: int, authors: Path | None) -> None:
    """Prints a line for each method."""
    weight = torch.randn(n, k, device="cuda").mul_(0.02).bfloat16()
    x = torch.randn(tokens, k, device="cuda").bfloat16().requires_grad_()
    dy = torch.randn(tokens, n, device="cuda").bfloat16()
    kept = n * k - int(n * k * SPARSITY)
    shape = {"n": n, "k": k, "tokens": tokens}
    dense = nn.Linear(k, n, bias=False, device="meta")
    dense.weight = nn.Parameter(weight.clone())
    layer = pst_layer(weight)
    eight = pst_layer(weight)
    eight.hold_in_8_bits()
    base = {False: 0.0, True: 0.0}
    for name, step in {
        "dense": step_of(dense, x, dy),
        "lora": step_of(LoRA(weight, 16), x, dy),
        "pst anew": step_of(layer, x, dy, lambda: layer.select_later(kept)),
        "pst kept": step_of(layer, x, dy),
        "pst anew, 8-bit W": step_of(eight, x, dy, lambda: eight.select_later(kept)),
        "dense again": step_of(dense, x, dy),
    }.items():
        memory = transient(step)
        for graph in (False, True):
            found = timed(graphed(step) if graph else step, repeats)
            base[graph] = base[graph] or found["ms"]
            extra = {"graph": graph, "of_dense": found["ms"] / base[graph], "bytes_per_weight": memory / (n * k)}
            show(method=name, **shape, **found, **extra)
    f = layer.factors()
    selection = kernels.select(weight, f, SCALES, kept)
    grad = torch.randn(n, k, device="cuda").bfloat16()
    with torch.no_grad():
        for name, call in {
            "select": lambda: kernels.select(weight, f, SCALES, kept),
            "select and mask": lambda: kernels.select_masked(weight, f, SCALES, kept),
            "mask": lambda: kernels.masked_weight(weight, f, SCALES, selection),
            "gradients": lambda: kernels.gradients(grad, weight, f, SCALES, selection),
        }.items():
            show(part=name, **shape, **timed(graphed(call), repeats), bytes_per_weight=transient(call) / (n * k))
    if authors is None:
        return
    theirs = authors_layer(authors, weight)
    x32, dy32 = x.detach().float().requires_grad_(), dy.float()
    step = step_of(theirs, x32, dy32)
    found = timed(step, max(5, repeats // 4), warm=2)
    show(
        method="authors fp32",
        **shape,
        **found,
        of_dense=found["ms"] / base[False],
        bytes_per_weight=transient(step) / (n * k),
    )

    def autocast() -> None:
        for parameter in theirs.parameters():
            parameter.grad = None
        with torch.autocast("cuda", torch.bfloat16):
            y = theirs(x)
        y.backward(dy)

    found = timed(autocast, repeats)
    extra = {"of_dense": found["ms"] / base[False], "bytes_per_weight": transient(autocast) / (n * k)}
    show(method="authors bf16 autocast", **shape, **found, **extra)


def errors(n: int, k: int) -> None:
    """Relative errors of the gradients against float64, and entries in which the float32 mask differs."""
    for dtype in (torch.float32, torch.bfloat16):
        weight = torch.randn(n, k, device="cuda").mul_(0.02).to(dtype)
        f = pst_layer(weight).factors()
        kept = n * k // 10
        selection = kernels.select(weight, f, SCALES, kept)
        found = kernels.scores(weight, f, SCALES) >= selection.threshold
        exact = reference.scores(weight, f, SCALES)
        wanted = mask_of(exact, select(exact, kept))
        grad = torch.randn(n, k, device="cuda").to(dtype)
        got, _ = kernels.gradients(grad.clone(), weight, f, SCALES, selection)
        d = weight.double() + f.u.double() @ f.v.double()
        ds = grad.double() * d
        dd = grad.double() * (found + d.abs())
        truth = Factors(
            dd @ f.v.double().T, f.u.double().T @ dd, ds @ f.b.double().T, f.a.double().T @ ds, ds.sum(1), ds.sum(0)
        )
        parts = {
            name: float((one.double() - other).norm() / other.norm())
            for name, one, other in zip(Factors._fields, got, truth, strict=True)
        }
        show(
            errors=str(dtype),
            n=n,
            k=k,
            kept=int(found.sum()),
            wanted=kept,
            mask_differs=int((found ^ wanted).sum()),
            **parts,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--authors", type=Path)
    parser.add_argument("--shapes", nargs="*", type=sizes, default=[[16384, 4096, 16384], [4096, 4096, 4096]])
    parser.add_argument("--errors", nargs="*", type=sizes, default=[])
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    show(**machine())
    torch.manual_seed(0)
    for shape in options.shapes:
        speed(*shape, options.repeats, options.authors)
        torch.cuda.empty_cache()
    for shape in options.errors:
        errors(*shape)


def sizes(value: str) -> list[int]:
    return [int(part) for part in value.split("x")]


if __name__ == "__main__":
    main()
