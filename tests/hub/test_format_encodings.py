"""Finding a file's encoding, and what is no text at all."""

from __future__ import annotations

import pytest

from hub.datasets.formats.decoding import find_encoding
from tests.hub.reading import problems, read, texts

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
