"""No bytes can break the reading of a file."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.datasets.formats.decoding import ENCODINGS
from hub.datasets.formats.problems import Limits, Options
from hub.datasets.formats.rows import to_line
from hub.datasets.formats.validation import validate


def check_any(content: bytes, name: str, options: Options) -> None:
    outcome = validate({"train": (name, content), "test": (name, content)}, options, Limits(20, 5, 50, 3))
    assert bool(outcome.problems) == (not outcome.splits)
    listed = outcome.problems.listed()
    assert len(listed) <= 101
    for item in listed:
        assert set(item) == {"file", "line", "column", "message", "said"} and item["message"].endswith((".", "?"))
        assert item["line"] is None or 1 <= item["line"] <= content.count(b"\n") + content.count(b"\r") + 1
    json.dumps([listed, outcome.found, outcome.report]).encode()
    for rows in outcome.splits.values():
        assert all(row.text and row.label in outcome.labels for row in rows)
        b"".join(map(to_line, rows)).decode()


NAMES = st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a", "a.txt"])
OPTIONS = st.builds(
    Options,
    format=st.sampled_from(["auto", "csv", "tsv", "json", "jsonl"]),
    encoding=st.sampled_from(["auto", *ENCODINGS]),
    delimiter=st.sampled_from(["auto", ",", "\t", "^", " ", "\\", "é"]),
    header=st.sampled_from(["auto", "true", "false"]),
    text_column=st.sampled_from(["", "text", "column_1"]),
    text_pair_column=st.sampled_from(["", "b", "text"]),
    label_column=st.sampled_from(["", "label", "column_2"]),
    validation_share=st.sampled_from([0.0, 0.2, 0.5]),
)
PIECES = st.sampled_from(
    ["sep=;\n", "sep=\t\n", "\"sep=\"\n", "text,label\n", "+2AA-", "None",
     "text", "label", "a", "b", "1", "-2.5", '"', '""', ",", ";", "\t", "|", "\n", "\r\n", "\r", "\0", " ", "é", "中文",
     "\ufeff", "{", "}", "[", "]", ":", '"text":', '"label":', '"data":', "null", "true", "\\", "\\u0000", "\\ud800",
     "\u2028", "x" * 60]
)  # fmt: skip


@given(st.binary(max_size=300), NAMES, OPTIONS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@example(b"\xff\xfe\x00\xd8", "a.csv", Options())
@example(b"\xfe\xff\xd8", "a.csv", Options())
@example(b"\x81", "a.csv", Options(encoding="gb18030"))
def test_any_bytes_give_rows_or_problems(content: bytes, name: str, options: Options) -> None:
    check_any(content, name, options)


@given(st.lists(PIECES, max_size=40), st.sampled_from(["utf-8", "utf-16", "gb18030"]), NAMES, OPTIONS)
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
def test_anything_like_a_table_gives_rows_or_problems(
    pieces: list[str], codec: str, name: str, options: Options
) -> None:
    check_any("".join(pieces).encode(codec), name, options)
