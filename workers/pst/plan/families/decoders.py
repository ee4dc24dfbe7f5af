"""Decoder-only families: GPT-2, and LLaMA's kind (LLaMA, SmolLM2, Mistral, Qwen2, Qwen3).

LLaMA's kind states the size of a head beside the number of heads: heads can be removed, a key-value head together with
the query heads that it serves. GPT-2 can't say fewer heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pst.plan.families.parts import (
    HEADS,
    LAYERS,
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
)


def _head(config: Config, task: str, width: int, labels: int, tied: bool) -> Iterator[TensorSpec]:
    """The layer of labels, or of generation: the LM head, unless it is the embedding table itself."""
    if task != "generation":
        yield from linear("score", labels, width, bias=False, head=True)
    elif not tied:
        yield from linear("lm_head", size(config, "vocab_size"), width, bias=False)


def _gpt2_blocks(config: Config, task: str) -> Iterator[Block]:
    width, heads = size(config, "n_embd"), size(config, "n_head", most=HEADS)
    for layer in range(size(config, "n_layer", most=LAYERS)):
        at = f"transformer.h.{layer}"
        yield Attention(
            group="attention",
            layer=layer,
            query=f"{at}.attn.c_attn",
            key=f"{at}.attn.c_attn",
            value=f"{at}.attn.c_attn",
            output=f"{at}.attn.c_proj",
            width=width,
            heads=heads,
            kv_heads=heads,
            head_dim=share(config, width, heads),
            conv1d=True,
        )
        yield FeedForward(
            group="ffn",
            layer=layer,
            inputs=(f"{at}.mlp.c_fc",),
            output=f"{at}.mlp.c_proj",
            width=width,
            inner=size(config, "n_inner", 4 * width),
            config_key="n_inner",
            activation=text(config, "activation_function", "gelu_new"),
            conv1d=True,
        )


def _gpt2_rest(config: Config, task: str, labels: int) -> Iterator[TensorSpec]:
    width = size(config, "n_embd")
    yield table("transformer.wte", size(config, "vocab_size"), width)
    yield table("transformer.wpe", size(config, "n_positions", 1024), width)
    for layer in range(size(config, "n_layer", most=LAYERS)):
        yield from norm(f"transformer.h.{layer}.ln_1", width)
        yield from norm(f"transformer.h.{layer}.ln_2", width)
    yield from norm("transformer.ln_f", width)
    yield from _head(config, task, width, labels, flag(config, "tie_word_embeddings", True))


def _gpt2_tied(config: Config, task: str) -> dict[str, str]:
    tied = task == "generation" and flag(config, "tie_word_embeddings", True)
    return {"lm_head.weight": "transformer.wte.weight"} if tied else {}


GPT2 = Architecture(
    tasks=TASKS,
    groups=("attention", "ffn"),
    blocks=_gpt2_blocks,
    rest=_gpt2_rest,
    tied=_gpt2_tied,
    max_tokens=lambda config: size(config, "n_positions", 1024),
)


@dataclass(frozen=True)
class Llama:
    """What differs within LLaMA's kind. ``kv_heads`` and ``head_dim`` are what a config means that states neither;
    None: as many heads as queries, and an even share of the hidden size. ``qkv_bias`` None: the config decides.
    ``heads_divide``: the class refuses a number of heads that does not divide the hidden size."""

    kv_heads: int | None = None
    head_dim: int | None = None
    qkv_bias: bool | None = None
    mlp_bias_key: str | None = None
    query_norm: bool = False
    heads_divide: bool = False

    def architecture(self) -> Architecture:
        return Architecture(
            tasks=TASKS,
            groups=("attention", "ffn"),
            blocks=self.blocks,
            rest=self.rest,
            tied=self.tied,
            max_tokens=lambda config: size(config, "max_position_embeddings"),
        )

    def dim(self, config: Config) -> int:
        hidden, heads = size(config, "hidden_size"), size(config, "num_attention_heads", most=HEADS)
        if config.get("head_dim") is None and self.head_dim is None:
            return share(config, hidden, heads)
        return size(config, "head_dim", self.head_dim)

    def blocks(self, config: Config, task: str) -> Iterator[Block]:
        hidden, heads = size(config, "hidden_size"), size(config, "num_attention_heads", most=HEADS)
        stated = "num_key_value_heads" in config or self.kv_heads is None
        kv_heads = size(config, "num_key_value_heads", heads if stated else self.kv_heads, most=HEADS)
        queries = share(config, heads, kv_heads)
        bias = flag(config, "attention_bias", False) if self.qkv_bias is None else self.qkv_bias
        units = range(1, kv_heads + 1)
        for layer in range(size(config, "num_hidden_layers", most=LAYERS)):
            at = f"model.layers.{layer}"
            yield Attention(
                group="attention",
                layer=layer,
                query=f"{at}.self_attn.q_proj",
                key=f"{at}.self_attn.k_proj",
                value=f"{at}.self_attn.v_proj",
                output=f"{at}.self_attn.o_proj",
                width=hidden,
                heads=heads,
                kv_heads=kv_heads,
                head_dim=self.dim(config),
                bias=bias,
                output_bias=bias and self.qkv_bias is None,
                config_keys=(("num_key_value_heads", 1), ("num_attention_heads", queries)),
                config_fixed=(("head_dim", self.dim(config)),),
                allowed=tuple(n for n in units if hidden % (n * queries) == 0) if self.heads_divide else None,
            )
            yield FeedForward(
                group="ffn",
                layer=layer,
                inputs=(f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj"),
                output=f"{at}.mlp.down_proj",
                width=hidden,
                inner=size(config, "intermediate_size"),
                config_key="intermediate_size",
                activation=text(config, "hidden_act", "silu"),
                bias=self.mlp_bias_key is not None and flag(config, self.mlp_bias_key, False),
            )

    def rest(self, config: Config, task: str, labels: int) -> Iterator[TensorSpec]:
        hidden = size(config, "hidden_size")
        yield table("model.embed_tokens", size(config, "vocab_size"), hidden)
        for layer in range(size(config, "num_hidden_layers", most=LAYERS)):
            at = f"model.layers.{layer}"
            if self.query_norm:
                yield from norm(f"{at}.self_attn.q_norm", self.dim(config), bias=False)
                yield from norm(f"{at}.self_attn.k_norm", self.dim(config), bias=False)
            yield from norm(f"{at}.input_layernorm", hidden, bias=False)
            yield from norm(f"{at}.post_attention_layernorm", hidden, bias=False)
        yield from norm("model.norm", hidden, bias=False)
        yield from _head(config, task, hidden, labels, flag(config, "tie_word_embeddings", False))

    def tied(self, config: Config, task: str) -> dict[str, str]:
        tied = task == "generation" and flag(config, "tie_word_embeddings", False)
        return {"lm_head.weight": "model.embed_tokens.weight"} if tied else {}


LLAMA = Llama(mlp_bias_key="mlp_bias", heads_divide=True).architecture()
MISTRAL = Llama(kv_heads=8, qkv_bias=False).architecture()
QWEN2 = Llama(kv_heads=32, qkv_bias=True).architecture()
QWEN3 = Llama(kv_heads=32, head_dim=128, query_norm=True).architecture()
