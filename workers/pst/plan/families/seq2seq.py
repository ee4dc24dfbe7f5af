"""Encoder-decoder families: T5 (mT5) and BART (mBART). Cross-attention belongs to the group decoder.attention.

T5 states the size of a head: heads can be removed. All its attentions have the same number of heads and both stacks
the same number of neurons; within a stack the self-attentions share one position bias a head, so they keep the same
heads. BART can't say fewer heads; encoder and decoder each have their own number of neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pst.plan.families.parts import (
    HEADS,
    LAYERS,
    NO_LIMIT,
    TASKS,
    Architecture,
    Attention,
    Block,
    Config,
    FeedForward,
    TensorSpec,
    flag,
    linear,
    norm,
    share,
    size,
    table,
    text,
    two_layer_head,
)

GROUPS = ("encoder.attention", "encoder.ffn", "decoder.attention", "decoder.ffn")


@dataclass(frozen=True)
class T5:
    """``activation`` is the feed-forward activation of a config that states none."""

    activation: str

    def architecture(self) -> Architecture:
        return Architecture(
            tasks=TASKS,
            groups=GROUPS,
            blocks=self.blocks,
            rest=self.rest,
            tied=self.tied,
            max_tokens=lambda config: NO_LIMIT,
        )

    def prefix(self, task: str) -> str:
        return "" if task == "generation" else "transformer."

    def stacks(self, config: Config) -> tuple[tuple[str, int], tuple[str, int]]:
        layers = size(config, "num_layers", most=LAYERS)
        return ("encoder", layers), ("decoder", size(config, "num_decoder_layers", layers, most=LAYERS))

    def blocks(self, config: Config, task: str) -> Iterator[Block]:
        for stack, layers in self.stacks(config):
            at = f"{self.prefix(task)}{stack}.block"
            bias = f"{at}.0.layer.0.SelfAttention.relative_attention_bias.weight"
            for layer in range(layers):
                yield self.attention(config, stack, layer, f"{at}.{layer}.layer.0.SelfAttention", bias)
                if stack == "decoder":
                    yield self.attention(config, stack, layer, f"{at}.{layer}.layer.1.EncDecAttention", "")
                yield self.feed_forward(config, stack, layer, f"{at}.{layer}.layer.{1 if stack == 'encoder' else 2}")

    def attention(self, config: Config, stack: str, layer: int, at: str, position_bias: str) -> Attention:
        heads = size(config, "num_heads", most=HEADS)
        return Attention(
            group=f"{stack}.attention",
            layer=layer,
            query=f"{at}.q",
            key=f"{at}.k",
            value=f"{at}.v",
            output=f"{at}.o",
            width=size(config, "d_model"),
            heads=heads,
            kv_heads=heads,
            head_dim=size(config, "d_kv", 64),
            bias=False,
            output_bias=False,
            position_bias=position_bias,
            config_keys=(("num_heads", 1),),
            config_fixed=(("d_kv", size(config, "d_kv", 64)),),
        )

    def feed_forward(self, config: Config, stack: str, layer: int, at: str) -> FeedForward:
        kind = text(config, "feed_forward_proj", self.activation)
        inputs = ("wi_0", "wi_1") if kind.startswith("gated-") else ("wi",)
        return FeedForward(
            group=f"{stack}.ffn",
            layer=layer,
            inputs=tuple(f"{at}.DenseReluDense.{name}" for name in inputs),
            output=f"{at}.DenseReluDense.wo",
            width=size(config, "d_model"),
            inner=size(config, "d_ff"),
            config_key="d_ff",
            activation="gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-"),
            bias=False,
        )

    def rest(self, config: Config, task: str, labels: int) -> Iterator[TensorSpec]:
        width, vocabulary, start = size(config, "d_model"), size(config, "vocab_size"), self.prefix(task)
        yield table(f"{start}shared", vocabulary, width)
        shape = (size(config, "relative_attention_num_buckets", 32), size(config, "num_heads", most=HEADS))
        for stack, layers in self.stacks(config):
            at = f"{start}{stack}"
            yield TensorSpec(f"{at}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", shape)
            for layer in range(layers):
                for part in range(2 if stack == "encoder" else 3):
                    yield from norm(f"{at}.block.{layer}.layer.{part}.layer_norm", width, bias=False)
            yield from norm(f"{at}.final_layer_norm", width, bias=False)
        if task != "generation":
            yield from two_layer_head("classification_head", width, labels)
        elif not flag(config, "tie_word_embeddings", True):
            yield from linear("lm_head", vocabulary, width, bias=False)

    def tied(self, config: Config, task: str) -> dict[str, str]:
        """T5 always ties its two embedding tables; the LM head is one of its own in T5 1.1, Flan-T5 and mT5."""
        start = self.prefix(task)
        names = [f"{start}encoder.embed_tokens.weight", f"{start}decoder.embed_tokens.weight"]
        if task == "generation" and flag(config, "tie_word_embeddings", True):
            names.append("lm_head.weight")
        return dict.fromkeys(names, f"{start}shared.weight")


@dataclass(frozen=True)
class Bart:
    """``final_norm``: mBART ends each stack with a LayerNorm."""

    final_norm: bool

    def architecture(self) -> Architecture:
        return Architecture(
            tasks=TASKS,
            groups=GROUPS,
            blocks=self.blocks,
            rest=self.rest,
            tied=self.tied,
            max_tokens=lambda config: size(config, "max_position_embeddings", 1024),
        )

    def blocks(self, config: Config, task: str) -> Iterator[Block]:
        for stack in ("encoder", "decoder"):
            for layer in range(size(config, f"{stack}_layers", most=LAYERS)):
                at = f"model.{stack}.layers.{layer}"
                yield self.attention(config, stack, layer, f"{at}.self_attn")
                if stack == "decoder":
                    yield self.attention(config, stack, layer, f"{at}.encoder_attn")
                yield FeedForward(
                    group=f"{stack}.ffn",
                    layer=layer,
                    inputs=(f"{at}.fc1",),
                    output=f"{at}.fc2",
                    width=size(config, "d_model"),
                    inner=size(config, f"{stack}_ffn_dim"),
                    config_key=f"{stack}_ffn_dim",
                    activation=text(config, "activation_function", "gelu"),
                )

    def attention(self, config: Config, stack: str, layer: int, at: str) -> Attention:
        width, heads = size(config, "d_model"), size(config, f"{stack}_attention_heads", most=HEADS)
        return Attention(
            group=f"{stack}.attention",
            layer=layer,
            query=f"{at}.q_proj",
            key=f"{at}.k_proj",
            value=f"{at}.v_proj",
            output=f"{at}.out_proj",
            width=width,
            heads=heads,
            kv_heads=heads,
            head_dim=share(config, width, heads),
        )

    def rest(self, config: Config, task: str, labels: int) -> Iterator[TensorSpec]:
        width, vocabulary = size(config, "d_model"), size(config, "vocab_size")
        tied = flag(config, "tie_word_embeddings", True)
        yield table("model.shared", vocabulary, width)
        for stack in ("encoder", "decoder"):
            at = f"model.{stack}"
            if not tied:
                yield table(f"{at}.embed_tokens", vocabulary, width)
            # Two rows lie before the first position.
            yield table(f"{at}.embed_positions", size(config, "max_position_embeddings", 1024) + 2, width)
            yield from norm(f"{at}.layernorm_embedding", width)
            for layer in range(size(config, f"{stack}_layers", most=LAYERS)):
                yield from norm(f"{at}.layers.{layer}.self_attn_layer_norm", width)
                if stack == "decoder":
                    yield from norm(f"{at}.layers.{layer}.encoder_attn_layer_norm", width)
                yield from norm(f"{at}.layers.{layer}.final_layer_norm", width)
            if self.final_norm:
                yield from norm(f"{at}.layer_norm", width)
        if task != "generation":
            yield from two_layer_head("classification_head", width, labels)
            return
        yield TensorSpec("final_logits_bias", (1, vocabulary), zeros=True)
        if not tied:
            yield from linear("lm_head", vocabulary, width, bias=False)

    def tied(self, config: Config, task: str) -> dict[str, str]:
        if not flag(config, "tie_word_embeddings", True):
            return {}
        names = ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"]
        if task == "generation":
            names.append("lm_head.weight")
        return dict.fromkeys(names, "model.shared.weight")


T5_RELU = T5("relu").architecture()
MT5 = T5("gated-gelu").architecture()
BART = Bart(final_norm=False).architecture()
MBART = Bart(final_norm=True).architecture()
