"""Reading files: encodings, delimiters, headers, JSON, errors with their place; and that no bytes can break it."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.datasets.formats.columns import suggest
from hub.datasets.formats.decoding import find_encoding
from hub.datasets.formats.problems import Limits, Options, Problems
from hub.datasets.formats.rows import Row, from_line, identity, label_end, sort_labels, to_line
from hub.datasets.formats.splits import split_off
from hub.datasets.formats.tables import open_table
from hub.datasets.formats.validation import Outcome, validate

LIMITS = Limits(rows=50_000, columns=50, cell_chars=5_000, classes=100)


def read(content: bytes | str, name: str = "rows.csv", **options: Any) -> Outcome:
    data = content.encode() if isinstance(content, str) else content
    return validate({"train": (name, data)}, Options(**({"validation_share": 0.0} | options)), LIMITS)


def texts(outcome: Outcome) -> list[tuple[str, str]]:
    assert not outcome.problems, outcome.problems.listed()
    return [(row.text, row.label) for row in outcome.splits["train"]]


def problems(outcome: Outcome) -> list[tuple[int | None, str | int | None, str]]:
    assert outcome.splits == {}
    return [(problem.line, problem.column, problem.message) for problem in outcome.problems.first]


# Encodings

FRENCH = "texte,classe\nC'était très drôle,oui\nÇa m'a déçu à la fin,non\nL'été prochain peut-être,oui\n"
CHINESE = "文本,标签\n物流很快，包装也很好,正面\n耳机音质很差，亏大了,负面\n比之前好太多了,正面\n"


@pytest.mark.parametrize(
    ("text", "codec", "found"),
    [
        (FRENCH, "utf-8", "utf-8"),
        (FRENCH, "utf-8-sig", "utf-8-sig"),
        (FRENCH, "utf-16", "utf-16"),
        (FRENCH, "latin-1", "latin-1"),
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "utf-16", "utf-16"),
        (CHINESE, "gb18030", "gb18030"),
        ("text,label\nplain,a\nascii,b\n", "ascii", "utf-8"),
    ],
)
def test_encodings_are_found(text: str, codec: str, found: str) -> None:
    outcome = read(text.encode(codec))
    assert outcome.found["encoding"] == found
    expected = [tuple(line.split(",")) for line in text.splitlines()[1:]]
    assert texts(outcome) == expected


def test_utf16_with_either_byte_order_and_without_a_mark() -> None:
    for codec in ("utf-16-le", "utf-16-be"):
        mark = b"\xff\xfe" if codec.endswith("le") else b"\xfe\xff"
        assert texts(read(mark + FRENCH.encode(codec))) == texts(read(FRENCH))
        assert texts(read(FRENCH.encode(codec), encoding="utf-16")) == texts(read(FRENCH))


@pytest.mark.parametrize(
    "text",
    ["ÄÖÜ äöü ß Größe Straße", "El niño español ñandú", "façade œuvre".replace("œ", "oe"), "ÉTÉ À LA PLAGE", "naïve"],
)
def test_european_text_is_not_taken_for_chinese(text: str) -> None:
    assert find_encoding(text.encode("latin-1")) == "latin-1"


def test_windows_quotes_in_latin_1() -> None:
    content = "text,label\n\u201chi\u201d it\u2019s me,a\nno \u2013 you,b\n".encode("cp1252")
    assert texts(read(content))[0] == ("\u201chi\u201d it\u2019s me", "a")


def test_a_chosen_encoding_wins() -> None:
    assert texts(read("text,label\né,a\nb,b\n".encode(), encoding="latin-1"))[0][0] == "Ã©"


def test_broken_utf8_names_its_lines() -> None:
    lines = ["text,label", *[f"größer {n},{n % 2}" for n in range(40)]]
    content = "\r\n".join(lines).encode()
    broken = content.replace("größer 7".encode(), b"gr\xff\xc3\xb6 7").replace("größer 20".encode(), b"gr\xe9 20")
    found = problems(read(broken))
    assert [line for line, _, _ in found] == [9, 22] and "ff" in found[0][2] and "utf-8" in found[0][2]


def test_many_broken_bytes_are_counted() -> None:
    outcome = read(b"text,label\n" + b"\xff\n" * 500, encoding="utf-8")
    assert len(outcome.problems.first) == 100 and outcome.problems.total == 500
    assert outcome.problems.listed()[-1]["message"] == "There are 400 more errors."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04....", "Excel"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PAR1xx", "Parquet"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "NUL"),
        (b"text,label\na\0b,c\n", "NUL"),
        (b"", "empty"),
        (b" \n\n\t", "empty"),
        (b"\xef\xbb\xbf", "empty"),
    ],
)
def test_what_is_no_text(content: bytes, words: str) -> None:
    assert words in problems(read(content))[0][2]


# Delimiters, quotes, headers


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(delimiter: str) -> None:
    rows = [("I like, really; like | it", "good"), ("no", "bad"), ("so so", "good")]
    content = f"text{delimiter}label\n" + "".join(f'"{text}"{delimiter}{label}\n' for text, label in rows)
    outcome = read(content)
    assert outcome.found["delimiter"] == delimiter and texts(outcome) == rows
    assert outcome.found["format"] == ("tsv" if delimiter == "\t" else "csv")


def test_a_delimiter_can_be_given() -> None:
    assert texts(read("a^b c\nd^e\nf^g\n", delimiter="^", header="false", text_column="column_2"))[0] == ("b c", "a")


def test_quoted_cells_with_line_ends_keep_physical_lines() -> None:
    content = 'text,label\n"two\nlines",a\r\n"she said ""hi""",b\n\n,c\n"x\ny\nz",\n'
    found = problems(read(content))
    assert [(line, column) for line, column, _ in found] == [(6, "text"), (7, "label")]
    fine = read(content.replace(",c\n", "w,c\n").replace(",\n", ",a\n"))
    assert texts(fine) == [("two\nlines", "a"), ('she said "hi"', "b"), ("w", "c"), ("x\ny\nz", "a")]


def test_quotes_are_characters_in_tab_separated_corpora() -> None:
    content = 'text\tlabel\n" hello he said\t1\nbye " now\t0\n"so" she said\t1\nplain\t0\n'
    outcome = read(content, "corpus.tsv")
    assert outcome.found["quotes"] is False
    assert texts(outcome)[0] == ('" hello he said', "1") and len(texts(outcome)) == 4


def test_quotes_that_would_swallow_a_row_unseen() -> None:
    # With CSV's quoting this is one row of two fields fewer, and nothing looks wrong.
    content = '1\t" hello there\n0\tbye now\n1\tsee you "\n0\tlast one\n'
    assert len(texts(read(content, "corpus.tsv", header="false"))) == 4


def test_unclosed_quotes() -> None:
    found = problems(read('text,label\nfine,a\n"open,b\nnext,a\n'))
    assert found == [(3, None, "The quote that is opened in this record is never closed.")]
    endless = problems(read('text,label\nfine,a\n"open,b\n' + "x,y\n" * 60_000))
    assert endless[0][0] == 3 and "far too long" in endless[0][2]


def test_something_after_a_closing_quote() -> None:
    found = problems(read('text,label\n"a"b,c\nfine,a\nalso,b\n"d"e,f\n'))
    assert [line for line, _, _ in found] == [2, 5] and "closing quote" in found[0][2]


def test_uneven_records() -> None:
    found = problems(read("text,label\na,b\nc\nd,e,f\n\ng,h\n"))
    assert [(line, message[:25]) for line, _, message in found] == [
        (3, "This record has 1 fields "),
        (4, "This record has 3 fields "),
    ]


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("text,label\na b,x\nc d,y\n", True),
        ("TEXT,Intent\na b,x\nc d,y\n", True),
        ("0\tHow did it start ?\n1\tWhat film is it ?\n0\tHow far ?\n", False),
        ("klass,satz\n1,wie geht es\n0,gut danke\n1,und dir\n", True),
        ("a thing,x\nb thing,y\nc thing,x\nd thing,y\n", False),
        ("kind,words\nx,aa bb\ny,cc dd\nx,ee ff\ny,gg hh\nx,ii jj\n", True),
        ("x,y\n", False),
    ],
)
def test_headers_are_found(content: str, header: bool) -> None:
    assert open_table("a.csv", content.encode(), Options(), LIMITS, Problems()).layout.header is header


def test_headers_can_be_given_and_must_make_sense() -> None:
    assert len(texts(read("text,label\na,x\nb,y\n", header="false"))) == 3
    assert read("a,b\nc,d\ne,f\n", header="true").found["columns"] == ["a", "b"]
    assert 'names "text" more than once' in problems(read("text,text,label\na,b,c\n"))[0][2]
    assert read(",text,label\n1,a,x\n2,b,y\n").found["columns"] == ["column_1", "text", "label"]


def test_the_test_file_is_read_as_the_training_file() -> None:
    train = ("train.csv", b"id;text;label\n1;a;x\n2;b;y\n")
    test = ("test.csv", "label;text\nx;ccc\n".encode("utf-16"))
    outcome = validate({"train": train, "test": test}, Options(validation_share=0), LIMITS)
    assert not outcome.problems and outcome.splits["test"] == [Row(2, "ccc", None, "x")]
    assert outcome.found["files"]["test"]["encoding"] == "utf-16"
    missing = validate({"train": train, "test": ("test.csv", b"a;b\nx;y\n")}, Options(), LIMITS)
    assert [(item.file, item.column) for item in missing.problems.first] == [
        ("test.csv", "text"),
        ("test.csv", "label"),
    ]


# JSON


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


# Columns


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [
        (["id", "text", "label"], [], ("text", "", "label")),
        (["Sentence", "Class"], [], ("Sentence", "", "Class")),
        (["index", "sentence1", "sentence2", "label"], [], ("sentence1", "sentence2", "label")),
        (["premise", "hypothesis", "gold_label", "genre"], [], ("premise", "hypothesis", "gold_label")),
        (
            ["question1", "question2", "is_duplicate"],
            [["a", "b", "0"], ["c", "d", "1"]],
            ("question1", "question2", "is_duplicate"),
        ),
        (["a", "b"], [["0", "long text"], ["1", "longer text"], ["0", "text"]], ("b", "", "a")),
        (["text_a", "text_b"], [], ("text_a", "", "text_b")),
        (
            ["c", "kind", "x"],
            [["same", "1", "long text"], ["same", "2", "other text"], ["same", "1", "third"]],
            ("x", "", "kind"),
        ),
    ],
)
def test_columns_are_suggested(columns: list[str], rows: list[list[str]], expected: tuple[str, str, str]) -> None:
    found = suggest(columns, rows)
    assert (found.text, found.text_pair, found.label) == expected


def test_named_columns_win_and_must_exist() -> None:
    content = "text,label,other\na,x,1\nb,y,2\nc,x,1\n"
    assert texts(read(content, label_column="other"))[0] == ("a", "1")
    pair = read(content, text_column="text", text_pair_column="label", label_column="other")
    assert pair.text_pair and pair.splits["train"][0] == Row(2, "a", "x", "1")
    missing = problems(read(content, text_column="body"))
    assert missing[0][1] == "body" and "text, label, other" in missing[0][2]
    assert "different columns" in problems(read(content, text_column="text", label_column="text"))[0][2]
    assert "one column only" in problems(read("text\na\nb\n"))[0][2]
    assert "left" in problems(read('{"text": "a"}\n{"text": "b"}\n', "a.jsonl"))[0][2]


# Limits, labels, report


def test_limits() -> None:
    def limited(content: str, name: str = "a.csv", **limits: int) -> list[tuple[int | None, str | int | None, str]]:
        bounds = Limits(**({"rows": 3, "columns": 3, "cell_chars": 10, "classes": 2} | limits))
        return problems(validate({"train": (name, content.encode())}, Options(), bounds))

    assert limited("text,label\na,x\nb,y\nc,x\nd,y\n")[0] == (5, None, "The file has more than 3 rows.")
    assert "4 columns" in limited("text,label,c,d\na,b,c,d\n")[0][2]
    assert "3 columns" in limited('{"a":1,"b":2,"c":3,"d":4}', "a.jsonl")[0][2]
    assert limited("text,label\na,x\n" + "b" * 11 + ",y\n")[0][:2] == (3, "text")
    assert "3 different labels" in limited("text,label\na,x\nb,y\nc,z\n")[0][2]
    wide = problems(read("text,label\na,x\nb," + "y" * 300 + "\n"))
    assert wide[0][:2] == (3, "label")


def test_labels_must_be_learnable() -> None:
    assert "at least two classes" in problems(read("text,label\na,x\nb,x\n"))[0][2]
    train, test = b"text,label\na,x\nb,y\n", b"text,label\nc,z\nd,x\ne,z\n"
    outcome = validate({"train": ("a.csv", train), "test": ("b.csv", test)}, Options(), LIMITS)
    problem = outcome.problems.first[0]
    assert (problem.file, problem.line) == ("b.csv", 2) and '"z" (2 rows)' in problem.message


def test_labels_are_sorted_as_people_do() -> None:
    assert sort_labels(["10", "9", "-1", "2.5"]) == ["-1", "2.5", "9", "10"]
    assert sort_labels(["item10", "item9", "Item1", "other"]) == ["Item1", "item9", "item10", "other"]
    assert sort_labels(["b", "nan", "1", "inf"]) == ["1", "b", "inf", "nan"]


def test_report() -> None:
    train = "text,label\n" + "one,a\none,a\none,b\nfour,a\nfivefive,c\n" + "".join(f"n{n},a\n" for n in range(20))
    test = b"text,label\none,a\nnew,b\n"
    outcome = validate(
        {"train": ("a.csv", train.encode()), "test": ("b.csv", test)}, Options(validation_share=0), LIMITS
    )
    report = outcome.report
    described = report["splits"]["train"]
    assert described["rows"] == 25 and described["duplicates"] == 2 and described["empty_texts"] == 0
    assert described["classes"][0] == {"label": "a", "count": 23, "share": 0.92}
    assert described["text_length"] == {
        "unit": "characters",
        "min": 2,
        "p50": 3,
        "p95": 4,
        "max": 8,
        "histogram": described["text_length"]["histogram"],
    }
    assert sum(described["text_length"]["histogram"]["counts"]) == described["rows"]
    assert report["overlap"] == [{"a": "train", "b": "test", "rows": 1}] and report["majority_share"] == 0.92
    assert {item["code"] for item in report["warnings"]} == {
        "few_rows", "duplicates", "overlap", "contradictions", "imbalanced",
    }  # fmt: skip


# Splits and canonical rows


def test_the_validation_split_is_stratified_and_repeatable() -> None:
    rows = [Row(n, f"text {n}", None, "abc"[n % 3]) for n in range(60)] + [Row(99, "alone", None, "d")]
    train, validation = split_off(rows, 0.2, seed=7)
    assert Counter(row.label for row in validation) == {"a": 4, "b": 4, "c": 4}
    assert Counter(row.label for row in train) == {"a": 16, "b": 16, "c": 16, "d": 1}
    assert sorted(train + validation) == sorted(rows) and train == sorted(train)
    assert split_off(rows, 0.2, seed=7) == (train, validation) != split_off(rows, 0.2, seed=8)


def test_repeated_rows_do_not_leak_into_validation() -> None:
    rows = [Row(n, f"text {n % 7}", None, "a") for n in range(70)] + [Row(n, f"b {n}", None, "b") for n in range(9)]
    train, validation = split_off(rows, 0.3, seed=1)
    assert validation and not {row.text for row in train} & {row.text for row in validation}


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.floats(0.01, 0.5), st.integers(0, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_every_class_keeps_training_rows(labels: list[str], share: float, seed: int) -> None:
    rows = [Row(number, str(number), None, label) for number, label in enumerate(labels)]
    train, validation = split_off(rows, share, seed)
    assert sorted(train + validation) == rows
    counts, taken = Counter(labels), Counter(row.label for row in validation)
    for label, count in counts.items():
        assert taken[label] == (min(count - 1, max(1, round(share * count))) if count > 1 else 0)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


@given(TEXT, st.none() | TEXT, TEXT, TEXT)
@settings(max_examples=100, deadline=None)
def test_canonical_rows_come_back(text: str, pair: str | None, label: str, other: str) -> None:
    line = to_line(Row(1, text, pair, label))
    expected = {"text": text, "label": label, "references": []} | ({} if pair is None else {"text_pair": pair})
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and from_line(line) == expected
    assert line.endswith(label_end(label)) and line.endswith(label_end(other)) == (label == other)


def test_identity() -> None:
    base = identity({"train": "a", "test": "b"}, ["x", "y"])
    assert base == identity({"test": "b", "train": "a"}, ["x", "y"])
    assert len({base, identity({"train": "a"}, ["x", "y"]), identity({"train": "a", "test": "b"}, ["y", "x"])}) == 3


# Whatever comes


def check_any(content: bytes, name: str, options: Options) -> None:
    outcome = validate({"train": (name, content), "test": (name, content)}, options, Limits(20, 5, 50, 3))
    assert bool(outcome.problems) == (not outcome.splits)
    listed = outcome.problems.listed()
    assert len(listed) <= 101
    for item in listed:
        assert set(item) == {"file", "line", "column", "message"} and item["message"].endswith((".", "?"))
        assert item["line"] is None or 1 <= item["line"] <= content.count(b"\n") + content.count(b"\r") + 1
    json.dumps([listed, outcome.found, outcome.report]).encode()
    for rows in outcome.splits.values():
        assert all(row.text and row.label in outcome.labels for row in rows)
        b"".join(map(to_line, rows)).decode()


NAMES = st.sampled_from(["a.csv", "a.tsv", "a.json", "a.jsonl", "a", "a.txt"])
OPTIONS = st.builds(
    Options,
    format=st.sampled_from(["auto", "csv", "tsv", "json", "jsonl"]),
    encoding=st.sampled_from(["auto", "utf-8", "utf-8-sig", "utf-16", "gb18030", "latin-1"]),
    delimiter=st.sampled_from(["auto", ",", "\t", "^", " ", "\\", "é"]),
    header=st.sampled_from(["auto", "true", "false"]),
    text_column=st.sampled_from(["", "text", "column_1"]),
    text_pair_column=st.sampled_from(["", "b", "text"]),
    label_column=st.sampled_from(["", "label", "column_2"]),
    validation_share=st.sampled_from([0.0, 0.2, 0.5]),
)
PIECES = st.sampled_from(
    ["text", "label", "a", "b", "1", "-2.5", '"', '""', ",", ";", "\t", "|", "\n", "\r\n", "\r", "\0", " ", "é", "中文",
     "\ufeff", "{", "}", "[", "]", ":", '"text":', '"label":', '"data":', "null", "true", "\\", "\\u0000", "\\ud800",
     "\u2028", "x" * 60]
)  # fmt: skip


@given(st.binary(max_size=300), NAMES, OPTIONS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(b"\xff\xfe\x00\xd8", "a.csv", Options())
@example(b"\xfe\xff\xd8", "a.csv", Options())
@example(b"\x81", "a.csv", Options(encoding="gb18030"))
def test_any_bytes_give_rows_or_problems(content: bytes, name: str, options: Options) -> None:
    check_any(content, name, options)


@given(st.lists(PIECES, max_size=40), st.sampled_from(["utf-8", "utf-16", "gb18030"]), NAMES, OPTIONS)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_like_a_table_gives_rows_or_problems(
    pieces: list[str], codec: str, name: str, options: Options
) -> None:
    check_any("".join(pieces).encode(codec), name, options)


# Real corpora

DATA = Path(os.environ.get("SPARSEWRIGHT_DATA", "/nowhere"))
real = pytest.mark.skipif(not DATA.is_dir(), reason="SPARSEWRIGHT_DATA does not name the shared data folder")


def corpus(train: str, test: str | None = None, **options: Any) -> Outcome:
    files = {"train": (Path(train).name, (DATA / train).read_bytes())}
    if test:
        files["test"] = (Path(test).name, (DATA / test).read_bytes())
    outcome = validate(files, Options(**options), Limits(200_000, 200, 20_000, 1_000))
    assert not outcome.problems, outcome.problems.listed()
    return outcome


@real
def test_trec() -> None:
    outcome = corpus("trec/train.tsv", "trec/test.tsv", text_column="column_2", label_column="column_1")
    assert outcome.labels == ["0", "1", "2", "3", "4", "5"] and outcome.found["header"] is False
    assert {split: len(rows) for split, rows in outcome.splits.items()} == {
        "train": 4362,
        "validation": 1090,
        "test": 500,
    }
    assert corpus("trec/train.tsv").found["text_column"] == "column_2"


@real
def test_fewclue_eprstmt() -> None:
    outcome = corpus("fewclue-eprstmt/train_few_all.json", "fewclue-eprstmt/test_public.json")
    assert outcome.found["format"] == "jsonl" and outcome.labels == ["Negative", "Positive"]
    assert (
        len(outcome.splits["train"]) + len(outcome.splits["validation"]) == 160 and len(outcome.splits["test"]) == 610
    )


@real
def test_mrpc() -> None:
    outcome = corpus(
        "glue-mrpc/train.tsv", "glue-mrpc/dev.tsv",
        text_column="#1 String", text_pair_column="#2 String", label_column="Quality",
    )  # fmt: skip
    assert outcome.found["encoding"] == "utf-8-sig" and outcome.found["quotes"] is False and outcome.text_pair
    with (DATA / "glue-mrpc/train.tsv").open(encoding="utf-8-sig") as file:
        assert len(outcome.splits["train"]) + len(outcome.splits["validation"]) == sum(1 for _ in file) - 1


@real
def test_ocnli() -> None:
    outcome = corpus("ocnli/train.3k.json", "ocnli/dev.json")
    assert (outcome.found["text_column"], outcome.found["text_pair_column"]) == ("sentence1", "sentence2")
    assert {"contradiction", "entailment", "neutral"} <= set(outcome.labels)
