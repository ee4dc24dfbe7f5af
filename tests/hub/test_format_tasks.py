"""Reading the files of the tasks beside classification."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hub.datasets.formats.problems import Options
from hub.datasets.formats.rows import from_line, to_line, words
from hub.datasets.formats.validation import validate
from tests.hub.reading import LIMITS, problems, read


def test_numbers_are_read_as_numbers() -> None:
    outcome = read("sentence1,sentence2,score\na,b,3.5\nc,d,-1\ne,f,2e0\n", task="regression")
    assert not outcome.problems, outcome.problems.listed()
    assert outcome.found["label_column"] == "score" and outcome.text_pair and outcome.labels == []
    rows = outcome.splits["train"]
    assert [row.label for row in rows] == [3.5, -1.0, 2.0]
    assert to_line(rows[0]) == b'{"text":"a","text_pair":"b","label":3.5}\n'
    assert from_line(to_line(rows[1])) == {"text": "c", "text_pair": "d", "label": "-1", "references": []}
    numbers = outcome.report["splits"]["train"]["numbers"]
    assert (numbers["min"], numbers["mean"], numbers["max"]) == (-1.0, 1.5, 3.5)
    assert outcome.report["splits"]["train"]["classes"] == [] and outcome.report["majority_share"] == 0


def test_labels_of_a_row_come_as_a_list_or_behind_a_separator() -> None:
    text = "text,label\none,a; b\ntwo,\nthree,b;b\n"
    lines = read(text, task="multilabel", label_separator=";")
    objects = [{"text": "one", "label": ["a", "b"]}, {"text": "two", "label": []}, {"text": "three", "label": "b"}]
    listed = read("\n".join(map(json.dumps, objects)), "rows.jsonl", task="multilabel")
    for outcome in (lines, listed):
        assert not outcome.problems, outcome.problems.listed()
        assert [row.label for row in outcome.splits["train"]] == [("a", "b"), (), ("b",)]
        assert outcome.labels == ["a", "b"]
        counts = {item["label"]: item["count"] for item in outcome.report["splits"]["train"]["classes"]}
        assert counts == {"a": 1, "b": 2}
    row = lines.splits["train"][0]
    assert to_line(row) == b'{"text":"one","label":["a","b"]}\n' and from_line(to_line(row))["label"] == "a, b"


def test_sources_targets_and_references() -> None:
    tabled = read("mr,ref\nname[x],x is good\nname[x],x is fine\nname[y],y\n", task="generation")
    assert not tabled.problems, tabled.problems.listed()
    assert (tabled.found["text_column"], tabled.found["label_column"]) == ("mr", "ref")
    assert to_line(tabled.splits["train"][0]) == b'{"source":"name[x]","target":"x is good"}\n'
    assert tabled.labels == [] and tabled.report["warnings"] == []
    objects = [
        {"source": "a", "target": "b", "references": ["b", "c"]},
        {"source": "d", "target": ["e", "f"]},
        {"source": "g", "target": "h"},
    ]
    listed = read("\n".join(map(json.dumps, objects)), "rows.jsonl", task="generation")
    assert not listed.problems, listed.problems.listed()
    found = [(row.text, row.label, row.references) for row in listed.splits["train"]]
    assert found == [("a", "b", ("b", "c")), ("d", "e", ("f",)), ("g", "h", ())]
    assert from_line(to_line(listed.splits["train"][0])) == {"text": "a", "label": "b", "references": ["b", "c"]}
    assert listed.report["splits"]["train"]["target_length"]["max"] == 1


def test_a_target_that_no_job_can_generate_is_named_by_its_line() -> None:
    long, longest = "very " * 100, "no " * 4096
    content = f"source,target\na,b\nc,{longest}\n".encode()
    options = Options(task="generation", validation_share=0)
    outcome = validate({"train": ("rows.csv", content)}, options, replace(LIMITS, cell_chars=20_000))
    [problem] = outcome.problems.listed()
    assert (problem["file"], problem["line"], problem["column"]) == ("rows.csv", 3, "target")
    assert problem["message"].startswith("The target has 4,096 words; a job can generate texts of 4,096 tokens")

    outcome = read(f"source,target\na,b\n\nc,{long}\ne,f\n", task="generation", validation_share=0)
    assert not outcome.problems, outcome.problems.listed()
    [warning] = [item for item in outcome.report["warnings"] if item["code"] == "long_targets"]
    assert warning["message"].startswith("rows.csv, line 4: the target has 100 words. A job generates 64 tokens")


@pytest.mark.parametrize(("text", "least"), [("a, b — c!", 3), ("你好 世界", 2), (" \u3000\n ", 0), ("don't", 1)])
def test_no_tokenizer_makes_fewer_tokens_than_there_are_words(text: str, least: int) -> None:
    assert words(text) == least


def test_references_of_one_source_do_not_leak_into_validation() -> None:
    text = "source,target\n" + "".join(f"s{number // 3},t{number}\n" for number in range(30))
    outcome = read(text, task="generation", validation_share=0.2)
    train, validation = outcome.splits["train"], outcome.splits["validation"]
    assert len(validation) == 6 and not {row.text for row in train} & {row.text for row in validation}


@pytest.mark.parametrize(
    ("task", "text", "line", "column", "message"),
    [
        ("regression", "text,score\na,1\nb,high\n", 3, "score", '"high" is no number; write it like 3.5.'),
        ("regression", "text,score\na,1\nb,nan\n", 3, "score", '"nan" is no number; write it like 3.5.'),
        ("regression", "text,score\na,1\nb,\n", 3, "score", "The number is missing."),
        ("regression", "text,score\na,1\nb,1\n", None, None, "All rows have the number 1.0; at least two different"),
        ("multilabel", "text,label\na,\nb,\n", None, None, "No row has a label."),
        ("generation", "source,target\na,\n", 2, "target", "The target is empty."),
        ("generation", "source,target\n,b\n", 2, "source", "The text is empty."),
        ("generation", "source,target\n\u200b\u2060 \u3000,b\n", 2, "source", "The text is empty."),
        ("generation", "source,target\na,\u200b\u00ad\n", 2, "target", "The target is empty."),
        ("classification", "text,label\n \u200b\u200d,b\n", 2, "text", "The text is empty."),
        ("classification", "text,label\na,\u200b\n", 2, "label", "The label is missing."),
        ("classification", '{"text": "a", "label": ["x"]}\n', 1, "label", "A list or an object stands where a text"),
        ("generation", '{"source": "a", "target": {"x": 1}}\n', 1, "target", "A list or an object stands where"),
        ("multilabel", '{"text": "a", "label": [["x"]]}\n', 1, "label", "A list or an object stands where a text"),
    ],
)
def test_what_a_task_does_not_take(task: str, text: str, line: int | None, column: str | None, message: str) -> None:
    name = "rows.jsonl" if text.startswith("{") else "rows.csv"
    found = problems(read(text, name, task=task))
    assert found[0][:2] == (line, column) and found[0][2].startswith(message)


def test_labels_only_in_another_split_are_named() -> None:
    files = {"train": ("a.csv", b"text,label\nx,a\ny,b\n"), "test": ("b.csv", b"text,label\nz,a|c\n")}
    outcome = validate(files, Options(task="multilabel", label_separator="|"), LIMITS)
    assert problems(outcome) == [(2, None, 'The label "c" (1 rows) does not occur in the training rows.')]
