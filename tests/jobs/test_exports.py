"""A job publishes a whole export of known files with a whole report, or nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hub.registry.models import ModelVersion
from hub.registry.services.exports import _schema
from tests.factories.accounts import Person
from tests.factories.jobs import BERT, queued_job, worker
from tests.workers.scripted.made import REPORT, export, tensors

pytestmark = pytest.mark.django_db
INDEX = json.loads(export("x")["sparse/index.json"])
SHARDS = {"weight_map": {"weight": "model-1.safetensors", "bias": "model-2.safetensors"}}


def changed(**entries: Any) -> bytes:
    return json.dumps(INDEX | entries).encode()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"evil.py": b"import os"}, "'evil.py' is no file of a model"),
        ({"LICENSE.py": b"import os"}, "'LICENSE.py' is no file of a model"),
        ({"weights.bin": b"x"}, "'weights.bin' is no file of a model"),
        ({"sparse/run.sh": b"x"}, "'sparse/run.sh' is no file of a model"),
        ({"deep/config.json": b"{}"}, "'deep/config.json' is no file of a model"),
        ({"config.json": None}, "The model has no config.json."),
        ({"config.json": b"[]"}, "config.json must hold a JSON object"),
        ({"config.json": json.dumps(BERT | {"auto_map": {"AutoModel": "x.Y"}}).encode()}, "auto_map"),
        ({"sparse/config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "auto_map"),
        ({"tokenizer.json": None}, "The model has no tokenizer."),
        ({"sparse/index.json": None}, "The model has no sparse/index.json."),
        ({"sparse/index.json": b"{}"}, "does not describe a compact model"),
        ({"sparse/index.json": changed(file="other.safetensors")}, "names other.safetensors, which is missing"),
        ({"sparse/index.json": changed(file="../model.safetensors")}, "which is missing"),
        ({"sparse/index.json": changed(files=[["x"]])}, "does not describe a compact model"),
        ({"sparse/index.json": changed(tensors={"other": {}})}, "the tensor 'other', which is in none of its files"),
        ({"sparse/model.sparse.safetensors": None}, "names model.sparse.safetensors, which is missing"),
        ({"sparse/model.sparse.safetensors": b"x" * 100}, "is not a valid safetensors file"),
        ({"sparse/more.safetensors": tensors("more")}, "No index names sparse/more.safetensors"),
        ({"model.safetensors": b"weights"}, "model.safetensors is not a valid safetensors file"),
        ({"more.safetensors": tensors("more")}, "No index names more.safetensors"),
        ({"model.safetensors": None, "model-1.safetensors": tensors("1")}, "send model.safetensors.index.json too"),
        (
            {
                "model.safetensors": None,
                "model-1.safetensors": tensors("1"),
                "model.safetensors.index.json": json.dumps(SHARDS).encode(),
            },
            "names model-2.safetensors, which is missing",
        ),
    ],
)
def test_what_is_no_whole_export_is_refused_and_the_job_fails(
    owner: Person, files: dict[str, bytes | None], sentence: str
) -> None:
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    given = {path: content for path, content in {**export("x", BERT), **files}.items() if content is not None}
    listed = [gpu.uploaded(job, path, content) for path, content in given.items()]
    answer = gpu.finish(job, {"outcome": "succeeded", "files": listed, "report": REPORT})
    assert answer.status_code == 400 and sentence in answer.json()["error"]["message"], answer.content
    # A worker tells what it was refused for as the job's failure.
    why = answer.json()["error"]["message"]
    assert gpu.finish(job, {"outcome": "failed", "error": why}).json()["state"] == "failed"
    assert not ModelVersion.objects.filter(job_id=job.id).exists()


def test_the_report_of_these_tests_is_whole() -> None:
    Draft202012Validator(_schema()).validate(REPORT)


@pytest.mark.parametrize(
    ("report", "missing"),
    [
        (None, "format"),
        ({}, "format"),
        ({key: value for key, value in REPORT.items() if key != "metrics"}, "metrics"),
        (REPORT | {"params": {"total": 1}}, "params.prunable"),
        (REPORT | {"bytes": 7}, "bytes"),
    ],
)
def test_a_report_with_a_part_missing_is_refused(owner: Person, report: Any, missing: str) -> None:
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    answer = gpu.finish(job, gpu.success(job) | {"report": report})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"The report has no {missing}.")


@pytest.mark.parametrize(
    ("left_out", "more"),
    [
        ({"model.safetensors"}, {}),
        (set(), {"sparse/engine.json": b"{}", "sparse/config.json": b"{}"}),
        ({"tokenizer.json"}, {"vocab.txt": b"a", "tokenizer_config.json": b"{}", "generation_config.json": b"{}"}),
        (
            {"model.safetensors"},
            {
                "model-1.safetensors": tensors("1"),
                "model.safetensors.index.json": b'{"weight_map": {"weight": "model-1.safetensors"}}',
            },
        ),
        (
            {"sparse/model.sparse.safetensors"},
            {
                "sparse/index.json": changed(version=3, files=["a.safetensors", "b.safetensors"]),
                "sparse/a.safetensors": tensors("a"),
                "sparse/b.safetensors": tensors("b"),
            },
        ),
        (set(), {"report.json": b"{}", "README.md": b"# mine"}),
    ],
)
def test_whole_exports_are_published(owner: Person, left_out: set[str], more: dict[str, bytes]) -> None:
    job, gpu = queued_job(owner), worker()
    gpu.claim(job)
    given = {path: content for path, content in {**export("x", BERT), **more}.items() if path not in left_out}
    listed = [gpu.uploaded(job, path, content) for path, content in given.items()]
    answer = gpu.finish(job, {"outcome": "succeeded", "files": listed, "report": REPORT | {"a_newer_entry": 1}})
    assert answer.status_code == 200, answer.content
    version = ModelVersion.objects.get(job_id=job.id)
    assert {file["path"] for file in version.manifest["files"]} == {*given, "README.md", "report.json"}
    assert hashlib.sha256(b"# mine").hexdigest() not in {file["sha256"] for file in version.manifest["files"]}, (
        "its card is ours"
    )
