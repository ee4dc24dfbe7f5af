"""Delimiters, quotes, headers and columns of a table, and errors with their place."""

from __future__ import annotations

import pytest

from hub.datasets.formats.columns import suggest
from hub.datasets.formats.problems import Options, Problems
from hub.datasets.formats.rows import Row
from hub.datasets.formats.tables import open_table
from hub.datasets.formats.validation import validate
from tests.hub.reading import LIMITS, problems, read, texts


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
