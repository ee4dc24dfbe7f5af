"""Whatever the files of a base model say: taken or refused in one sentence, in a time that their size bounds."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.core.errors import UserError
from hub.registry.services.base_models import Source, inspect, split_names
from pst.plan import families
from pst.plan.foreign import KEYS
from tests.factories.registry import base_files

BERT = {"hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**BERT, "num_key_value_heads": 1}
T5 = {"d_model": 4, "d_ff": 3, "num_layers": 2, "num_heads": 2, "d_kv": 2}
BART = {
    "d_model": 4,
    **{f"{stack}_{key}": size for stack in ("encoder", "decoder") for key, size in (("layers", 2), ("ffn_dim", 3))},
    **{f"{stack}_attention_heads": 2 for stack in ("encoder", "decoder")},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bart": BART,
    "bert": BERT,
    "camembert": BERT,
    "distilbert": {"dim": 4, "hidden_dim": 3, "n_layers": 2, "n_heads": 2},
    "electra": {**BERT, "embedding_size": 2},
    "gpt2": {"n_embd": 4, "n_layer": 2, "n_head": 2, "n_positions": 8},
    "llama": BERT,
    "mbart": BART,
    "mistral": GROUPED,
    "mpnet": BERT,
    "mt5": T5,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 2},
    "roberta": BERT,
    "t5": T5,
    "xlm-roberta": BERT,
}


def config_of(kind: str, **changes: Any) -> dict[str, Any]:
    return {**CONFIGS[kind], "model_type": kind, "vocab_size": 20, "max_position_embeddings": 8, **changes}


def check(files: dict[str, bytes]) -> None:
    names, _ = split_names(files)
    inspect([Source(name, io.BytesIO(files[name]), len(files[name])) for name in names])


def refused(kind: str, **changes: Any) -> str:
    """Why the config is refused that the weights of ``kind`` do not follow."""
    files = base_files(config_of(kind)) | {"config.json": json.dumps(config_of(kind, **changes)).encode()}
    with pytest.raises(UserError) as error:
        check(files)
    return error.value.message


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_size_of_each_family_is_that_of_the_weights(kind: str) -> None:
    check(base_files(config_of(kind)))
    for key, value in CONFIGS[kind].items():
        if "head" not in key:  # of these no shape need tell
            assert refused(kind, **{key: value * 2})
        if "layer" in key:
            assert "too few layers" in refused(kind, **{key: 1})


@pytest.mark.parametrize("kind", families.FAMILIES)
def test_vocabulary_and_heads_of_each_family_are_checked(kind: str) -> None:
    assert "config.json asks for 19 x" in refused(kind, vocab_size=19)
    for key in CONFIGS[kind]:
        if "head" in key and key not in {"num_key_value_heads", "head_dim"}:
            # Three divide no width of four; where a head's size is stated, the weights' shapes tell.
            why = refused(kind, **{key: 3})
            assert "attention heads, which do not divide 4" in why or "config.json asks for" in why


@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 10**9},
        {"id2label": {str(number): "x" for number in range(20_000)}},
        {"layer_norm_eps": 1e300},
        {"pad_token_id": 10**40},
        {"rope_parameters": {"factor": [2**40]}},
    ],
)
def test_every_number_has_bounds(changes: dict[str, Any]) -> None:
    assert "config.json does not describe a base model: it " in refused("bert", **changes)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
NAMES = [*families.ModelDescription(config_of("bert"), labels=2).tensors]
NAMED = st.sampled_from([spec.name for spec in NAMES]) | st.text(max_size=9)
CONFIG_KEYS = st.sampled_from([*BERT, *sorted(KEYS), "vocab_size", "id2label", "pad_token_id", "rope_parameters"])
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I8", "X"]) | VALUES,
        "shape": st.lists(st.integers(-1, 2**63), max_size=3) | VALUES,
        "data_offsets": st.lists(st.integers(-1, 2**63), max_size=3) | VALUES,
    }
)


@settings(max_examples=100, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([*CONFIGS]),
    changes=st.dictionaries(CONFIG_KEYS | st.text(max_size=9), VALUES, max_size=4),
    header=st.none() | st.dictionaries(NAMED, TENSORS | VALUES, max_size=4) | st.binary(max_size=40),
    tokens=st.none() | st.dictionaries(st.sampled_from(["model", "added_tokens"]), VALUES, max_size=2),
    special=st.dictionaries(st.sampled_from(["pad_token", "added_tokens_decoder", "auto_map"]), VALUES, max_size=2),
)
def test_whatever_is_uploaded_is_taken_or_refused_in_time(
    kind: str, changes: dict[str, Any], header: Any, tokens: dict[str, Any] | None, special: dict[str, Any]
) -> None:
    files = base_files(config_of(kind))
    files["config.json"] = json.dumps(config_of(kind, **changes)).encode()
    files["tokenizer_config.json"] = json.dumps(special).encode()
    if header is not None:
        raw = header if isinstance(header, bytes) else json.dumps(header).encode()
        files["model.safetensors"] = struct.pack("<Q", len(raw)) + raw + bytes(16)
    if tokens is not None:
        files["tokenizer.json"] = json.dumps({**json.loads(files["tokenizer.json"]), **tokens}).encode()
    try:
        check(files)
    except UserError as error:
        assert error.message
