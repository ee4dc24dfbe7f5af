"""Base models: uploaded, imported from a folder, and what is refused."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from hub.accounts.models import Role
from hub.core.errors import UserError
from hub.registry.models import Model, ModelVersion
from hub.registry.weights import read_header
from tests.factories.accounts import Person, bearer, node_secret, person
from tests.factories.registry import CONFIG, safetensors

pytestmark = pytest.mark.django_db
URL = "/api/v1/base-models"
GOOD = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": safetensors(
        {"w": ("F32", [2, 3], bytes(24)), "ids": ("I64", [2], bytes(16)), "b": ("BF16", [4], bytes(8))}
    ),
    "tokenizer.json": b"{}",
}


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
        "architecture": "BertForSequenceClassification",
        "parameters": 10,
        "bytes": sum(file.blob.size for file in version.files.all()),
        "license": "Apache-2.0",
        "workspace": "acme",
    }
    assert answer.json() == expected
    assert owner.client.get(URL).json()["results"] == [expected]
    assert outsider.client.get(URL).json()["results"] == []
    assert version.config == CONFIG and version.created_by == owner.user
    assert version.report["base_model"] == {
        "architecture": "BertForSequenceClassification",
        "parameters": 10,
        "tensors": 3,
        "dtypes": ["BF16", "F32", "I64"],
        "weight_bytes": len(GOOD["model.safetensors"]),
    }


def test_the_same_again_is_the_same_version(owner: Person) -> None:
    assert [upload(owner.client, GOOD).json()["version"] for _ in range(2)] == [1, 1]
    changed = {**GOOD, "tokenizer.json": b'{"a": 1}'}
    assert upload(owner.client, changed).json()["version"] == 2
    assert upload(owner.client, changed, license="mit").json()["version"] == 3


def test_who_may_upload(owner: Person, outsider: Person, api: APIClient) -> None:
    assert upload(api, GOOD).status_code == 401
    assert upload(bearer(node_secret("n")), GOOD).status_code == 403
    assert upload(outsider.client, GOOD, workspace="acme").status_code == 404
    assert upload(person("vera", workspace="acme", role=Role.VIEWER).client, GOOD).status_code == 403
    assert upload(person("eddy", workspace="acme", role=Role.EDITOR).client, GOOD).status_code == 201


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "modeling.py", "MODEL.BIN", "x.ckpt"])
def test_files_that_can_run_code_are_refused(owner: Person, name: str) -> None:
    answer = upload(owner.client, {**GOOD, name: b"x"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "unsafe_file" and name in error["message"] and "safetensors" in error["message"]
    assert not Model.objects.exists()


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"config.json": None}, "config.json is missing"),
        ({"model.safetensors": None}, "no weights"),
        ({"tokenizer.json": None}, "no tokenizer"),
        ({"run.sh": b"x"}, "run.sh is no file of a base model"),
        ({"config.json": b"{"}, "config.json is not valid JSON"),
        ({"config.json": b"[]"}, "must hold a JSON object"),
        ({"config.json": b"{}"}, "no model_type"),
        ({"config.json": b'{"model_type": 3}'}, "no model_type"),
        ({"config.json": b'{"model_type": "bert", "x": "\\u0000"}'}, "NUL"),
        ({"model.safetensors": b"PK\x03\x04" + bytes(100)}, "not a valid safetensors file"),
        ({"model.safetensors.index.json": b"{}"}, "no weight_map"),
        ({"model.safetensors.index.json": b'{"weight_map": {"w": "other.safetensors"}}'}, "other.safetensors"),
        ({"tokenizer_config.json": b"nope"}, "tokenizer_config.json is not valid JSON"),
    ],
)
def test_what_is_refused_is_named(owner: Person, contents: dict[str, bytes | None], says: str) -> None:
    merged = {name: content for name, content in {**GOOD, **contents}.items() if content is not None}
    answer = upload(owner.client, merged)
    assert answer.status_code == 400 and says in answer.json()["error"]["message"], answer.content
    assert not Model.objects.exists()


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
