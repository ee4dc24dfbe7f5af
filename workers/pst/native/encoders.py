"""Encoders on the sparse CPU engine: BERT, RoBERTa (XLM-R, CamemBERT), DistilBERT, ELECTRA and MPNet with a head.

Tokens in, logits out; one matrix at a time is read from the folder and packed, so that no dense model is ever held.

Legend: v vocabulary, e width of the embeddings, h hidden size, p positions, l labels, t tokens of all texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pst_native as native
import torch
from pst_native import Activation, Form, Precision, Weight
from torch import Tensor

from pst.files.formats import Compact, widened
from pst.files.shards import Tensors
from pst.plan.families import FeedForward, ModelDescription
from pst.plan.families.encoders import ENCODERS

ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
}
EPSILON = 1e-12
CPU = torch.device("cpu")
ALIGN = 64

Choose = Callable[[Tensor], tuple[Form, Precision]]
"""The layout of a weight (n, k) for this machine."""


class NativeEncoder:
    """The model that ``description`` says and ``source`` holds.

    Weights are packed as ``choose`` says. Raises KeyError or :class:`pst.errors.FormatError` where a tensor is missing
    or damaged, ValueError where the tensors do not fit each other.
    """

    def __init__(self, description: ModelDescription, source: Tensors, choose: Choose) -> None:
        self._description, self._source, self._choose = description, source, choose
        self._encoder = ENCODERS[str(description.config["model_type"])]
        self._held: list[object] = []
        self.weights: dict[str, Weight] = {}
        self.labels = description.labels
        self._record = self._describe()
        self._source = None  # type: ignore[assignment]  # a file that is not needed any more
        if not native.library().sw_encoder_fits(self._record):
            raise ValueError("the model's tensors do not fit each other")
        self._workspace = torch.empty(0, dtype=torch.uint8)

    @property
    def bytes(self) -> int:
        """Of all weights and tables, without the buffers of a run."""
        tables = sum(held.numel() * held.element_size() for held in self._held if isinstance(held, Tensor))
        return tables + sum(weight.bytes for weight in self.weights.values())

    def logits(self, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None, threads: int) -> Tensor:
        """(texts, l) float32 of token ids, one sequence of at least one token a text. Raises ValueError for an id, a
        type or a length that the model lacks."""
        lengths = [len(text) for text in ids]
        offsets = torch.zeros(len(ids) + 1, dtype=torch.int32)
        offsets[1:] = torch.tensor(lengths).cumsum(0)
        tokens = torch.tensor([token for text in ids for token in text], dtype=torch.int32)
        kinds = None if types is None else torch.tensor([kind for text in types for kind in text], dtype=torch.int32)
        library = native.library()
        needed = library.sw_workspace_bytes(self._record, len(ids), len(tokens), max(lengths), threads) + ALIGN
        if self._workspace.numel() < needed:
            self._workspace = torch.empty(needed, dtype=torch.uint8)
        out = torch.empty(len(ids), self.labels)
        workspace = -(-self._workspace.data_ptr() // ALIGN) * ALIGN
        done = library.sw_encoder_run(
            self._record,
            tokens.data_ptr(),
            None if kinds is None else kinds.data_ptr(),
            offsets.data_ptr(),
            len(ids),
            threads,
            workspace,
            out.data_ptr(),
        )
        if not done:
            raise ValueError("a token id, a type or a length is none of the model's")
        return out

    # What the engine reads --------------------------------------------------------------------------------------

    def _describe(self) -> native.Encoder:
        config, encoder = self._description.config, self._encoder
        at = f"{encoder.prefix}.embeddings"
        words, scales = self._stored(f"{at}.word_embeddings.weight")
        positions = self._table(f"{at}.position_embeddings.weight")
        types = self._table(f"{at}.token_type_embeddings.weight") if encoder.types is not None else None
        layers = self._layers()
        width, hidden = words.shape[1], int(config[encoder.hidden_key])
        heads = int(config[encoder.heads_key])
        record = native.Encoder(
            layers=len(layers),
            hidden=hidden,
            width=width,
            head=hidden // heads,
            vocabulary=words.shape[0],
            positions=positions.shape[0],
            types=0 if types is None else types.shape[0],
            first_position=encoder.first_position(config),
            # RoBERTa's kind counts tokens but padding, whose id is the position before the first.
            padding_id=encoder.first_position(config) - 1,
            activation=ACTIVATIONS[config.get(encoder.activation_key, "gelu")],
            labels=self.labels,
            epsilon=float(config.get("layer_norm_eps", EPSILON)),
            position_table=positions.data_ptr(),
            type_table=None if types is None else types.data_ptr(),
            embedding_norm=self._norm(f"{at}.LayerNorm"),
            layer=layers,
        )
        self._words(record, words, scales)
        if width != hidden:
            record.projection = self._map(f"{encoder.prefix}.embeddings_project")
        if encoder.relative_bias:
            record.relative_bias = self._relative(heads, positions.shape[0]).data_ptr()
        dense, classifier = encoder.head_maps()
        record.dense, record.head_activation = self._map(dense), Activation[encoder.head_activation]
        record.classifier = self._map(classifier)
        record.fast_attention = any(weight.precision is not Precision.FLOAT32 for weight in self.weights.values())
        return record

    def _layers(self) -> Any:
        found = self._description.blocks
        layers = (native.Layer * (len(found) // 2))()
        for block in found:
            layer = layers[block.layer]
            at = f"{self._encoder.prefix}.{self._encoder.layers}.{block.layer}"
            if isinstance(block, FeedForward):
                layer.up, layer.down = self._map(block.inputs[0]), self._map(block.output)
                layer.output_norm = self._norm(f"{at}.{self._encoder.output_norm}")
            else:
                layer.heads = block.heads
                layer.query, layer.key = self._map(block.query), self._map(block.key)
                layer.value, layer.output = self._map(block.value), self._map(block.output)
                layer.attention_norm = self._norm(f"{at}.{self._encoder.attention_norm}")
        return layers

    def _table(self, name: str) -> Tensor:
        table = self._source.tensor(name, CPU).float().contiguous()
        self._held.append(table)
        return table

    def _norm(self, name: str) -> native.Norm:
        return native.Norm(self._table(f"{name}.weight").data_ptr(), self._table(f"{name}.bias").data_ptr())

    def _stored(self, name: str) -> tuple[Tensor, Tensor | None]:
        """A tensor as the file holds it, and the scales of int8 rows."""
        if isinstance(self._source, Compact):
            return self._source.stored(name, CPU)
        return self._source.tensor(name, CPU), None

    def _map(self, name: str) -> native.Map:
        values, scales = self._stored(f"{name}.weight")
        matrix = widened(values, scales, torch.float32).contiguous()
        form, precision = self._choose(matrix)
        given = None if scales is None or precision is not Precision.INT8 else scales.contiguous()
        weight = Weight(
            form,
            precision,
            matrix.shape[0],
            matrix.shape[1],
            matrix.data_ptr(),
            None if given is None else given.data_ptr(),
        )
        self.weights[name] = weight
        return native.Map(weight.address, self._table(f"{name}.bias").data_ptr())

    def _words(self, record: native.Encoder, words: Tensor, scales: Tensor | None) -> None:
        """The table of words stays in the precision of the file, where the engine reads it."""
        precisions = {torch.float32: Precision.FLOAT32, torch.bfloat16: Precision.BFLOAT16, torch.int8: Precision.INT8}
        if words.dtype not in precisions:
            words = words.float()
        words = words.contiguous()
        record.words, record.words_precision = words.data_ptr(), precisions[words.dtype]
        self._held.append(words)
        if scales is not None:
            scales = scales.contiguous()
            record.words_scales = scales.data_ptr()
            self._held.append(scales)

    def _relative(self, heads: int, positions: int) -> Tensor:
        """(heads, 2 p - 1): what MPNet adds to the score of a key that lies so far from the query."""
        from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

        table = self._source.tensor(f"{self._encoder.prefix}.encoder.relative_attention_bias.weight", CPU).float()
        distances = torch.arange(1 - positions, positions)
        buckets: Tensor = MPNetEncoder.relative_position_bucket(distances)  # type: ignore[no-untyped-call]
        bias = table[buckets].T.contiguous()
        self._held.append(bias)
        return bias
