from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pst.config import TrainSettings
from pst.export.merge import MergeError, check_pruned, merge, recount
from pst.export.quantize import quantize
from pst.files.encodings import bits
from pst.layers.inject import inject, select_all
from pst.model.loading import load_model, matched_specs, read_config
from pst.plan.families import ModelDescription
from pst.sparsity.masks import kept_count, mask_of
from tests.pst.conftest import LABELS

SPARSITY = {"attention": 0.9, "ffn": 0.75}


def trained_model(base: Path, **settings: Any) -> tuple[Any, Any]:
    """A classifier whose layers look as after training: every factor moved, selection at the final sparsity."""
    model = load_model(base, "classification", LABELS, 0)
    modules = inject(
        model, matched_specs(model, ModelDescription(read_config(base), labels=3)), TrainSettings(**settings)
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "update_" in name or "score_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    select_all(modules, SPARSITY, settings.get("threshold", "matrix"))
    return model, modules


INPUT = {"input_ids": torch.tensor([[2, 5, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["pst", "magnitude"])
def test_merged_model_has_the_original_form_and_exact_zeros(base: Path, method: str, storage: torch.dtype) -> None:
    original = load_model(base, "classification", LABELS, 0).state_dict()
    model, modules = trained_model(base, method=method)
    masks = {f"{module.name}.weight": mask_of(module.layer.scores(), module.layer.selection) for module in modules}
    groups = {f"{module.name}.weight": module.group for module in modules}
    report = merge(model, modules, storage)
    assert (
        quantize(
            model,
            matched_specs(model, ModelDescription(read_config(base), labels=3)),
            TrainSettings(method=method),
            storage,
        )
        == {}
    )
    assert recount(report, model) == report
    state = model.state_dict()
    assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in original.items()}
    assert len(report) == len(masks) == 12
    for name, mask in masks.items():
        kept = kept_count(mask.numel(), SPARSITY[groups[name]])
        assert int(mask.sum()) == kept
        stored = state[name].to(storage)
        assert torch.equal(stored.float(), state[name])  # rounding again changes nothing
        assert not bits(stored)[~mask].any()  # +0.0, not -0.0
        assert int((bits(stored) != 0).sum()) == kept
    for tensor in state.values():
        assert torch.equal(tensor, tensor.to(storage).float())


def test_predicts_as_before_the_merge(base: Path) -> None:
    model, modules = trained_model(base)
    model.eval()
    with torch.no_grad():
        before = model(**INPUT).logits
        merge(model, modules, torch.float32)
        torch.testing.assert_close(model(**INPUT).logits, before)


def test_merging_twice_is_merging_once(base: Path) -> None:
    model, modules = trained_model(base)
    specs = matched_specs(load_model(base, "classification", LABELS, 0), ModelDescription(read_config(base), labels=3))
    merge(model, modules, torch.bfloat16)
    quantize(model, specs, TrainSettings(), torch.bfloat16)
    once = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    again = inject(model, specs, TrainSettings())  # U V and A B are zero at the start: S = |W'|
    select_all(again, SPARSITY, "matrix")
    merge(model, again, torch.bfloat16)
    assert all(torch.equal(bits(tensor), bits(once[name])) for name, tensor in model.state_dict().items())


def test_a_revived_weight_is_found() -> None:
    stored = torch.tensor([[1.0, 0.0], [-0.0, 2.0]], dtype=torch.bfloat16)
    check_pruned("w", stored.abs(), stored != 0)
    with pytest.raises(MergeError, match="1 pruned weights"):
        check_pruned("w", stored, stored != 0)  # the -0.0
    with pytest.raises(MergeError, match="w"):
        check_pruned("w", stored.abs(), torch.tensor([[True, False], [False, False]]))


def test_a_weight_that_comes_back_after_the_merge_is_found(base: Path) -> None:
    model, modules = trained_model(base)
    report = merge(model, modules, torch.float32)
    with torch.no_grad():
        model.get_parameter(report[3].name).fill_(1.0)
    with pytest.raises(MergeError, match="came back"):
        recount(report, model)


def test_global_threshold_spends_the_sparsity_where_scores_are_low(base: Path) -> None:
    _model, modules = trained_model(base, threshold="global")
    for group, share in SPARSITY.items():
        kept = [mask_of(s.layer.scores(), s.layer.selection).sum().item() for s in modules if s.group == group]
        total = sum(s.layer.weight.numel() for s in modules if s.group == group)
        assert sum(kept) == kept_count(total, share)
        assert len(set(kept)) > 1
