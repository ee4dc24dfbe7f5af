"""The model card of a version: ``README.md`` in the Hub's format, YAML front matter and then Markdown.

A report is what a worker sent, a lineage what the caller of ``publish`` knew: a card says what is there and leaves out
the rest. Read from the report: ``task``, ``metrics`` and ``dense`` (per split: those of MEASURES),
``sparsity.reached``, ``params.{total,nonzero}``, ``bytes.{dense,sparse}``, ``measures.{time,size}``; from the lineage:
``dataset`` and ``base_model`` (a name, or a mapping with ``name`` or ``repo``, and ``commit``, ``revision`` or
``sha256``), ``license``, ``job`` (``name``, ``id``), ``title``, ``source``, ``code_version``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from hub.registry.models import Model, ModelKind

MEASURES = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "mse": "mse",
    "bleu": "bleu",
    "nist": "nist_mt",
    "meteor_exact_stem": "meteor",
    "rouge_l": "rouge",
    "cider": "cider",
    "perplexity": "perplexity",
}
"""Names in a report -> the Hub's names of metrics."""

SHARES = ("accuracy", "macro_f1", "micro_f1")
"""Metrics that are read in percent."""

TASKS = {
    "classification": ("text-classification", "Text classification", "classifier"),
    "multilabel": ("text-classification", "Multi-label text classification", "multi-label classifier"),
    "regression": ("text-classification", "Text scoring", "model that gives a text a number"),
    "generation": ("text-generation", "Text generation", "model that writes texts"),
}
"""Tasks of a report -> the Hub's pipeline, its name for people, and what such a model is."""

SIZE = ("measures", "size", "memory")
MARKS = ("commit", "revision", "sha256", "id")
"""What tells exactly which base model, data set or job it was."""


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def number_at(tree: Any, *keys: str) -> float | int | None:
    """The number at these keys of a report."""
    value = _at(tree, *keys)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def named(value: Any) -> str | None:
    """The name of a data set, base model or job in a lineage."""
    if isinstance(value, Mapping):
        value = value.get("repo") or value.get("name")
    return value if isinstance(value, str) and value else None


def license_of(lineage: Mapping[str, Any]) -> str | None:
    """The licence's identifier as the Hub spells it, in lower case."""
    value = lineage.get("license")
    return value.strip().lower() if isinstance(value, str) and value.strip() else None


def front_matter(
    *, model: Model, lineage: Mapping[str, Any], report: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The card's metadata, also shown as ``cardData`` by the Hub protocol."""
    sparse = model.kind == ModelKind.SPARSE
    pipeline, task_name, _ = _task(report)
    if pipeline == "text-generation" and config.get("is_encoder_decoder"):
        pipeline = "text2text-generation"
    data: dict[str, Any] = {}
    if license_id := license_of(lineage):
        data["license"] = license_id
    data["library_name"] = "transformers"
    if sparse:
        data["pipeline_tag"] = pipeline
    tags = ["sparsewright", "sparse", "pruning", pipeline] if sparse else ["sparsewright", "base-model"]
    kind = config.get("model_type")
    data["tags"] = [*tags, kind] if isinstance(kind, str) else tags
    if base := named(lineage.get("base_model")):
        data["base_model"] = base
    dataset = named(lineage.get("dataset"))
    if dataset:
        data["datasets"] = [dataset]
    results: list[dict[str, Any]] = []
    for split in ("validation", "test"):
        found = [
            {"type": hub, "value": value, "name": f"{split} {ours.replace('_', ' ')}"}
            for ours, hub in MEASURES.items()
            if (value := number_at(report, "metrics", split, ours)) is not None
        ]
        if found:
            results.append(
                {
                    "task": {"type": pipeline, "name": task_name},
                    "dataset": {"type": dataset or "own", "name": dataset or "own data", "split": split},
                    "metrics": found,
                }
            )
    if results:
        data["metrics"] = sorted({metric["type"] for result in results for metric in result["metrics"]})
        data["model-index"] = [{"name": model.name, "results": results}]
    return data


def _task(report: Mapping[str, Any]) -> tuple[str, str, str]:
    name = report.get("task")
    return TASKS.get(name if isinstance(name, str) else "", TASKS["classification"])


def _cell(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def _percent(value: float) -> str:
    return f"{value:.2%}"


def _decimal(value: float) -> str:
    return f"{value:.4g}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _report_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(measure, dense, this version)."""
    lines: list[tuple[str, tuple[str, ...], tuple[str, ...], Callable[[float], str]]] = [
        (
            f"{split} {name.replace('_', ' ')}",
            ("dense", split, name),
            ("metrics", split, name),
            _percent if name in SHARES else _decimal,
        )
        for split in ("validation", "test")
        for name in MEASURES
    ]
    lines += [
        ("zeros in the pruned matrices", (), ("sparsity", "reached"), _percent),
        ("parameters that are not zero", ("params", "total"), ("params", "nonzero"), _count),
        ("bytes", ("bytes", "dense"), ("bytes", "sparse"), _count),
        ("bytes of memory when served", (*SIZE, "dense"), (*SIZE, "sparse"), _count),
    ]
    rows = []
    for label, dense_at, own_at, show in lines:
        own, dense = number_at(report, *own_at), number_at(report, *dense_at) if dense_at else None
        if own is not None:
            rows.append((label, "" if dense is None else show(dense), show(own)))
    shapes = _at(report, "measures", "time", "shapes")
    for shape in shapes if isinstance(shapes, list) else []:
        texts, tokens = number_at(shape, "rows"), number_at(shape, "tokens")
        dense, own = (number_at(shape, name, "p50_ms") for name in ("dense", "sparse"))
        if None not in (texts, tokens, dense, own):
            rows.append((f"ms for {texts} × {tokens} tokens", f"{dense:.1f}", f"{own:.1f}"))
    return rows


def asking(repo: str, config: Mapping[str, Any]) -> str:
    """How a model that writes texts is asked, with an example that gives the text of the serving nodes."""
    start = "tokenizer = AutoTokenizer.from_pretrained(repo)"
    end = "print(tokenizer.decode(answer, skip_special_tokens=True).strip())"
    if config.get("is_encoder_decoder"):
        said, kind = "The encoder reads the source as it is.", "AutoModelForSeq2SeqLM"
        lines = ['inputs = tokenizer(source, truncation=True, return_tensors="pt")', "ids = inputs.input_ids"]
        lines.append("answer = model.generate(input_ids=ids, attention_mask=inputs.attention_mask)[0]")
    else:
        said, kind = "The model has learned to go on after the source and a line break.", "AutoModelForCausalLM"
        lines = [
            "ids = tokenizer(source).input_ids",
            "if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:",
            "    ids = ids[:-1]",
            r'ids += tokenizer("\n", add_special_tokens=False).input_ids',
            "answer = model.generate(input_ids=torch.tensor([ids]))[0, len(ids) :]",
        ]
    code = [
        "import torch",
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f'repo, source = "{repo}", "Your text"',
        f"{start}",
        f"model = {kind}.from_pretrained(repo, dtype=torch.float32)",
        *lines,
        end,
    ]
    example = "\n".join(code)
    return f"## How it is asked\n\n{said} There is no chat template.\n\n```python\n{example}\n```\n"


def card(
    *, model: Model, number: int, lineage: Mapping[str, Any], report: Mapping[str, Any], config: Mapping[str, Any]
) -> str:
    """The whole card as Markdown."""
    data = front_matter(model=model, lineage=lineage, report=report, config=config)
    head = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---\n", f"# {model.repo_id}, version {number}\n"]
    if model.description:
        parts.append(f"{model.description}\n")
    if model.kind == ModelKind.SPARSE:
        parts.append(
            f"A sparse {_task(report)[2]}. `model.safetensors` has the dense layout with zeros and loads in plain "
            "transformers; `sparse/` holds the same weights in the compact format that the serving nodes run.\n"
        )
        if report.get("task") == "generation":
            parts.append(asking(model.repo_id, config))
    if rows := _report_rows(report):
        lines = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
        parts.append("\n".join(["## Report\n", "| | dense | this version |", "|---|---:|---:|", *lines]) + "\n")
        if isinstance(engine := _at(report, "measures", "time", "engine"), str):
            parts.append(f"Times were measured by the job: {_cell(engine)}.\n")
    facts = []
    for key, title in (("base_model", "Base model"), ("dataset", "Data set"), ("job", "Job")):
        if name := named(lineage.get(key)):
            mark = next(filter(None, (_at(lineage, key, mark) for mark in MARKS)), None)
            facts.append(f"- {title}: {_cell(name)}" + (f" (`{_cell(mark)}`)" if mark else ""))
    facts += [
        f"- {title}: {_cell(lineage[key])}"
        for key, title in (("title", "Title"), ("source", "Source"), ("code_version", "Code version"))
        if lineage.get(key)
    ]
    if facts:
        parts.append("## Where it comes from\n\n" + "\n".join(facts) + "\n")
    parts.append(
        "`manifest.json` lists every file with its sha256; `manifest.sig` is the platform's signature over it.\n"
    )
    return "\n".join(parts)


def headline(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """``metric``, ``split``, ``value``, ``dense`` (the same of the dense model) and ``sparsity``: by the measure that
    models are compared by, of the test rows where there are some. None where the report has no such measure."""
    metric = report.get("primary", "accuracy")
    if not isinstance(metric, str):
        return None
    for split in ("test", "validation"):
        value = number_at(report, "metrics", split, metric)
        if value is not None:
            return {
                "metric": metric[:60],
                "split": split,
                "value": value,
                "dense": number_at(report, "dense", split, metric),
                "sparsity": number_at(report, "sparsity", "reached"),
            }
    return None
