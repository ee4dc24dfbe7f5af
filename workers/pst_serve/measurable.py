"""What a node measures of itself (:mod:`pst_serve.measure`): the products and the layers of each engine that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pst_client import hardware

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HEAD = 64
VOCABULARY = 1000

Call = Callable[[], object]


class Measurable(Protocol):
    """An engine whose speed can be measured."""

    name: str
    skips_zeros: bool
    """Whether its products take less time for a weight that holds zeros."""

    @property
    def device(self) -> torch.device:
        """Where models and their inputs lie."""

    @property
    def device_name(self) -> str:
        """As people know it."""

    def wait(self) -> None:
        """Until the device has done what it was told."""

    def product(self, weight: Tensor) -> Callable[[Tensor], object]:
        """x -> x W^T as a loaded model computes it, for a weight (n, k) that holds zeros where it is pruned."""

    def encoders(self, width: int, tokens: int) -> tuple[Call, Call]:
        """One row of so many tokens through BERT's layers of this width, whose products cost nothing: without a layer
        that counts, and with one more."""


class Expanding:
    """Dense matrices on torch."""

    name = "expanding"
    skips_zeros = False

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def device_name(self) -> str:
        import torch

        return torch.cuda.get_device_name() if self.device.type == "cuda" else hardware.processor()

    def wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def product(self, weight: Tensor) -> Callable[[Tensor], object]:
        import torch

        held = weight.to(self.device)
        return lambda inputs: torch.nn.functional.linear(inputs, held)

    def encoders(self, width: int, tokens: int) -> tuple[Call, Call]:
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        model: Any = BertForSequenceClassification(BertConfig(**_config(width, tokens, 1)))
        model.to(self.device).eval()
        [layer] = model.bert.encoder.layer
        _without_products(layer)
        ids = torch.ones(1, tokens, dtype=torch.long, device=self.device)

        def call(held: list[nn.Module]) -> Call:
            def run() -> object:
                model.bert.encoder.layer = torch.nn.ModuleList(held)
                return model(input_ids=ids, attention_mask=torch.ones_like(ids))

            return run

        return call([]), call([layer])


class Sparse:
    """Packed weights on the sparse CPU engine, in the layout and precision that it takes for each."""

    name = "native"
    skips_zeros = True

    def __init__(self) -> None:
        from pst_native import Precision

        from pst import machine
        from pst.native.choice import Chooser

        self._threads = machine.cpus()
        self._choose = Chooser({Precision.FLOAT32, Precision.INT8}, self._threads)

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    @property
    def device_name(self) -> str:
        return hardware.processor()

    def wait(self) -> None:
        """Products end before they return."""

    def product(self, weight: Tensor) -> Callable[[Tensor], object]:
        import torch
        from pst_native import Weight

        held = weight.contiguous()
        n, k = held.shape
        packed = Weight(*self._choose(held), n, k, held.data_ptr())
        out = torch.empty(0, n)

        def run(inputs: Tensor) -> object:
            nonlocal out
            if len(out) != len(inputs):
                out = torch.empty(len(inputs), n)
            packed.product(inputs.data_ptr(), len(inputs), out.data_ptr(), threads=self._threads)
            return out

        return run

    def encoders(self, width: int, tokens: int) -> tuple[Call, Call]:
        return self._encoder(width, tokens, 1), self._encoder(width, tokens, 2)

    def _encoder(self, width: int, tokens: int, layers: int) -> Call:
        import torch

        from pst.files.shards import Given
        from pst.native.encoders import NativeEncoder
        from pst.plan.families import ModelDescription

        model = ModelDescription({"model_type": "bert", **_config(width, tokens, layers)}, "classification", 2)
        pruned = Given({spec.name: torch.zeros(spec.shape) for spec in model.tensors})
        encoder = NativeEncoder(model, pruned, self._choose)
        ids = [[1] * tokens]
        return lambda: encoder.logits(ids, None, self._threads)


def sparse() -> Sparse | None:
    """The sparse engine, where its library is there and models are not served by a GPU."""
    import torch

    from pst.native.model import available

    return Sparse() if not torch.cuda.is_available() and available() else None


def _config(width: int, tokens: int, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD),
        "intermediate_size": 4 * width,
        "max_position_embeddings": tokens,
    }


def _without_products(layer: nn.Module) -> None:
    """Let every linear map answer with a tensor that it made before."""
    import torch

    for module in layer.modules():
        if isinstance(module, torch.nn.Linear):
            module.forward = _kept(module)  # type: ignore[method-assign, assignment]


def _kept(module: nn.Linear) -> Callable[[Tensor], Tensor]:
    import torch

    made: dict[tuple[int, ...], Tensor] = {}

    def forward(inputs: Tensor) -> Tensor:
        shape = (*inputs.shape[:-1], module.out_features)
        if shape not in made:
            made[shape] = torch.randn(shape, device=inputs.device)
        return made[shape]

    return forward
