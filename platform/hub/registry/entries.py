"""What the entries of a base model's config.json and generation_config.json may be, so that no job learns it first.

Sizes are checked against the weights (:mod:`hub.registry.fit`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hub.core.errors import UserError
from pst.messages import Message

CONFIG, GENERATION = "config.json", "generation_config.json"
ACTIVATIONS = frozenset(
    [
        "gelu",
        "gelu_10",
        "gelu_accurate",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_python_tanh",
        "gelu_pytorch_tanh",
        "hardswish",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "prelu",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "sigmoid",
        "silu",
        "sqrtsoftplus",
        "swish",
        "tanh",
        "xielu",
    ]
)
"""Those that transformers knows by a name."""
ACTIVATION_KEYS = frozenset(
    ["activation", "activation_function", "dense_act_fn", "feed_forward_proj", "hidden_act", "summary_activation"]
)
DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
WHOLE = frozenset(
    [
        "chunk_size_feed_forward",
        "max_window_layers",
        "pretraining_tp",
        "relative_attention_max_distance",
        "relative_attention_num_buckets",
        "sliding_window",
    ]
)
FRACTIONS = frozenset(
    ["init_std", "initializer_factor", "initializer_range", "layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps"]
)
SWITCHES = frozenset(
    [
        "add_cross_attention",
        "attention_bias",
        "is_decoder",
        "is_encoder_decoder",
        "mlp_bias",
        "output_hidden_states",
        "reorder_and_upcast_attn",
        "return_dict",
        "scale_attn_by_inverse_layer_idx",
        "scale_attn_weights",
        "scale_embedding",
        "sinusoidal_pos_embds",
        "summary_proj_to_labels",
        "summary_use_proj",
        "tie_word_embeddings",
        "use_cache",
        "use_sliding_window",
    ]
)
PROBABILITY = re.compile(r"dropout|pdrop$|layerdrop$")
TOKEN = re.compile(r"_token_ids?$|^(begin_)?suppress_tokens$|^(bad|force)_words_ids$")
BIASES = frozenset({"sequence_bias", "forced_decoder_ids"})
"""Lists of pairs: tokens and what is added to their score; a place in the text and the token that stands there."""
_BIAS, _PLACE = Message("a list of pairs [tokens, number]"), Message("a list of pairs [place, token]")
DEPENDENT_HEADS = frozenset({"bart", "mbart", "mt5", "t5"})
"""Families whose head takes its dropout from classifier_dropout alone, so that null breaks it."""
NULLABLE = frozenset({"sliding_window", "summary_activation", "pretraining_tp"})
CLASS_PREFIXES = {
    "bart": ("Bart",),
    "bert": ("Bert",),
    "camembert": ("Camembert", "Roberta"),
    "distilbert": ("DistilBert",),
    "electra": ("Electra",),
    "gpt2": ("GPT2",),
    "llama": ("Llama", "LLaMA"),
    "mbart": ("MBart", "Bart"),
    "mistral": ("Mistral",),
    "mpnet": ("MPNet",),
    "mt5": ("MT5", "T5"),
    "qwen2": ("Qwen2",),
    "qwen3": ("Qwen3",),
    "roberta": ("Roberta",),
    "t5": ("T5",),
    "xlm-roberta": ("XLMRoberta", "Roberta"),
}
"""How the names of each family's classes begin; public checkpoints name that of a parent, too."""


def check_entries(config: Mapping[str, Any], generation: Mapping[str, Any]) -> None:
    """Raise UserError, naming file, entry and what may stand there."""
    rows = config["vocab_size"]
    for name, content in ((CONFIG, config), (GENERATION, generation)):
        for key, value in content.items():
            if key in BIASES:
                _check_pairs(name, key, value, rows)
            elif TOKEN.search(key):
                _check_tokens(name, key, value, rows)
            elif name == CONFIG and (may := _expected(key, value, config)):
                _refuse(name, key, value, may)


def _expected(key: str, value: Any, config: Mapping[str, Any]) -> Message | None:
    """What may stand under a key of config.json; None where it does."""
    found: Message | None = None
    if PROBABILITY.search(key):
        may_lack = key == "classifier_dropout" and config["model_type"] not in DEPENDENT_HEADS
        if not (_number(value) and 0 <= value <= 1) and not (value is None and may_lack):
            found = Message("a number from 0 to 1")
        elif key.endswith("layerdrop") and not isinstance(value, float):
            found = Message("a number with a point, as 1.0")
    elif value is None and (key in NULLABLE or (key in SWITCHES and key in {"output_hidden_states", "return_dict"})):
        pass
    elif key in ACTIVATION_KEYS:
        gated = key == "feed_forward_proj" and isinstance(value, str)
        if not isinstance(value, str) or (value.removeprefix("gated-") if gated else value) not in ACTIVATIONS:
            found = Message("an activation function that transformers knows, as gelu, relu or silu")
    elif key in SWITCHES:
        if not isinstance(value, bool):
            found = Message("true or false")
    elif key in WHOLE:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            found = Message("a whole number")
    elif key in FRACTIONS:
        if not isinstance(value, float) or value < 0:
            found = Message("a number with a point, as 1.0")
    elif key in {"dtype", "torch_dtype"}:
        if value is not None and (not isinstance(value, str) or value not in DTYPES):
            found = Message("float16, bfloat16, float32 or float64")
    elif key == "layer_types":
        layers = config.get("num_hidden_layers")
        if value is not None and not (isinstance(value, list) and len(value) == layers and _all_in(value, LAYER_TYPES)):
            found = Message("full_attention or sliding_attention for each layer")
    elif key == "architectures":
        begins = CLASS_PREFIXES.get(config["model_type"], ("",))
        if value is not None and not (
            isinstance(value, list)
            and len(value) < 10
            and all(isinstance(item, str) and item.removeprefix("TF").startswith(begins) for item in value)
        ):
            found = Message("a list of classes of the model's family, as {name}Model", name=begins[0])
    return found


def _check_tokens(name: str, key: str, value: Any, rows: int) -> None:
    waiting = [] if value is None else [value]
    while waiting:
        token = waiting.pop()
        if isinstance(token, list):
            waiting.extend(token)
        elif not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < rows:
            may = Message("the number of a token, from 0 to {last} (vocab_size - 1), or null", last=rows - 1)
            _refuse(name, key, token, may)


def _check_pairs(name: str, key: str, value: Any, rows: int) -> None:
    for pair in value if isinstance(value, list) else [] if value is None else [value]:
        first, second = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if key == "sequence_bias":
            tokens, sound, may = first, isinstance(first, list) and first and _number(second), _BIAS
        else:
            tokens, sound, may = second, isinstance(first, int) and _number(first) and first >= 0, _PLACE
        if not sound:
            _refuse(name, key, pair, may)
        _check_tokens(name, key, tokens, rows)


def _refuse(name: str, key: str, value: Any, may: Message) -> None:
    shown = "null" if value is None else str(value)[:40]
    message = Message("{name} gives {key} as {value}; it must be {may}.", name=name, key=key, value=shown, may=may)
    raise UserError(message, details=[{"file": name, "message": message}])


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _all_in(values: list[Any], known: frozenset[str]) -> bool:
    return all(isinstance(value, str) and value in known for value in values)
