"""Sparsity, learning rate and the average's decay as functions of the step.

Zhu and Gupta 2018, "To prune, or not to prune" (arXiv 1710.01878), equation 1, as PST uses it:

    s(t) = s_f + (s_0 - s_f) (1 - (t - t_i) / (T - t_i - t_f))^3      between t_i and T - t_f; s_0 before, s_f after

The learning rate, as a factor on its peak, with h = max(w, floor(hold_ratio T)) and w = ceil(warmup_ratio T):

    f(t) = (t + 1) / (w + 1)      for t < w
           1                      for w <= t < h
           (T - t) / (T - h)      after: falls linearly to 0 at T

The average of the trained tensors p at the final sparsity, with u the steps there before this one: its window is a
third of them, until it is the one that the setting's decay d gives, 1 / (1 - d) steps:

    a(u) = c(u) a(u - 1) + (1 - c(u)) p(u)      c(u) = min(d, u / (u + 3))

Legend: t step (0-based), T total steps, t_i steps before sparsity rises, t_f steps at the final sparsity s_f, w steps
of the warm-up, h the step up to which the peak is held.
"""

from __future__ import annotations

import math


def cubic_sparsity(
    step: int, total: int, *, initial: float, final: float, warmup_fraction: float, cooldown_fraction: float
) -> float:
    """s(t) for ``step`` in 0..total-1, a share of the weights. ``warmup_fraction`` and ``cooldown_fraction`` are the
    shares of the steps before sparsity rises, and at ``final``. The last step always has exactly ``final``.

    >>> course = {"initial": 0.0, "final": 0.9, "warmup_fraction": 0.0, "cooldown_fraction": 0.5}
    >>> [round(cubic_sparsity(step, 8, **course), 3) for step in (0, 1, 2, 4, 7)]
    [0.0, 0.52, 0.787, 0.9, 0.9]
    """
    start = math.floor(total * warmup_fraction)
    end = cooldown_start(total, cooldown_fraction)
    if step >= end:
        return final
    if step < start:
        return initial
    progress = (step - start) / (end - start)
    return final + (initial - final) * float((1 - progress) ** 3)


def cooldown_start(total: int, cooldown_fraction: float) -> int:
    """First step that runs at the final sparsity."""
    return min(math.floor(total * (1 - cooldown_fraction)), total - 1)


def linear_rate(step: int, total: int, *, warmup_ratio: float, hold_ratio: float = 0.0) -> float:
    """f(t), a factor on the peak rate: rises linearly over the warm-up, stays at 1 until ``hold_ratio`` of the steps,
    then falls linearly.

    >>> [linear_rate(step, 4, warmup_ratio=0.25, hold_ratio=0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    held = min(max(warmup, math.floor(total * hold_ratio)), total - 1)
    return 1.0 if step < held else (total - step) / (total - held)


def average_decay(done: int, decay: float) -> float:
    """c(u) after ``done`` steps at the final sparsity.

    >>> average_decay(0, 0.95), average_decay(3, 0.95), average_decay(1000, 0.95)
    (0.0, 0.5, 0.95)
    """
    return min(decay, done / (done + 3))
