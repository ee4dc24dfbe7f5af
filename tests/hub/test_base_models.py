"""Base models: uploaded, imported from a folder, and what is refused."""

from __future__ import annotations

import io
import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from hub.accounts.models import Role
from hub.core.errors import UserError
from hub.registry.models import Model, ModelVersion
from hub.registry.weights import MAX_HEADER_BYTES, read_header
from pst.plan.families import ModelDescription
from tests.factories.accounts import Person, bearer, node_secret, person
from tests.factories.registry import BASE, base_files, safetensors, word_tokenizer

pytestmark = pytest.mark.django_db
URL = "/api/v1/base-models"
GOOD = base_files()
PARAMETERS = sum(spec.numel for spec in ModelDescription(BASE, labels=2).tensors if not spec.head)


def configured(**changes: Any) -> dict[str, bytes | None]:
    return {"config.json": json.dumps({**BASE, **changes}).encode()}


def _sharded() -> dict[str, bytes | None]:
    """The weights in two files and their index."""
    specs = [spec for spec in ModelDescription(BASE, labels=2).tensors if not spec.head]
    places = {spec.name: f"model-{1 + number % 2}.safetensors" for number, spec in enumerate(specs)}
    found: dict[str, bytes | None] = {"model.safetensors": None}
    for file in set(places.values()):
        held = {s.name: ("F32", list(s.shape), bytes(4 * s.numel)) for s in specs if places[s.name] == file}
        found[file] = safetensors(held)
    return found | {"model.safetensors.index.json": json.dumps({"weight_map": places}).encode()}


SHARDED = _sharded()


def upload(client: APIClient, contents: dict[str, bytes], **fields: str) -> Any:
    parts = [SimpleUploadedFile(name, content) for name, content in contents.items()]
    return client.post(URL, {"name": "mine", "files": parts, **fields}, format="multipart")


def test_upload_and_list(owner: Person, outsider: Person) -> None:
    answer = upload(owner.client, GOOD, license="Apache-2.0", title="My encoder")
    assert answer.status_code == 201, answer.content
    version = ModelVersion.objects.get()
    expected = {
        "repo": "acme/mine",
        "name": "mine",
        "title": "My encoder",
        "version": 1,
        "commit": version.commit,
        "architecture": "BertForMaskedLM",
        "parameters": PARAMETERS,
        "bytes": sum(file.blob.size for file in version.files.all()),
        "license": "Apache-2.0",
        "workspace": "acme",
    }
    assert answer.json() == expected | {"left_out": []}
    assert owner.client.get(URL).json()["results"] == [expected]
    assert outsider.client.get(URL).json()["results"] == []
    assert version.config == BASE and version.created_by == owner.user
    assert version.report["base_model"] == {
        "architecture": "BertForMaskedLM",
        "parameters": PARAMETERS,
        "tensors": sum(1 for spec in ModelDescription(BASE, labels=2).tensors if not spec.head),
        "dtypes": ["F32"],
        "weight_bytes": len(GOOD["model.safetensors"]),
    }


def test_the_same_again_is_the_same_version(owner: Person) -> None:
    assert [upload(owner.client, GOOD).json()["version"] for _ in range(2)] == [1, 1]
    changed = {**GOOD, "tokenizer.json": word_tokenizer(19)}
    assert upload(owner.client, changed).json()["version"] == 2
    assert upload(owner.client, changed, license="mit").json()["version"] == 3


def test_who_may_upload(owner: Person, outsider: Person, api: APIClient) -> None:
    assert upload(api, GOOD).status_code == 401
    assert upload(bearer(node_secret("n")), GOOD).status_code == 403
    assert upload(outsider.client, GOOD, workspace="acme").status_code == 404
    assert upload(person("vera", workspace="acme", role=Role.VIEWER).client, GOOD).status_code == 403
    assert upload(person("eddy", workspace="acme", role=Role.EDITOR).client, GOOD).status_code == 201


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "modeling.py", "MODEL.BIN", "x.ckpt"])
def test_files_that_can_run_code_are_never_kept(owner: Person, name: str) -> None:
    unsafe = {key: content for key, content in GOOD.items() if key != "model.safetensors"} | {name: b"x"}
    answer = upload(owner.client, unsafe)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unsafe_file" and name in error["message"] and "safetensors" in error["message"]
    assert not Model.objects.exists()
    answer = upload(owner.client, {**GOOD, name: b"x"})
    assert answer.status_code == 201 and answer.json()["left_out"] == [name]
    assert name not in {file.path for file in ModelVersion.objects.get().files.all()}


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"config.json": None}, "config.json is missing"),
        ({"model.safetensors": None}, "no weights"),
        ({"tokenizer.json": None}, "no tokenizer"),
        ({"config.json": b"{"}, "config.json is not valid JSON"),
        ({"config.json": b"[]"}, "must hold a JSON object"),
        ({"config.json": b"{}"}, "no model_type"),
        ({"config.json": b'{"model_type": 3}'}, "no model_type"),
        ({"config.json": b'{"model_type": "bert", "x": "\\u0000"}'}, "NUL"),
        ({"model.safetensors": b"PK\x03\x04" + bytes(100)}, "not a valid safetensors file"),
        (SHARDED | {"model.safetensors.index.json": b"{}"}, "no weight_map"),
        (SHARDED | {"model.safetensors.index.json": None}, "send model.safetensors.index.json"),
        (SHARDED | {"model-2.safetensors": None}, "model-2.safetensors, which is missing"),
        (SHARDED | {"model-2.safetensors": safetensors()}, "which it does not"),
        (configured(num_hidden_layers=3), "no tensor bert.encoder.layer.2.attention.self.query.weight"),
        (configured(hidden_size=8), "has the shape 4 x 4, but config.json asks for 8 x 8"),
        (configured(vocab_size=30), "has the shape 20 x 4, but config.json asks for 30 x 4"),
        (configured(num_hidden_layers=100_000), "num_hidden_layers as 100000, and 256 is the most"),
        (configured(num_attention_heads=10**9), "num_attention_heads as 1000000000"),
        (configured(intermediate_size=10**30), "intermediate_size as 1000"),
        (configured(hidden_size="4"), "hidden_size as a positive whole number"),
        (configured(vocab_size=None), "vocab_size"),
        (configured(model_type="exotic"), "model type 'exotic' is not supported"),
        (configured(auto_map={"AutoModel": "evil--model.Model"}), "the key auto_map"),
        (configured(text_config={"a": [{"_attn_implementation": "someone/kernel"}]}), "the key _attn_implementation"),
        ({"generation_config.json": b'{"custom_generate": "someone/code"}'}, "the key custom_generate"),
        ({"config.json": b'{"model_type": "bert", "x": "' + bytes(b"x" * 2**20) + b'"}'}, "config.json is larger"),
        ({"tokenizer.json": word_tokenizer(21)}, "has 21 tokens, but the model has 20 embeddings"),
        ({"tokenizer.json": word_tokenizer(20, {"[PAD]": 600})}, "has 601 tokens"),
        ({"tokenizer_config.json": b'{"pad_token": "[PAD]"}'}, "has 21 tokens"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json is broken: it lacks model or added_tokens"),
        ({"tokenizer.json": b'{"model": {"vocab": {"a": "b"}}, "added_tokens": []}'}, "a token has no number"),
        ({"tokenizer.json": b'{"model": {"vocab": [3]}, "added_tokens": []}'}, "a piece that is none"),
        ({"tokenizer.json": b'{"model": {"vocab": {}}, "added_tokens": [{}]}'}, "an added token without"),
        ({"tokenizer.json": b"[" * 10**6}, "tokenizer.json is broken: it is not valid JSON"),
        ({"tokenizer.json": b"\xff"}, "tokenizer.json is broken: it is not valid JSON"),
        ({"tokenizer.json": None, "vocab.txt": b"a\n" * 21}, "has 22 tokens"),
        ({"tokenizer.json": None, "vocab.json": b'{"a": 20}'}, "has 22 tokens"),
        ({"tokenizer_config.json": b'{"tokenizer_class": "TokenizersBackend"}'}, "neither a padding token nor an end"),
        ({"tokenizer_config.json": b"nope"}, "tokenizer_config.json is not valid JSON"),
    ],
)
@pytest.mark.any_database
def test_what_is_refused_is_named(owner: Person, contents: dict[str, bytes | None], says: str) -> None:
    merged = {name: content for name, content in {**GOOD, **contents}.items() if content is not None}
    answer = upload(owner.client, merged)
    assert answer.status_code == 400 and says in answer.json()["error"]["message"], answer.content
    assert not Model.objects.exists()


def test_other_files_of_a_public_repository_are_left_out(owner: Person) -> None:
    others = [".gitattributes", "modules.json", "sentence_bert_config.json", "model.onnx", "run.sh"]
    answer = upload(owner.client, {**GOOD, **dict.fromkeys(others, b"nothing of ours")})
    assert answer.status_code == 201 and sorted(answer.json()["left_out"]) == sorted(others)
    assert not set(others) & {file.path for file in ModelVersion.objects.get().files.all()}


POOLING = b'{"word_embedding_dimension": 4, "pooling_mode_mean_tokens": true}'
SENTENCES = {
    "1_Pooling/config.json": POOLING,
    "2_Dense/config.json": b'{"in_features": 4, "out_features": 2, "activation_function": "torch.nn.modules.Tanh"}',
    "2_Dense/model.safetensors": safetensors({"linear.weight": ("F32", [2, 4], bytes(32))}),
    "2_Dense/pytorch_model.bin": b"x",
    "onnx/model.onnx": b"x",
    ".gitattributes": b"x",
    "README.md": b"# A sentence encoder",
    "config_sentence_transformers.json": b"{}",
    "modules.json": b'[{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]',
    "sentence_bert_config.json": b'{"max_seq_length": 128}',
}
"""What a real repository of sentence-transformers holds beside the model."""


def send_form(client: APIClient, contents: list[tuple[str, bytes]]) -> Any:
    """As browsers and requests write it; Django's own test client drops the folders."""
    body = b'--=\r\nContent-Disposition: form-data; name="name"\r\n\r\nmine\r\n'
    for path, content in contents:
        body += b'--=\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n' % path.encode()
        body += b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
    return client.generic("POST", URL, body + b"--=--\r\n", "multipart/form-data; boundary==")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "layout",
    [
        lambda path: path,
        lambda path: f"all-MiniLM-L6-v2/{path}",  # a folder chosen in a browser
        lambda path: f"all-MiniLM-L6-v2\\\\{path}".replace("/", "\\\\"),
        lambda path: path.rpartition("/")[2],  # curl drops the folders
        lambda path: path if "/" in path or path in SENTENCES else f"0_Transformer/{path}",  # before release 2.0
    ],
)
def test_a_repository_of_sentence_transformers_is_taken(owner: Person, layout: Any, backwards: bool) -> None:
    contents = [(layout(path), content) for path, content in (SENTENCES | GOOD).items()]
    answer = send_form(owner.client, contents[::-1] if backwards else contents)
    assert answer.status_code == 201, answer.content
    kept = {file.path: file.blob.size for file in ModelVersion.objects.get().files.all()}
    assert {path: len(content) for path, content in GOOD.items()}.items() <= kept.items()
    assert kept.keys() - GOOD.keys() <= {"README.md", "report.json", "manifest.json", "manifest.sig"}
    left_out = answer.json()["left_out"]
    others = [layout(path).replace("\\\\", "/") for path in SENTENCES]
    assert {*others} - {*left_out} <= {layout("README.md").replace("\\\\", "/"), *GOOD}


def test_two_files_of_one_path_are_refused(owner: Person) -> None:
    answer = send_form(owner.client, [*GOOD.items(), ("tokenizer.json", GOOD["tokenizer.json"])])
    assert answer.status_code == 400 and "'tokenizer.json' is there twice" in answer.json()["error"]["message"]
    for path in ("../config.json", "/etc/config.json", "a/../../config.json"):
        answer = send_form(owner.client, [(path, GOOD["config.json"])])
        assert answer.status_code == 400, path


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "d_model": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2, "d_kv": 2, "vocab_size": 20},
        {"model_type": "gpt2", "n_embd": 4, "n_head": 2, "n_layer": 2, "vocab_size": 20, "n_positions": 16},
        {
            "model_type": "llama",
            "hidden_size": 4,
            "intermediate_size": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "vocab_size": 20,
        },
    ],
)
def test_a_checkpoint_may_lack_the_model_s_prefix_or_have_it(owner: Person, config: dict[str, Any]) -> None:
    specs = [spec for spec in ModelDescription(config, labels=2).tensors if not spec.head]
    for name in ("bare", "whole"):
        weights = {
            spec.name if name == "whole" else spec.name.partition(".")[2]: (
                "F32",
                list(spec.shape),
                bytes(4 * spec.numel),
            )
            for spec in specs
        }
        answer = upload(owner.client, base_files(config, **{"model.safetensors": safetensors(weights)}), name=name)
        assert answer.status_code == 201, answer.content


def test_who_sends_a_large_body_is_asked_first(owner: Person, api: APIClient, settings) -> None:
    """The body is not touched for a viewer, nor one that is longer than what is taken, whoever sends it."""

    class Unread(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("the body was read")

    viewer = person("vera", workspace="acme", role=Role.VIEWER)
    signed_in = APIClient(enforce_csrf_checks=True)
    signed_in.force_login(viewer.user)
    signed_in.cookies["csrftoken"] = "c" * 32

    def send(client: APIClient, url: str, length: int) -> int:
        headers = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(length), "HTTP_X_CSRFTOKEN": "c" * 32}
        return int(client.generic("POST", url, b"", "multipart/form-data; boundary=x", **headers).status_code)

    for url in (URL, "/api/v1/datasets", "/api/v1/datasets/preview"):
        assert send(viewer.client, url, 10**6) == 403
        assert send(signed_in, url, 10**6) == 403
        assert send(owner.client, url, 10**15) == 413
    for url in ("/api/v1/session", "/admin/login/", "/api/v1/jobs"):
        assert send(api, url, settings.JSON_MAX_BYTES + 1) == 413


def test_a_header_is_bounded_before_it_is_read(owner: Person) -> None:
    """35 MB of tensors' names took 32 s."""
    entries = {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(70_000)}
    raw = header(entries)
    assert len(raw) > MAX_HEADER_BYTES
    begin = time.monotonic()
    answer = upload(owner.client, {**GOOD, "model.safetensors": raw})
    assert answer.status_code == 400 and "may be read" in answer.json()["error"]["message"]
    halves = {f"model-{n}.safetensors": header(dict(list(entries.items())[n::2])) for n in (0, 1)}
    index = json.dumps({"weight_map": {"t0": "model-0.safetensors"}}).encode()
    together = base_files(**halves, **{"model.safetensors": None, "model.safetensors.index.json": index})
    answer = upload(owner.client, together)
    assert answer.status_code == 400 and "may be read" in answer.json()["error"]["message"]
    assert time.monotonic() - begin < 10


def test_limits_and_names(owner: Person, settings) -> None:
    for name in ("", "a/b", "a b", "x" * 97):
        assert upload(owner.client, GOOD, name=name).status_code == 400
    assert owner.client.post(URL, {"name": "mine"}, format="multipart").status_code == 400
    assert owner.client.post(URL, {"name": "mine", "files": "text"}, format="multipart").status_code == 400
    assert owner.client.post(URL, {"name": "mine"}, format="json").status_code == 415
    settings.BASE_MODEL_MAX_BYTES = 10
    answer = upload(owner.client, GOOD)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"


def header(value: object, data: bytes = b"") -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "shorter"),
        (b"1234567", "shorter"),
        (struct.pack("<Q", 2**63) + b"{}", "header would have"),
        (struct.pack("<Q", 50) + b"{}", "header would have"),
        (header(b"nope"), "not a valid"),
        (header(b"\xff\xfe"), "not a valid"),
        (header(b"[" * 5000), "not a valid"),
        (header([]), "no JSON object"),
        (header({}), "no tensor"),
        (header({"__metadata__": {"a": 1}, "w": tensor()}, bytes(4)), "__metadata__"),
        (header({"w": 3}), "must have dtype"),
        (header({"w": {**tensor(), "more": 1}}, bytes(4)), "must have dtype"),
        (header({"w": tensor("F31")}, bytes(4)), "number format"),
        (header({"w": tensor(["F32"])}, bytes(4)), "number format"),
        (header({"w": tensor(shape=[-1])}, bytes(4)), "shape"),
        (header({"w": tensor(shape=[True])}, bytes(4)), "shape"),
        (header({"w": tensor(shape=3)}, bytes(4)), "shape"),
        (header({"w": tensor(shape=[1] * 33)}, bytes(4)), "shape"),
        (header({"w": tensor(offsets=[0])}, bytes(4)), "data_offsets"),
        (header({"w": tensor(offsets=[0, 8])}, bytes(8)), "takes 8 bytes"),
        (header({"w": tensor(offsets=[4, 0])}, bytes(4)), "takes -4 bytes"),
        (header({"w": tensor()}, bytes(3)), "tensors take 4 bytes"),
        (header({"w": tensor()}, bytes(5)), "tensors take 4 bytes"),
        (header({"w": tensor(offsets=[4, 8])}, bytes(8)), "gap or overlap"),
        (header({"a": tensor(), "b": tensor()}, bytes(4)), "gap or overlap"),
        (header(b'{"w": %s, "w": %s}' % ((json.dumps(tensor()).encode(),) * 2), bytes(4)), "twice"),
    ],
)
def test_broken_weights(raw: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        read_header(io.BytesIO(raw), size=len(raw), name="w.safetensors")
    assert "w.safetensors" in error.value.message


def test_weights_that_the_reference_library_wrote(tmp_path: Path) -> None:
    import numpy
    from safetensors.numpy import save

    raw = save(
        {
            "a": numpy.zeros((3, 5), numpy.float16),
            "scalar": numpy.ones((), numpy.float32),
            "none": numpy.zeros((0, 4), numpy.float32),
            "flags": numpy.zeros(3, numpy.bool_),
        },
        {"format": "np"},
    )
    found = read_header(io.BytesIO(raw), size=len(raw), name="x")
    assert (found.tensors, found.parameters, found.dtypes) == (4, 16, ("BOOL", "F16", "F32"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {**GOOD, "pytorch_model.bin": b"left out", "notes.xyz": b"left out"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "onnx").mkdir()
    return tmp_path


def test_import_command(folder: Path, owner: Person) -> None:
    out = io.StringIO()
    call_command("import_base_model", "mini", str(folder), title="Mini", license="mit", source="a package", stdout=out)
    assert "base/mini v1" in out.getvalue() and "imported" in out.getvalue() and "notes.xyz" in out.getvalue()
    call_command("import_base_model", "mini", str(folder), title="Mini", license="mit", source="a package", stdout=out)
    assert "is there already" in out.getvalue() and ModelVersion.objects.count() == 1
    (listed,) = owner.client.get(URL).json()["results"]
    assert (listed["repo"], listed["license"], listed["title"]) == ("base/mini", "mit", "Mini")
    version = ModelVersion.objects.get()
    assert {"pytorch_model.bin", "notes.xyz"}.isdisjoint(file.path for file in version.files.all())
    assert version.manifest["lineage"] == {"title": "Mini", "license": "mit", "source": "a package"}


def test_import_command_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no folder"):
        call_command("import_base_model", "mini", str(folder / "none"))
    (folder / "config.json").unlink()
    with pytest.raises(CommandError, match=r"config\.json is missing"):
        call_command("import_base_model", "mini", str(folder))
