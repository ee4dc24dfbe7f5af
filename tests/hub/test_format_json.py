"""Rows in JSON and JSON lines, and errors with their line and key."""

from __future__ import annotations

import json

import pytest

from tests.hub.reading import problems, read, texts


def test_json_lines_and_arrays_give_the_same_rows() -> None:
    rows = [{"id": 1, "sentence": "bon\u2028jour", "label": True}, {"id": 2, "sentence": " x ", "label": 1.50}]
    expected = [("bon\u2028jour", "true"), ("x", "1.5")]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    for content, form in (
        (lines, "jsonl"),
        (json.dumps(rows), "json"),
        (json.dumps({"version": [1, {}], "data": rows, "more": None}, indent=2), "json"),
        (json.dumps(rows, indent=4, ensure_ascii=False), "json"),
    ):
        outcome = read(content, "rows.json")
        assert outcome.found["format"] == form and texts(outcome) == expected
    assert texts(read(lines, "no-name")) == expected


def test_numbers_stay_as_they_are_written() -> None:
    content = '{"text": "a", "label": 1.0}\n{"text": "b", "label": 1}\n{"text": 123456789012345678901, "label": 1}\n'
    assert texts(read(content, "a.jsonl")) == [("a", "1.0"), ("b", "1"), ("123456789012345678901", "1")]


def test_json_errors_have_line_and_key() -> None:
    content = '{"text": "a", "label": "x"}\n{"text": ["b"], "label": "y"}\n{"text": "c"}\n{bad}\n[1]\n'
    content += '{"text": "d", "label": {}}\n'
    found = problems(read(content, "a.jsonl"))
    assert [(line, column) for line, column, _ in found[:5]] == [
        (2, "text"),
        (3, "label"),
        (4, None),
        (5, None),
        (6, "label"),
    ]
    assert "not valid JSON" in found[2][2] and "object" in found[3][2]


def test_json_array_errors_name_the_physical_line() -> None:
    content = '[\n {"text": "a",\n  "label": "x"},\n\n {"text": "",\n  "label": "x"},\n {"text": "b" "label"}\n]'
    found = problems(read(content, "a.json"))
    assert [line for line, _, _ in found[:2]] == [5, 7]


@pytest.mark.parametrize(
    "content",
    [
        "[",
        "[1, 2]",
        '[{"text": "a", "label": "b"}',
        '[{"text": "a", "label": "b"}] x',
        '[{"text": "a", "label": "b"} {"text": "a", "label": "c"}]',
        '{"rows": []}',
        '{"data": [{"text": "a", "label": "b"}]',
        '{"data": [{"text": "a", "label": "b"}], 5}',
        '{"data" 5}',
        "[]",
        '{"data": []}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"text": NaN, "label": "x"}',
        "nonsense",
    ],
)
def test_bad_json_documents(content: str) -> None:
    assert problems(read(content, "a.json"))


def test_characters_that_are_no_text_in_json() -> None:
    content = '{"text": "a\\u0000b", "label": "x"}\n{"text": "\\ud800", "label": "y"}\n'
    content += '{"text": "\\ud83d\\ude00", "label": "y"}\n'
    assert [(line, column) for line, column, _ in problems(read(content, "a.jsonl"))[:2]] == [(1, "text"), (2, "text")]
