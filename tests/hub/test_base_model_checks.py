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
from hub.registry import finite, tokenizers
from hub.registry.entries import ACTIVATION_KEYS, ACTIVATIONS
from hub.registry.sentencepieces import FILES, Broken, pieces
from hub.registry.services.base_models import Source, inspect, split_names
from hub.registry.tokenizers import INNER, PARTS
from hub.registry.weights import read_header
from pst.plan import families
from pst.plan.foreign import KEYS
from tests.factories.registry import base_files, safetensors

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


def why_not(**files: bytes) -> str:
    """Why a model with these files is refused; a name's dots are written as __."""
    given = {name.replace("__", "."): content for name, content in files.items()}
    with pytest.raises(UserError) as error:
        check({**base_files(), **given})
    return error.value.message


TOKEN_KEYS = ("pad", "eos", "bos", "decoder_start", "forced_bos", "forced_eos", "cls", "sep", "unk", "mask")


@pytest.mark.parametrize("key", [f"{role}_token_id" for role in TOKEN_KEYS])
@pytest.mark.parametrize("value", [20, -1, "1", 1.0, True, [1, 20]])
def test_a_token_number_beyond_the_vocabulary_is_refused(key: str, value: Any) -> None:
    assert f"config.json gives {key} as" in refused("bert", **{key: value})
    why = why_not(generation_config__json=json.dumps({key: value}).encode())
    assert f"generation_config.json gives {key} as" in why and "from 0 to 19" in why


def test_token_numbers_within_the_vocabulary_are_taken() -> None:
    config = {**config_of("bart"), "eos_token_id": [2, 19], "pad_token_id": None, "bos_token_id": 0}
    check(base_files(config) | {"generation_config.json": b'{"eos_token_id": [2, 19], "suppress_tokens": null}'})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config", {"pad_token": "w0", "additional_special_tokens": ["<a>"]}),
        ("tokenizer_config", {"pad_token": "w0", "additional_special_tokens": [{"content": "<a>"}]}),
        ("tokenizer_config", {"pad_token": "w0", "extra_special_tokens": ["<a>"]}),
        ("tokenizer_config", {"pad_token": "w0", "extra_special_tokens": {"image_token": "<a>"}}),
        ("tokenizer_config", {"pad_token": "w0", "image_token": "<a>"}),
        ("special_tokens_map", {"additional_special_tokens": ["<a>"]}),
    ],
)
def test_special_tokens_count_against_the_embeddings(name: str, content: dict[str, Any]) -> None:
    assert "has 21 tokens, but the model has 20" in why_not(**{f"{name}__json": json.dumps(content).encode()})
    fitting = json.dumps(content).replace("<a>", "w1").encode()
    check({**base_files(), f"{name}.json": fitting})


@pytest.mark.parametrize("key", ["additional_special_tokens", "extra_special_tokens"])
@pytest.mark.parametrize("value", [7, [7], [""], {"a": 1}])
def test_special_tokens_that_are_none_are_refused(key: str, value: Any) -> None:
    content = json.dumps({"pad_token": "w0", key: value}).encode()
    assert f"its {key} is no list of tokens" in why_not(tokenizer_config__json=content)


def _sized(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def sentencepieces(pieces: list[str], unknown: int = 0) -> bytes:
    kinds = [2 if number == unknown else 1 for number in range(len(pieces))]
    score = struct.pack("<Bf", 2 << 3 | 5, -1.0)
    bodies = [
        _sized(1, piece.encode()) + score + bytes([3 << 3, kind]) for piece, kind in zip(pieces, kinds, strict=True)
    ]
    return b"".join(_sized(1, body) for body in bodies) + _sized(2, bytes([3 << 3, 1]))


PIECES = sentencepieces([f"p{number}" for number in range(20)])


def test_the_pieces_are_those_that_the_library_reads() -> None:
    processor = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=PIECES)
    assert [processor.id_to_piece(number) for number in range(processor.get_piece_size())] == pieces(PIECES)


@pytest.mark.parametrize("name", FILES)
def test_a_sentencepiece_model_is_read_at_upload(name: str) -> None:
    def given(raw: bytes) -> dict[str, bytes]:
        return base_files(**{"tokenizer.json": None, "tokenizer_config.json": None}) | {name: raw}

    check(given(PIECES))
    broken = [b"", b"garbage" * 9, PIECES[:-3], PIECES[:40], PIECES + PIECES, sentencepieces(["a", "b"], 9)]
    for raw in broken:
        with pytest.raises(UserError, match=f"{name} is broken: it (is no sentencepiece model|has the piece)"):
            check(given(raw))
        with pytest.raises(UserError, match=f"{name} is broken"):
            check({**base_files(), name: raw})
    with pytest.raises(UserError, match="has 21 tokens"):
        check(given(sentencepieces([f"p{number}" for number in range(21)])))


@settings(max_examples=200, deadline=2000)
@given(raw=st.binary(max_size=200), at=st.integers(0, len(PIECES)), by=st.integers(0, 30))
def test_whatever_a_sentencepiece_model_holds_is_read_or_refused(raw: bytes, at: int, by: int) -> None:
    for content in (raw, PIECES[:at] + raw + PIECES[at + by :]):
        try:
            pieces(content)
        except Broken as error:
            assert error.args[0]


def test_the_activations_are_those_that_transformers_knows() -> None:
    from transformers.activations import ACT2FN

    assert set(ACT2FN) == ACTIVATIONS


BAD_ENTRIES = [
    *((key, value) for key in sorted(ACTIVATION_KEYS) for value in ("geluu", 3, ["relu"])),
    *(
        (key, value)
        for key in ("hidden_dropout_prob", "attention_dropout", "resid_pdrop")
        for value in (1.5, -0.1, "0")
    ),
    *(("encoder_layerdrop", value) for value in (2.0, 1, "x", None)),
    *(("classifier_dropout", value) for value in (2, "x", True)),
    *((key, value) for key in ("scale_embedding", "use_cache", "is_decoder") for value in (1, "yes", 0.5)),
    *((key, value) for key in ("layer_norm_eps", "initializer_range") for value in ("x", None, 1, -1.0)),
    *((key, value) for key in ("sliding_window", "chunk_size_feed_forward") for value in ("x", 1.5, -1)),
    *((key, value) for key in ("dtype", "torch_dtype") for value in ("float31", 1, "cuda", "torch.float32")),
    *(("layer_types", value) for value in (["full_attention"] * 3, ["x", "x"], "x", [1, 1])),
    *(("architectures", value) for value in (["Evil"], "BertModel", [1], ["GPT2Model"])),
]


@pytest.mark.parametrize(("key", "value"), BAD_ENTRIES)
def test_an_entry_of_another_kind_is_refused(key: str, value: Any) -> None:
    assert f"config.json gives {key} as" in refused("bert", **{key: value})


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_transformers_writes_for_each_family_is_taken(kind: str) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    try:
        classes = [AutoModelForSequenceClassification._model_mapping[CONFIG_MAPPING[kind]].__name__]
    except KeyError:
        classes = []
    small = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"))
    small |= {"sep_token_id": None, "cls_token_id": None, "forced_eos_token_id": None}
    made = CONFIG_MAPPING[kind](**{**config_of(kind), **small, "architectures": classes or None})
    written = {**json.loads(made.to_json_string(use_diff=False)), "dtype": "float32"}
    check(base_files(written))


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


@pytest.mark.parametrize("kind", ["bart", "mbart", "mt5", "t5"])
def test_a_head_that_needs_its_dropout_is_not_given_null(kind: str) -> None:
    assert "config.json gives classifier_dropout as null" in refused(kind, classifier_dropout=None)


def test_token_numbers_in_lists_of_lists_are_checked() -> None:
    for key in ("bad_words_ids", "force_words_ids", "suppress_tokens"):
        given = json.dumps({key: [[1], [[2, 20]]]}).encode()
        assert f"generation_config.json gives {key} as 20" in why_not(generation_config__json=given)


@pytest.mark.parametrize("value", [0, 7, -1, 512.0, "512", True, []])
def test_a_length_that_is_none_is_refused(value: Any) -> None:
    content = json.dumps({"pad_token": "w0", "model_max_length": value}).encode()
    assert "its model_max_length is no whole number of at least 8" in why_not(tokenizer_config__json=content)


def test_the_tokens_that_t5_adds_count_against_the_embeddings() -> None:
    content = {"pad_token": "w0", "tokenizer_class": "T5Tokenizer"}
    assert "has 120 tokens, but the model has 20" in why_not(tokenizer_config__json=json.dumps(content).encode())
    check({**base_files(), "tokenizer_config.json": json.dumps(content | {"extra_ids": 0}).encode()})


def tokenizer_with(**changes: Any) -> bytes:
    return json.dumps({**json.loads(base_files()["tokenizer.json"]), **changes}).encode()


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "decoder"])
@pytest.mark.parametrize(
    "value", [{"type": "Nothing"}, {}, 7, {"type": "Sequence", **{key: [{"type": "Nothing"}] for key in INNER}}]
)
def test_a_part_of_an_unknown_type_is_refused(part: str, value: Any) -> None:
    assert f"its {part} has the type" in why_not(tokenizer__json=tokenizer_with(**{part: value}))


@pytest.mark.parametrize(
    ("merges", "why"),
    [
        (["a c"], "its merge 1 has 'c'"),
        (["a b", ["b", "a"]], "its merge 2 has 'ba'"),
        (["a"], "its merge 1 is no pair"),
        ([7], "its merge 1 is no pair"),
        (None, "lacks merges"),
    ],
)
def test_broken_merges_are_refused(merges: Any, why: str) -> None:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": merges}
    assert why in why_not(tokenizer__json=tokenizer_with(model=model))
    check({**base_files(), "tokenizer.json": tokenizer_with(model={**model, "merges": ["a b"]})})


@pytest.mark.parametrize("part", PARTS)
def test_the_types_are_those_that_the_library_knows(part: str) -> None:
    import tokenizers

    module = getattr(tokenizers, {"post_processor": "processors"}.get(part, f"{part}s"))
    base = {"normalizer": "Normalizer", "pre_tokenizer": "PreTokenizer"}.get(part, "Decoder")
    kinds = {name for name, kind in vars(module).items() if isinstance(kind, type) and name != base}
    known = {name.removesuffix("Decoder") if name != "BPEDecoder" else name for name in PARTS[part].split()}
    assert {kind for kind in kinds if kind[0].isupper() and kind not in {"PostProcessor", "DecodeStream"}} <= known


def split(pattern: object) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pre_tokenizer": split({"Regex": "(("})}, "unmatched parenthesis"),
        ({"pre_tokenizer": split({"Regex": "(a+)+b"})}, "retry-limit-in-match"),
        ({"pre_tokenizer": {"type": "Split"}}, "missing field `pattern`"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "["}, "content": ""}}, "premature end of char-class"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, ""),
        ({"post_processor": {"type": "TemplateProcessing"}}, "PostProcessor"),
        ({"decoder": {"type": "Metaspace"}}, "Decoder"),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}}}, "missing field `unk_token`"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}}, "UnkIdNotInVocabulary"),
        ({"added_tokens": [{"id": 3, "content": "x"}]}, "missing field"),
    ],
)
def test_a_tokenizer_that_its_library_does_not_load_is_refused(changes: dict[str, Any], words: str) -> None:
    why = why_not(tokenizer__json=tokenizer_with(**changes))
    assert why.startswith("tokenizer.json is broken: the library tokenizers can't load it (") and words in why


@pytest.mark.parametrize(("seconds", "memory"), [(1, 4 * 1024**3), (10, 80 * 1024**2)])
def test_a_tokenizer_that_takes_all_time_or_memory_is_refused(
    seconds: int, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "TRIAL_SECONDS", seconds)
    monkeypatch.setattr(tokenizers, "TRIAL_BYTES", memory)
    hostile = tokenizer_with(pre_tokenizer=split({"Regex": "(?i:" + "ß" * 100_000 + ")"}))
    assert ("takes more time or memory" if seconds == 1 else "memory") in why_not(tokenizer__json=hostile)


def test_a_large_tokenizer_stays_within_the_limits() -> None:
    vocabulary = [["<unk>", 0.0], *([f"▁{number:x}", -number / 1e5] for number in range(250_000))]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary}
    tokenizers._try(tokenizer_with(model=model, pre_tokenizer={"type": "Metaspace", "replacement": "▁"}))


@pytest.mark.parametrize("value", ["BartModel", "torch.nn.Module", 7, [], ""])
def test_a_class_that_is_no_tokenizer_s_is_refused(value: Any) -> None:
    content = json.dumps({"pad_token": "w0", "tokenizer_class": value}).encode()
    assert "its tokenizer_class is no class of a tokenizer" in why_not(tokenizer_config__json=content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sequence_bias", [[[1, 20], -2.0]]),
        ("sequence_bias", [[[1], "x"]]),
        ("sequence_bias", [[[], 1.0]]),
        ("sequence_bias", [[1, 2.0]]),
        ("sequence_bias", {"(1,)": 2.0}),
        ("forced_decoder_ids", [[1, 20]]),
        ("forced_decoder_ids", [[1, 2, 3]]),
        ("forced_decoder_ids", [["x", 2]]),
        ("forced_decoder_ids", 3),
    ],
)
def test_pairs_with_tokens_are_checked(key: str, value: Any) -> None:
    given = json.dumps({key: value}).encode()
    assert f"generation_config.json gives {key} as" in why_not(generation_config__json=given)
    good = {"sequence_bias": [[[1, 2], -2.5], [[3], 1]], "forced_decoder_ids": [[0, 3], [1, None]]}
    good_files = {**base_files(), "generation_config.json": json.dumps(good).encode()}
    check(good_files)
    check({**good_files, "generation_config.json": b'{"sequence_bias": null, "forced_decoder_ids": null}'})


BAD_NUMBERS = [
    *(("F32", struct.pack("<f", value)) for value in (float("nan"), float("inf"), float("-inf"))),
    *(("F64", struct.pack("<d", value)) for value in (float("nan"), float("inf"))),
    *(("F16", struct.pack("<e", value)) for value in (float("nan"), float("-inf"))),
    *(("BF16", value) for value in (b"\xc0\x7f", b"\x80\xff")),
]


@pytest.mark.parametrize(("dtype", "bad"), BAD_NUMBERS)
def test_weights_that_are_no_numbers_are_refused(dtype: str, bad: bytes) -> None:
    size, most = len(bad), {"F32": b"\xff\xff\x7f\x7f", "F16": b"\xff\x7b", "BF16": b"\x7f\x7f"}.get(dtype, bytes(8))
    for count, place in ((5, 4), (finite.CHUNK // size + 3, finite.CHUNK // size + 1)):
        good = {"a.mask": (dtype, [1], bad), "b.weight": (dtype, [count], most * count)}
        taken = safetensors(good)
        header = read_header(io.BytesIO(taken), size=len(taken), name="x")
        finite.check_finite(io.BytesIO(taken), header, name="x")
        broken = bytearray(taken)
        begin = len(taken) - count * size + place * size
        broken[begin : begin + size] = bad
        with pytest.raises(UserError, match=r"tensor b\.weight in x holds NaN or an infinite number"):
            finite.check_finite(io.BytesIO(bytes(broken)), header, name="x")


def test_a_model_with_a_weight_that_is_no_number_is_refused() -> None:
    weights = base_files()["model.safetensors"]
    assert "holds NaN" in why_not(model__safetensors=weights[:-4] + struct.pack("<f", float("nan")))
