"""Which layout multiplies a weight fastest on this machine: timed, not assumed.

Machines differ (AMX multiplies dense tiles faster than others skip zeros), and so do the matrices of one model: a mask
of one threshold keeps 3 % of some and 18 % of others.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import pst_native as native
import torch
from pst_native import Form, Precision, Weight
from torch import Tensor

TOKENS = (16, 128)
"""Of the products that are timed: one short text, and a few of some length."""
RUNS = 3
STEPS = 20
"""Weights of one shape whose densities round to the same of so many steps share a choice."""

Layout = tuple[Form, Precision]


class Chooser:
    """The fastest layout of a weight among those of the ``allowed`` precisions; :attr:`found` keeps what was timed.

    Without int8 among them every answer is float32's, up to the order of additions.
    """

    def __init__(self, allowed: Collection[Precision], threads: int) -> None:
        self.candidates = [
            (form, precision)
            for precision in Precision
            for form in Form
            if precision in allowed and native.has(form, precision)
        ]
        self.threads = threads
        self.found: dict[tuple[int, int, int], Layout] = {}

    def __call__(self, matrix: Tensor) -> Layout:
        """The layout of ``matrix`` (n, k) float32."""
        if len(self.candidates) == 1:
            return self.candidates[0]
        n, k = matrix.shape
        key = (n, k, round(float(matrix.count_nonzero()) / (n * k) * STEPS))
        if key not in self.found:
            self.found[key] = min(self.candidates, key=lambda layout: self._seconds(layout, matrix))
        return self.found[key]

    def _seconds(self, layout: Layout, matrix: Tensor) -> float:
        """The product of the fastest run's times over :data:`TOKENS`: each counts by its ratio."""
        n, k = matrix.shape
        weight = Weight(*layout, n, k, matrix.data_ptr())
        result = 1.0
        for tokens in TOKENS:
            x, out = torch.randn(tokens, k), torch.empty(tokens, n)
            best = float("inf")
            for _ in range(RUNS):
                begin = time.perf_counter()
                weight.product(x.data_ptr(), tokens, out.data_ptr(), threads=self.threads)
                best = min(best, time.perf_counter() - begin)
            result *= best
        return result
