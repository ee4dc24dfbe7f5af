"""What each method of a job is, as far as planner, spec, pipeline and trainer must know: facts without torch.

Standard library only: the planner (:mod:`pst.plan.planner`) imports this module. The layers are in
:mod:`pst.layers.methods`.

Trained in place of a pruned matrix (n, k), with r1 of :func:`update_rank` and r2 = min(score_rank, n, k):

    pst            (r1 + r2) (n + k) + n + k      U, V, A, B, R, C
    magnitude      n k                            W
    movement, l0   2 n k                          W and a score (or log-alpha) per weight
    smp            n k                            a score per weight
    wanda, lora    r1 (n + k)                     U, V
    dense          n k                            W
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pst.config import Method, TrainSettings


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """One method.

    ``prunes``: it removes weights; one that doesn't runs at sparsity 0 whatever the target.
    ``full``: every tensor of the model is trained (full fine-tuning).
    ``one_shot``: the mask is chosen once, at the final sparsity, before the first step.
    ``calibration_rows``: training rows whose activations are seen before the first step.
    """

    prunes: bool = True
    full: bool = False
    one_shot: bool = False
    calibration_rows: int = 0


METHODS: dict[Method, MethodSpec] = {
    "pst": MethodSpec(calibration_rows=128),
    "magnitude": MethodSpec(full=True),
    "movement": MethodSpec(full=True),
    "l0": MethodSpec(full=True),
    "smp": MethodSpec(),
    "wanda": MethodSpec(one_shot=True, calibration_rows=128),
    "lora": MethodSpec(prunes=False),
    "dense": MethodSpec(prunes=False, full=True),
}


class Sized(Protocol):
    """What counting needs of a :class:`pst.plan.families.TensorSpec`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def group(self) -> str | None: ...

    @property
    def head(self) -> bool: ...

    @property
    def numel(self) -> int: ...


def update_rank(settings: TrainSettings, n: int, k: int) -> int:
    """r1 of a matrix (n, k). Where the settings leave it open: 16, as the talk found best for large models, and more of
    a narrow matrix, 12288 / min(n, k) up to 32, of which an update of rank 16 reaches less and costs little."""
    return min(settings.update_rank or min(32, max(16, 12288 // min(n, k))), n, k)


def trainable_params(method: Method, shape: Sequence[int], settings: TrainSettings) -> int:
    """Numbers trained in place of one pruned matrix (n, k) or (k, n), its bias left out."""
    n, k = shape
    update, score = update_rank(settings, n, k), min(settings.score_rank, n, k)
    counts: dict[Method, int] = {
        "pst": (update + score + 1) * (n + k),
        "magnitude": n * k,
        "movement": 2 * n * k,
        "l0": 2 * n * k,
        "smp": n * k,
        "wanda": update * (n + k),
        "lora": update * (n + k),
        "dense": n * k,
    }
    return counts[method]


def trained_as_norm(spec: Sized) -> bool:
    """Whether ``train_norms`` trains this tensor: LayerNorms and biases, the only tensors with one axis."""
    return len(spec.shape) == 1


def trainable_total(specs: Iterable[Sized], settings: TrainSettings) -> int:
    """Numbers trained in the whole model that ``specs`` describe."""
    full = METHODS[settings.method].full
    count = 0
    for spec in specs:
        if spec.group is not None:
            count += trainable_params(settings.method, spec.shape, settings)
        elif full or spec.head or (settings.train_norms and trained_as_norm(spec)):
            count += spec.numel
    return count
