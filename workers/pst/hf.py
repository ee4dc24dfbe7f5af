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

``subfolder`` and ``variant`` name ``sparse/model.sparse.safetensors``. On a CPU with the sparse engine every pruned map
becomes a :class:`SparseLinear`, which holds its nonzeros and multiplies by them, in float32; elsewhere maps are
expanded. A published folder has no config that says so by itself: transformers would pass over it where this module is
not imported, and draw the pruned weights at random. Models of more than one file have another layout than transformers
expects: ``pst.load`` has them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from pst_native import Form, Precision, Weight
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.hub import cached_file
from transformers.utils.quantization_config import QuantizationConfigMixin

from pst.errors import FormatError
from pst.files.formats import INDEX_FILE, SPARSE_FOLDER, Compact
from pst.messages import Message
from pst.native.model import available

CPU = torch.device("cpu")
METHOD = "sparsewright"
PARTS = r"\.(values|scales|places|bitmask|columns|offsets)$"


class SparseLinear(nn.Module):
    """y = x W^T + b for a pruned W (n, k), of which only the nonzeros are held (:mod:`pst_native`). Inference alone, on
    the CPU; x is computed in float32 and y has its dtype."""

    def __init__(self, matrix: Tensor, bias: nn.Parameter | None) -> None:
        """Packs ``matrix`` (n, k) float32."""
        super().__init__()
        held = matrix.contiguous()
        self.out_features, self.in_features = n, k = held.shape
        self.packed = Weight(Form.CELLS, Precision.FLOAT32, n, k, held.data_ptr())
        self.register_parameter("weight", None)  # some models ask for its dtype if it is a tensor
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(…, n) of x (…, k). Raises :class:`pst.errors.FormatError` on another device than the CPU."""
        if x.device.type != "cpu":
            raise FormatError(
                Message(
                    "A sparse model runs on the CPU alone: load it again with device_map={device}.",
                    device=repr(str(x.device)),
                )
            )
        rows = x.reshape(-1, self.in_features).float().contiguous()
        out = torch.empty(len(rows), self.out_features)
        bias = None if self.bias is None else self.bias.float().contiguous()
        address = None if bias is None else bias.data_ptr()
        self.packed.product(rows.data_ptr(), len(rows), out.data_ptr(), bias=address, threads=torch.get_num_threads())
        return out.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bytes={self.packed.bytes}"


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
        for name in self._held:
            path, _, kind = name.rpartition(".")
            module = model.get_submodule(path)
            if self._packs and kind == "weight" and isinstance(module, nn.Linear | Conv1D):
                matrix = self._compact[name].float()
                parent, _, last = path.rpartition(".")
                packed = SparseLinear(matrix.T if isinstance(module, Conv1D) else matrix, module.bias)
                setattr(model.get_submodule(parent), last, packed)
            else:
                tensor: Tensor = getattr(module, kind)  # a parameter or a buffer
                tensor.data = self._compact[name].to(tensor.device, tensor.dtype)
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
