"""The compact format in transformers: its own classes load it, once this module is imported.

    import pst.hf
    from transformers import AutoConfig, AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        "ns/model",
        config=AutoConfig.from_pretrained("ns/model"),
        subfolder="sparse",
        variant="sparse",
        quantization_config=pst.hf.SparseConfig(),
    )

``subfolder`` and ``variant`` name ``sparse/model.sparse.safetensors``. On a CPU with the sparse engine a map that keeps
few weights becomes a :class:`SparseLinear`, which holds them alone and multiplies by them, in float32; other maps are
expanded. A published folder has no config that says so by itself: transformers would pass over it where this module is
not imported, and draw the pruned weights at random. Models of more than one file have another layout than transformers
expects: ``pst.load`` has them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.hub import cached_file
from transformers.utils.quantization_config import QuantizationConfigMixin

from pst.files.formats import INDEX_FILE, SPARSE_FOLDER, Compact
from pst.native.model import available
from pst.native.modules import SparseLinear, fill

__all__ = ["SparseConfig", "SparseLinear", "SparseQuantizer"]
CPU = torch.device("cpu")
METHOD = "sparsewright"
PARTS = r"\.(values|scales|places|bitmask|columns|offsets)$"


@register_quantization_config(METHOD)
class SparseConfig(QuantizationConfigMixin):
    """Says to ``from_pretrained`` that it reads a compact model."""

    def __init__(self, **_: Any) -> None:
        self.quant_method = METHOD  # type: ignore[assignment]  # its annotation knows transformers' own methods alone


@register_quantizer(METHOD)
class SparseQuantizer(HfQuantizer):
    """Lets transformers load what it knows, and fills in the tensors that the compact file holds in parts."""

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **given: Any) -> None:
        self._compact = Compact(_index_folder(model.config, Path(given["checkpoint_files"][0])), check=False)
        self._held = self._compact.in_parts()
        placed: dict[str, Any] = given.get("device_map") or {}
        self._packs = available() and all(torch.device(device) == CPU for device in placed.values())
        unexpected, missing = model._keys_to_ignore_on_load_unexpected, model._keys_to_ignore_on_load_missing
        model._keys_to_ignore_on_load_unexpected = {*(unexpected or ()), PARTS}
        model._keys_to_ignore_on_load_missing = {*(missing or ()), *map(re.escape, self._held)}

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **given: Any) -> PreTrainedModel:
        fill(model, self._compact, self._held, packs=self._packs)
        del self._compact  # its files stay open as long as the model
        return model

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


def _index_folder(config: PreTrainedConfig, weights: Path) -> Path:
    """Where the index lies: beside the weights, into which folder it is fetched where they come from a Hub."""
    if not (weights.parent / INDEX_FILE).is_file():
        cached_file(config._name_or_path, INDEX_FILE, subfolder=SPARSE_FOLDER, revision=config._commit_hash)
    return weights.parent
