"""Encoder-only families: BERT, RoBERTa (XLM-R, CamemBERT), MPNet, ELECTRA, DistilBERT.

Their config states the hidden size and the number of heads, and takes the size of a head from both: it can't say fewer
heads of the same size, so heads are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pst.plan.families.parts import (
    CLASSIFIERS,
    HEADS,
    LAYERS,
    Architecture,
    Attention,
    Block,
    Config,
    FeedForward,
    TensorSpec,
    linear,
    norm,
    share,
    size,
    table,
    text,
    two_layer_head,
)


@dataclass(frozen=True)
class Encoder:
    """Where an encoder keeps its tensors, and under which keys its config gives the sizes.

    ``classifier`` is the shape of the head: "pooler" (a pooler and one layer), "two_layers" or "pre_classifier".
    ``padding_index``: positions are counted from behind it on (RoBERTa's kind). ``head_activation``: between the two
    layers of the head, which transformers' classes fix.
    """

    prefix: str
    layers: str = "encoder.layer"
    attention: tuple[str, str, str, str] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    )
    attention_norm: str = "attention.output.LayerNorm"
    feed_forward: tuple[str, str] = ("intermediate.dense", "output.dense")
    output_norm: str = "output.LayerNorm"
    hidden_key: str = "hidden_size"
    inner_key: str = "intermediate_size"
    layers_key: str = "num_hidden_layers"
    heads_key: str = "num_attention_heads"
    activation_key: str = "hidden_act"
    types: int | None = 2
    classifier: str = "two_layers"
    own_embedding_size: bool = False
    relative_bias: bool = False
    padding_index: int | None = None
    head_activation: str = "TANH"

    def architecture(self) -> Architecture:
        return Architecture(
            tasks=CLASSIFIERS,
            groups=("attention", "ffn"),
            blocks=self.blocks,
            rest=self.rest,
            tied=lambda config, task: {},
            max_tokens=self.max_tokens,
        )

    def blocks(self, config: Config, task: str) -> Iterator[Block]:
        hidden, inner = size(config, self.hidden_key), size(config, self.inner_key)
        heads = size(config, self.heads_key, most=HEADS)
        for layer in range(size(config, self.layers_key, most=LAYERS)):
            at = f"{self.prefix}.{self.layers}.{layer}"
            query, key, value, output = (f"{at}.{name}" for name in self.attention)
            yield Attention(
                group="attention",
                layer=layer,
                query=query,
                key=key,
                value=value,
                output=output,
                width=hidden,
                heads=heads,
                kv_heads=heads,
                head_dim=share(config, hidden, heads),
            )
            first, second = (f"{at}.{name}" for name in self.feed_forward)
            yield FeedForward(
                group="ffn",
                layer=layer,
                inputs=(first,),
                output=second,
                width=hidden,
                inner=inner,
                config_key=self.inner_key,
                activation=text(config, self.activation_key, "gelu"),
            )

    def rest(self, config: Config, task: str, labels: int) -> Iterator[TensorSpec]:
        hidden = size(config, self.hidden_key)
        width = size(config, "embedding_size", 128) if self.own_embedding_size else hidden
        at = f"{self.prefix}.embeddings"
        yield table(f"{at}.word_embeddings", size(config, "vocab_size"), width)
        yield table(f"{at}.position_embeddings", size(config, "max_position_embeddings", 512), width)
        if self.types is not None:
            yield table(f"{at}.token_type_embeddings", size(config, "type_vocab_size", self.types), width)
        yield from norm(f"{at}.LayerNorm", width)
        if width != hidden:
            yield from linear(f"{self.prefix}.embeddings_project", hidden, width)
        for layer in range(size(config, self.layers_key, most=LAYERS)):
            yield from norm(f"{self.prefix}.{self.layers}.{layer}.{self.attention_norm}", hidden)
            yield from norm(f"{self.prefix}.{self.layers}.{layer}.{self.output_norm}", hidden)
        if self.relative_bias:
            shape = (size(config, "relative_attention_num_buckets", 32), size(config, self.heads_key, most=HEADS))
            yield TensorSpec(f"{self.prefix}.encoder.relative_attention_bias.weight", shape)
        yield from self.head(hidden, labels)

    def head(self, hidden: int, labels: int) -> Iterator[TensorSpec]:
        if self.classifier == "two_layers":
            yield from two_layer_head("classifier", hidden, labels)
            return
        hidden_layer, output = self.head_maps()
        yield from linear(hidden_layer, hidden, hidden, head=True)
        yield from linear(output, labels, hidden, head=True)

    def head_maps(self) -> tuple[str, str]:
        """The hidden layer of the head, and its output. BERT's pooler is the former, classifier.dense RoBERTa's."""
        if self.classifier == "two_layers":
            return "classifier.dense", "classifier.out_proj"
        return (f"{self.prefix}.pooler.dense" if self.classifier == "pooler" else "pre_classifier"), "classifier"

    def max_tokens(self, config: Config) -> int:
        """RoBERTa's kind counts positions from behind the padding index on."""
        return size(config, "max_position_embeddings", 512) - self.first_position(config)

    def first_position(self, config: Config) -> int:
        """The row of the position table that the first token takes."""
        if self.padding_index is None:
            return 0
        # MPNet's padding index is 1 whatever its config says.
        padding = config.get("pad_token_id") if self.types is not None else None
        return 1 + (padding if isinstance(padding, int) else self.padding_index)


_BERT = Encoder("bert", classifier="pooler", head_activation="TANH")
_ROBERTA = Encoder("roberta", padding_index=1, head_activation="TANH")
_ELECTRA = Encoder("electra", own_embedding_size=True, head_activation="GELU")
_MPNET = Encoder(
    "mpnet",
    attention=("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),
    attention_norm="attention.LayerNorm",
    types=None,
    relative_bias=True,
    padding_index=1,
    head_activation="TANH",
)
_DISTILBERT = Encoder(
    "distilbert",
    layers="transformer.layer",
    attention=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    attention_norm="sa_layer_norm",
    feed_forward=("ffn.lin1", "ffn.lin2"),
    output_norm="output_layer_norm",
    hidden_key="dim",
    inner_key="hidden_dim",
    layers_key="n_layers",
    heads_key="n_heads",
    activation_key="activation",
    types=None,
    classifier="pre_classifier",
    head_activation="RELU",
)

ENCODERS = {
    "bert": _BERT,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "electra": _ELECTRA,
    "mpnet": _MPNET,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
"""By model type."""
BERT, ROBERTA, ELECTRA = _BERT.architecture(), _ROBERTA.architecture(), _ELECTRA.architecture()
MPNET, DISTILBERT = _MPNET.architecture(), _DISTILBERT.architecture()
