"""Files as people have them: Excel's first line, old encodings, headers in the middle, labels that look alike."""

from __future__ import annotations

import json
import time

import pytest

from hub.datasets.formats.decoding import ENCODINGS, find_encoding
from hub.datasets.formats.report import similar
from hub.datasets.formats.validation import Outcome
from pst_client import cli
from tests.hub.reading import problems, read, texts

SENTENCES = {
    "windows-1251": ("cp1251", "Очень хорошая вещь, спасибо", "хорошо", "Ужасно и совсем плохо", "плохо"),
    "windows-1250": ("cp1250", "Žluťoučký kůň je velmi špatný", "příšerně", "Děkuji, líbilo se mi všechno", "dobře"),
    "shift-jis": ("cp932", "これはとても良い商品です", "良い", "二度と買いません", "悪い"),
    "euc-kr": ("cp949", "정말 마음에 들어요 고맙습니다", "좋음", "다시는 사지 않을 거예요", "나쁨"),
    "big5": ("cp950", "這個產品的品質很好我很喜歡", "好", "服務很差而且送貨太慢了", "差"),
    "mac-roman": ("mac_roman", "C’était très bien, j’ai été charmé", "bon", "Déçu à la fin, même gêné", "mauvais"),
    "gb18030": ("gb18030", "物流很快包装也很好", "正面", "耳机音质很差亏大了", "负面"),
    "latin-1": ("cp1252", "Das ist schön für mich", "gut", "Übel, größer geht’s kaum", "schlecht"),
}


def codes(outcome: Outcome) -> list[str]:
    return [item["code"] for item in outcome.report["warnings"]]


def warning(outcome: Outcome, code: str) -> str:
    return str(next(item["message"] for item in outcome.report["warnings"] if item["code"] == code))


@pytest.mark.parametrize("name", SENTENCES)
@pytest.mark.parametrize("times", [1, 40])
def test_an_old_encoding_is_guessed_with_a_sample_and_can_be_chosen(name: str, times: int) -> None:
    codec, one, good, two, bad = SENTENCES[name]
    rows = [f'"{text} {number}";{label}' for number in range(times) for text, label in ((one, good), (two, bad))]
    content = "\n".join(["text;label", *rows]).encode(codec)
    outcome = read(content)
    assert (outcome.found["encoding"], outcome.labels) == (name, sorted({good, bad})), outcome.found
    assert name in warning(outcome, "encoding_guessed") and one.split()[0].strip("«»")[:5] in str(texts(outcome))
    chosen = read(content, encoding="windows-1252" if name == "latin-1" else name)
    assert texts(chosen) == texts(outcome) and "encoding_guessed" not in codes(chosen)


def test_what_is_sure_is_no_guess() -> None:
    for codec in ("utf-8", "utf-8-sig", "utf-16"):
        assert "encoding_guessed" not in codes(read("text,label\nété,bon\nhiver,mal\n".encode(codec)))


def test_guessing_takes_time_bounded_by_the_sample() -> None:
    for piece in ("хорошо, ".encode("cp1251"), b"\xe9", b"\x80\x41", bytes(range(128, 256)), "좋".encode("cp949")):
        begin = time.monotonic()
        assert find_encoding(piece * (8_000_000 // len(piece))) in ENCODINGS
        assert time.monotonic() - begin < 5


def test_the_command_line_offers_the_same_encodings() -> None:
    assert ["auto", *ENCODINGS] == cli.ENCODINGS


@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\ufeff\ufeff"])
def test_excel_s_first_line_names_the_delimiter(separator: str, end: str, mark: str) -> None:
    lines = [f"sep={separator}", f"text{separator}label", f"good day{separator}a", f"bad day{separator}b"]
    outcome = read((mark + end.join(lines)).encode())
    assert outcome.found["columns"] == ["text", "label"] and outcome.labels == ["a", "b"]
    assert outcome.found["delimiter"] == separator
    assert problems(read(end.join([*lines, f"x{separator}y{separator}z"]).encode()))[0][0] == 5


@pytest.mark.parametrize(
    "line",
    ['"sep=;"', "sep=", '"sep="', "SEP=;", "sep=;;", '"sep=;";', "sep=; ", "\n\nsep=;", " \n\t\n sep=;", '\n"sep=;"'],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_excel_s_first_line_is_known_as_programs_write_it(line: str, end: str) -> None:
    text = end.join([*line.split("\n"), "text;label", "good, sunny day;a", "bad day;b", "another, day;b"])
    outcome = read(text.encode())
    assert outcome.found["columns"] == ["text", "label"] and outcome.labels == ["a", "b"]
    assert outcome.found["delimiter"] == ";"
    last = line.count("\n") + 6
    assert problems(read((text + end + "x;y;z" + end).encode()))[0][0] == last
    assert read(text.encode(), delimiter=";").labels == ["a", "b"]


CHOSEN = {
    "utf-7": ("utf-7", "Das ist schön für mich"),
    "cp866": ("cp866", "Очень хорошая вещь, спасибо"),
    "koi8-r": ("koi8-r", "Очень хорошая вещь, спасибо"),
    "iso-8859-5": ("iso8859-5", "Очень хорошая вещь, спасибо"),
    "euc-jp": ("euc-jp", "これはとても良い商品です"),
    "windows-1253": ("cp1253", "Πολύ καλό προϊόν, ευχαριστώ"),
    "cp850": ("cp850", "C'était très bien, Größe stimmt"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_an_encoding_that_no_guess_finds_can_be_chosen(name: str) -> None:
    codec, sentence = CHOSEN[name]
    rows = [f"{sentence} {number};{label}" for number in range(4) for label in ("a", "b")]
    outcome = read("\r\n".join(["text;label", *rows]).encode(codec), encoding=name)
    assert name in ENCODINGS and outcome.found["encoding"] == name
    assert all(text.startswith(sentence) for text, _ in texts(outcome)) and "encoding_guessed" not in codes(outcome)


def test_broken_utf_7_names_its_line() -> None:
    for piece, said in ((b"+2AA-", "surrogate"), (b"+A!", "not utf-7"), (b"\xe9", "not utf-7"), (b"+AAA-", "NUL")):
        found = problems(read(b"text,label\n+AOk-t+AOk-,a\nb" + piece + b",b\n", encoding="utf-7"))
        assert found[0][0] == 3 and said in found[0][2], found
    assert problems(read(b"text+2AA-,label\na,b\n", encoding="utf-7"))[0][0] == 1


@pytest.mark.parametrize("word", ["None", "nan", "NaN", "null", "N/A", "NA", "<NA>", "#N/A", "nil"])
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_label_that_may_stand_for_an_empty_cell_is_a_class_and_said(word: str, task: str) -> None:
    labels = ["a", word, "b", word] * 4
    content = "text,label\n" + "".join(f"row {number},{label}\n" for number, label in enumerate(labels))
    outcome = read(content, task=task)
    assert word in outcome.labels and codes(outcome).count("placeholder_labels") == 1
    said = warning(outcome, "placeholder_labels")
    assert f'"{word}" (line 3, 5, 7, 9, 11, …)' in said and "remove these rows" in said
    as_json = json.dumps([{"text": f"row {number}", "label": label} for number, label in enumerate(labels)])
    assert "placeholder_labels" in codes(read(as_json, name="a.json", task=task))
    assert "placeholder_labels" not in codes(read(content.replace(word, "nanny"), task=task))


def test_null_and_empty_labels_are_missing() -> None:
    rows = [{"text": "one", "label": "a"}, {"text": "two", "label": None}, {"text": "three", "label": ""}]
    for content, name in ((json.dumps(rows), "a.json"), ("text,label\none,a\nx,\ny, \n", "a.csv")):
        assert [item[2] for item in problems(read(content, name=name))] == ["The label is missing."] * 2


def test_a_header_in_the_middle_is_no_row() -> None:
    part = "text,label\n" + "".join(f"row {n},{n % 2}\n" for n in range(8))
    outcome = read(part + part.replace("row", "more"))
    assert outcome.labels == ["0", "1"] and "line 10" in warning(outcome, "repeated_header")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("text,label", " text , label "),
        ("text,label", "\ufefftext,label"),
        ("text,label", "Text,Label"),
        (" text , label ", " text , label "),
        ("text,label,", "text,label,"),
    ],
)
def test_a_header_is_known_again_as_people_repeat_it(first: str, again: str) -> None:
    ending = "," if first.endswith(",") else ""
    rows = [f"row {n},{'good' if n % 2 else 'bad'}{ending}" for n in range(40)]
    outcome = read("\n".join([first, *rows[:20], again, *rows[20:]]) + "\n")
    assert outcome.labels == ["bad", "good"] and "line 22" in warning(outcome, "repeated_header")


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["café", "cafe\u0301", "Café", "CAFÉ", "caf\u200bé", "\ufeffcafé", "tea"], 1),
        (["1", "1.0", "01", "1e0", "١", "2"], 1),
        (["yes", "Yes", "no", "NO", "maybe"], 2),
        (["a", "b"], 0),
        (["item 1", "item 01"], 0),
        (["nan", "NaN", "inf"], 1),
    ],
)
def test_labels_that_look_alike(labels: list[str], groups: int) -> None:
    found = similar(labels)
    assert len(found) == groups
    rows = [{"text": f"{label} {number}", "label": label} for label in labels for number in range(3)]
    outcome = read(json.dumps(rows).encode(), name="a.json")
    assert ("similar_labels" in codes(outcome)) == bool(groups)
    if "\u200b" in "".join(labels):
        assert '"cafU+200Bé"' in warning(outcome, "similar_labels")


def test_columns_of_one_name_pass_where_they_are_not_used() -> None:
    outcome = read("note,text,note,label\n1,good,2,a\n3,bad,4,b\n")
    assert outcome.found["columns"] == ["note", "text", "note (2)", "label"] and outcome.labels == ["a", "b"]
    twice = read("text,label,text\ngood,a,x\nbad,b,y\n", text_column="text")
    assert 'names "text" more than once' in problems(twice)[0][2]


@pytest.mark.parametrize("name", ["a.json", "a"])
def test_pandas_default_json_names_its_remedy(name: str) -> None:
    table = {"text": {"0": "good", "1": "bad"}, "label": {"0": "a", "1": "b"}}
    for indent in (None, 2):
        assert 'orient="records"' in problems(read(json.dumps(table, indent=indent).encode(), name=name))[0][2]


def test_labels_in_lists_within_cells() -> None:
    """As pandas, NumPy, JSON and annotation tools write them."""
    for cells in (
        ["['joy', 'anger']", "['joy']", "[]"],
        ["['joy' 'anger']", "['joy']", "[]"],
        ['["joy", "anger"]', '["joy"]', "[]"],
        ["[joy, anger]", "[joy]", "[]"],
        ["[joy anger]", "[joy]", "[]"],
        ['{"choices": ["joy", "anger"]}', '{"choices": ["joy"]}', '{"choices": []}'],
        ["{'joy', 'anger'}", "{'joy'}", "{}"],
        ["('joy', 'anger')", "('joy',)", "[]"],
        ["[['joy'], ['anger']]", "[['joy']]", "[]"],
        ['[["joy"], ["anger"]]', '[["joy"]]', "[[]]"],
        ["frozenset({'joy', 'anger'})", "frozenset({'joy'})", "set()"],
        ["array(['joy', 'anger'], dtype=object)", "array(['joy'], dtype='<U5')", "array([], dtype=object)"],
    ):
        rows = "".join(f'row {n},"{cell.replace(chr(34), chr(34) * 2)}"\n' for n in range(5) for cell in cells)
        outcome = read("text,label\n" + rows, task="multilabel")
        assert outcome.labels == ["anger", "joy"], (cells, problems(outcome))


def test_a_list_that_is_none_is_warned_of() -> None:
    rows = "".join(f'row {n},"[joy, anger"\nno {n},"joy"\n' for n in range(5))
    assert "[joy" in warning(read("text,label\n" + rows, task="multilabel"), "odd_lists")


@pytest.mark.parametrize("cell", ["joy; fear", "joy|fear"])
def test_another_separator_is_warned_of(cell: str) -> None:
    rows = "".join(f'row {n},"{cell}"\nno {n},"joy"\n' for n in range(5))
    assert cell in warning(read("text,label\n" + rows, task="multilabel"), "odd_lists")


def test_a_row_of_zeros_and_ones_is_no_list_of_labels() -> None:
    rows = "".join(f'row {n},"[1, 0, 1]"\nno {n},"[0, 1, 0]"\n' for n in range(5))
    assert "zeros and ones" in problems(read("text,label\n" + rows, task="multilabel"))[0][2]


def test_a_label_s_only_row_stays_in_training() -> None:
    rows = [{"text": f"row {n}", "label": [f"rare{n}"] if n % 4 == 0 else ["often", "too"]} for n in range(40)]
    for seed in range(20):
        outcome = read(json.dumps(rows).encode(), name="a.json", task="multilabel", seed=seed, validation_share=0.2)
        trained = {label for row in outcome.splits["train"] for label in row.classes}
        assert trained == set(outcome.labels) and outcome.splits["validation"]
        assert len(outcome.splits["validation"]) >= 6


def test_too_few_rows_are_said_at_upload() -> None:
    one_each = read("text,label\ngood,a\nbad,b\nso,c\n", validation_share=0.2)
    assert "each label" in problems(one_each)[0][2]
    numbers = read(
        "text,score\n" + "".join(f"row {n},{n}\n" for n in range(7)), task="regression", validation_share=0.2
    )
    assert "7 rows" in problems(numbers)[0][2]
    assert not read(
        "text,score\n" + "".join(f"row {n},{n}\n" for n in range(20)), task="regression", validation_share=0.2
    ).problems
