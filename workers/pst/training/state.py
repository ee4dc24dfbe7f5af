"""What a checkpoint holds of a trainer, and a trainer from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pst.layers.inject import restore_selections, selections

if TYPE_CHECKING:
    from pst.training.trainer import Trainer


def tensors_of(trainer: Trainer) -> dict[str, Tensor]:
    """Everything a resumed trainer needs, as tensors on the CPU."""
    result = {"rng": torch.get_rng_state()}
    if trainer.device.type == "cuda":
        result["rng_cuda"] = torch.cuda.get_rng_state(trainer.device)
    for name, tensor in zip(trainer.trained, trainer.average.values, strict=False):  # there may be none
        result[f"average.{name}"] = tensor.cpu()
    for name, parameter in trainer.trained.items():
        result[f"trained.{name}"] = parameter.detach().cpu()
        moments = trainer.optimizer.state.get(parameter)
        if moments:
            result[f"exp_avg.{name}"] = moments["exp_avg"].cpu()
            result[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"].cpu()
    if trainer.settings.mask_every > 1:
        result |= selections(trainer.modules)
    return result | {f"best.{name}": tensor.cpu() for name, tensor in trainer.best.tensors.items()}


def state_of(trainer: Trainer) -> dict[str, Any]:
    """The JSON part of the state."""
    best = trainer.best
    return {
        "step": trainer.step,
        "metric": trainer.metric,
        "best_score": None if best.score is None else list(best.score),
        "best_step": best.step,
        "worse": best.worse,
        "ended": trainer.ended,
        "micro_batch": trainer.train_step.micro_batch,
        "checkpointing": trainer.train_step.checkpointing,
    }


@torch.no_grad()
def load(trainer: Trainer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Let ``trainer`` continue from what :func:`tensors_of` and :func:`state_of` gave."""
    best, device = trainer.best, trainer.device
    trainer.step, trainer.metric, trainer.ended = state["step"], state["metric"], state["ended"]
    best.step, best.worse = state["best_step"], state["worse"]
    best.score = None if state["best_score"] is None else (state["best_score"][0], state["best_score"][1])
    trainer.train_step.restore(state["micro_batch"], state["checkpointing"])
    trainer.ready, trainer.clock.step = True, trainer.step
    for name, parameter in trainer.trained.items():
        parameter.copy_(tensors[f"trained.{name}"])
        if f"exp_avg.{name}" in tensors:
            trainer.optimizer.state[parameter] = {
                "step": torch.tensor(float(trainer.step), device=device),
                "exp_avg": tensors[f"exp_avg.{name}"].to(device),
                "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(device),
            }
        if best.score is not None:
            best.tensors[name] = tensors[f"best.{name}"].to(device)
    kept = [tensors.get(f"average.{name}") for name in trainer.trained]
    trainer.average.values = [tensor.to(device) for tensor in kept if tensor is not None]
    if trainer.settings.mask_every > 1:
        restore_selections(trainer.modules, tensors)
    torch.set_rng_state(tensors["rng"])
    if "rng_cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["rng_cuda"], device)
