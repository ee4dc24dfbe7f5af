"""A job of each task, from the uploaded file to what its worker gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from hub.core import storage
from hub.datasets.models import Dataset
from hub.datasets.tasks import validate
from hub.registry.cards import card
from jobs.planning import workers_plan
from pst import spec
from pst_client.contract import JobSpec
from pst_worker.inputs import run_spec
from tests.factories.accounts import Person
from tests.factories.jobs import BERT, base_model, queued_job, worker

pytestmark = pytest.mark.django_db

GPT2 = {"model_type": "gpt2", "vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
T5 = {"model_type": "t5", "vocab_size": 100, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

ROWS: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {
    "classification": ("text,label\na,x\nb,y\nc,x\nd,y\n", "a.csv", ["x", "y"], {"text": "a", "label": "x"}),
    "regression": ("text,score\na,1\nb,2.5\nc,3\nd,4\n", "a.csv", [], {"text": "a", "label": 1.0}),
    "multilabel": (
        "text,label\na,x;y\nb,y\nc,x\nd,\n",
        "a.csv",
        ["x", "y"],
        {"text": "a", "label": ["x", "y"]},
    ),
    "generation": (
        '{"source": "a", "target": "b", "references": ["b", "c"]}\n{"source": "d", "target": "e"}\n',
        "a.jsonl",
        [],
        {"source": "a", "target": "b", "references": ["b", "c"]},
    ),
}


def uploaded(owner: Person, task: str) -> Dataset:
    content, name, _, _ = ROWS[task]
    more = {"label_separator": ";"} if task == "multilabel" else {}
    return uploaded_rows(owner, name, content, task=task, validation_share="0", **more)


def uploaded_rows(owner: Person, name: str, content: str, *, task: str = "generation", **options: str) -> Dataset:
    body = {"file": SimpleUploadedFile(name, content.encode()), "task": task, **options}
    answer = owner.client.post("/api/v1/datasets", body, format="multipart")
    assert answer.status_code == 201, answer.content
    validate(answer.json()["id"])
    return Dataset.objects.get(pk=answer.json()["id"])


@pytest.mark.parametrize("task", list(ROWS))
def test_a_job_of_each_task_reaches_its_worker(owner: Person, task: str, tmp_path: Path) -> None:
    dataset = uploaded(owner, task)
    assert (dataset.state, dataset.task, dataset.labels) == ("ready", task, ROWS[task][2]), dataset.errors
    shown = owner.client.get(f"/api/v1/datasets/{dataset.id}").json()
    assert (shown["task"], shown["labels"]) == (task, ROWS[task][2])
    first = owner.client.get(f"/api/v1/datasets/{dataset.id}/rows").json()["results"][0]
    assert first["text"] == "a" and isinstance(first["label"], str)
    base_model("writer", config=GPT2)
    base = "base/writer" if task == "generation" else "base/tiny-bert"
    base_model()
    job = queued_job(owner, dataset=str(dataset.id), base_model=base)
    estimate = owner.client.post(
        "/api/v1/estimates", {"base_model": base, "target": {"sparsity": 0.9}, "dataset": str(dataset.id)}
    ).json()
    assert estimate["plan"]["total_params"] == job.plan["total_params"]
    given = JobSpec.model_validate(worker().claim(job).json()["spec"])
    assert (given.task, given.dataset.labels) == (task, ROWS[task][2])
    with storage.open_blob(given.dataset.train.sha256) as blob:
        assert json.loads(blob.readline()) == ROWS[task][3]
    (tmp_path / "spec.json").write_text(json.dumps(run_spec(given, tmp_path)))
    read = spec.read(tmp_path)
    assert read.task == task
    config = GPT2 if task == "generation" else BERT
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec, "make_plan", None)  # the worker plans nothing again
        planned, sparsity = spec.plan(read, read.describe(config))
    assert job.plan == planned.to_dict() | {"notes_said": job.plan["notes_said"]}
    assert given.planned == planned.to_dict()
    job.plan.pop("sparse_bytes")  # stored by an older version
    assert workers_plan(job) is None
    assert sparsity == {group["name"]: group["sparsity"] for group in job.plan["groups"]}


def test_a_target_that_is_too_long_is_named_by_the_users_line_before_a_job(owner: Person) -> None:
    rows = [{"source": f"carts[{number}]", "target": f"Cart {number}."} for number in range(20)]
    rows[17]["target"] = "very " * 100
    dataset = uploaded_rows(owner, "carts.jsonl", "\n" + "\n".join(map(json.dumps, rows)), validation_share="0.2")
    base_model("writer", config=GPT2)
    base_model("rewriter", config=T5)
    place = "carts.jsonl, line 19: the target has 100 words"
    for base, limit, said in (
        ("writer", 64, f"{place}, and at least as many tokens and an end, more than max_target_length, 64; raise that"),
        ("writer", 126, "max_target_length 126 does not fit the model's context of 128 tokens"),
        ("writer", 101, ""),
        ("rewriter", 100, "more than max_target_length, 100"),
    ):
        body = {"dataset": str(dataset.id), "base_model": f"base/{base}", "target": {"sparsity": 0.9}}
        body["settings"] = {"max_target_length": limit}
        for url, done in (("estimates", 200), ("jobs", 201)):
            answer = owner.client.post(f"/api/v1/{url}", body)
            if not said:
                assert answer.status_code == done, answer.content
                continue
            assert answer.status_code == 400, answer.content
            error = answer.json()["error"]
            assert said in error["message"] and error["details"][0]["field"] == "settings.max_target_length"
    base_model("short", config=GPT2 | {"n_positions": 80})
    body |= {"base_model": "base/short", "settings": {"max_target_length": 64}}
    error = owner.client.post("/api/v1/estimates", body).json()["error"]
    assert error["message"] == f"{place}, and at least as many tokens, more than the model's context of 80; " + (
        "shorten or remove it."
    )


def test_a_data_set_of_an_earlier_release_has_no_lines(owner: Person) -> None:
    dataset = uploaded(owner, "generation")
    dataset.splits.update(lines_sha256="", lines_size=0, longest_target=None)
    base_model("writer", config=GPT2)
    job = queued_job(owner, dataset=str(dataset.id), base_model="base/writer")
    given = JobSpec.model_validate(worker().claim(job).json()["spec"])
    assert given.dataset.train.lines is None


def test_a_model_that_cannot_do_the_task_is_refused_at_submission(owner: Person) -> None:
    base_model()
    body = {"dataset": str(uploaded(owner, "generation").id), "base_model": "base/tiny-bert"}
    answer = owner.client.post("/api/v1/jobs", body | {"target": {"sparsity": 0.9}})
    assert answer.status_code == 400
    assert "a model of type bert has no head for generation" in answer.json()["error"]["message"]


def test_estimates_without_a_data_set_say_the_task(owner: Person) -> None:
    base_model()
    base_model("writer", config=GPT2)
    base_model("rewriter", config=T5)
    for name, task, labels in (("writer", "generation", None), ("rewriter", "generation", None)):
        body = {"base_model": f"base/{name}", "target": {"sparsity": 0.9}, "task": task, "num_labels": labels}
        assert owner.client.post("/api/v1/estimates", body).json()["plan"]["groups"]
    body = {"base_model": "base/tiny-bert", "target": {"sparsity": 0.9}, "task": "regression"}
    assert owner.client.post("/api/v1/estimates", body).json()["plan"]["total_params"] > 0
    body["task"] = "multilabel"
    assert owner.client.post("/api/v1/estimates", body).status_code == 400


@pytest.mark.parametrize(
    ("task", "config", "metrics", "pipeline", "line"),
    [
        ("generation", GPT2, {"bleu": 31.25}, "text-generation", "| test bleu | 40 | 31.25 |"),
        ("generation", {"is_encoder_decoder": True}, {"rouge_l": 0.5}, "text2text-generation", "test rouge l"),
        ("regression", BERT, {"pearson": 0.875, "mse": 0.5}, "text-classification", "| test pearson | 40 | 0.875 |"),
        ("multilabel", BERT, {"micro_f1": 0.5}, "text-classification", "| test micro f1 | 4000.00% | 50.00% |"),
    ],
)
def test_the_card_speaks_of_the_task(
    owner: Person, task: str, config: dict[str, Any], metrics: dict[str, float], pipeline: str, line: str
) -> None:
    from hub.registry.models import ModelKind
    from hub.registry.services.models import ensure_model

    model = ensure_model(workspace=owner.workspace, name="tickets", kind=ModelKind.SPARSE)
    report = {"task": task, "metrics": {"test": metrics}, "dense": {"test": dict.fromkeys(metrics, 40.0)}}
    text = card(model=model, number=1, lineage={}, report=report, config=config)
    assert f"pipeline_tag: {pipeline}\n" in text
    assert line in text
    assert "sparse classifier" not in text
