"""What rows must be: limits, labels, the report, splits and their canonical form."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.datasets.formats.problems import Limits, Options
from hub.datasets.formats.rows import Row, from_line, identity, label_end, sort_labels, to_line
from hub.datasets.formats.splits import split_off
from hub.datasets.formats.validation import validate
from tests.hub.reading import LIMITS, problems, read


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
@settings(max_examples=50)
def test_every_class_keeps_training_rows(labels: list[str], share: float, seed: int) -> None:
    rows = [Row(number, str(number), None, label) for number, label in enumerate(labels)]
    train, validation = split_off(rows, share, seed)
    assert sorted(train + validation) == rows
    counts, taken = Counter(labels), Counter(row.label for row in validation)
    for label, count in counts.items():
        assert taken[label] == (min(count - 1, max(1, round(share * count))) if count > 1 else 0)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


@given(TEXT, st.none() | TEXT, TEXT, TEXT)
@settings(max_examples=100)
def test_canonical_rows_come_back(text: str, pair: str | None, label: str, other: str) -> None:
    line = to_line(Row(1, text, pair, label))
    expected = {"text": text, "label": label, "references": []} | ({} if pair is None else {"text_pair": pair})
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and from_line(line) == expected
    assert line.endswith(label_end(label)) and line.endswith(label_end(other)) == (label == other)


def test_identity() -> None:
    base = identity({"train": "a", "test": "b"}, ["x", "y"])
    assert base == identity({"test": "b", "train": "a"}, ["x", "y"])
    assert len({base, identity({"train": "a"}, ["x", "y"]), identity({"train": "a", "test": "b"}, ["y", "x"])}) == 3
