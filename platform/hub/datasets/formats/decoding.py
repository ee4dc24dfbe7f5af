"""Bytes to text: which encoding it is, and where it is broken."""

from __future__ import annotations

import codecs
import re
from itertools import islice

from hub.datasets.formats.guessing import guess
from hub.datasets.formats.problems import Problems, Unreadable
from pst.messages import Message

CODECS = {"shift-jis": "cp932", "euc-kr": "cp949", "big5": "cp950"}
"""Those that mean more by their name than Python does: what Windows writes."""
ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "gb18030",
    "latin-1",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "shift-jis",
    "euc-kr",
    "big5",
    "mac-roman",
    "utf-7",
    "cp866",
    "koi8-r",
    "iso-8859-5",
    "euc-jp",
    "windows-1253",
    "cp850",
)

# Files that people upload by mistake, by their first bytes.
FOREIGN = {
    b"PK\x03\x04": Message("a zip or Excel file; save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": Message("an old Excel or Word file; save the sheet as CSV"),
    b"\x1f\x8b": Message("a gzip file; unpack it first"),
    b"PAR1": Message("a Parquet file; export it as CSV or JSON lines"),
    b"%PDF": Message("a PDF"),
    b"\xff\xfe\x00\x00": Message("UTF-32 text; save it as UTF-8"),
}
SAMPLE = 1 << 20
BEYOND_ASCII = re.compile(r"[^\s,;\t|\x80-\U0010ffff]{0,20}[^\x00-\x7f][^\s,;\t|]{0,20}")


def find_encoding(data: bytes) -> str:
    """The encoding that ``data`` is most plausibly in, one of ENCODINGS."""
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        # A decoder that is not told of the end forgives a character cut in two by the sample.
        codecs.getincrementaldecoder("utf-8")().decode(data)
        return "utf-8"
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - SAMPLE) : error.start + SAMPLE]
    if _zero_share(around) > 0.2:
        return "utf-16"
    if _mostly_utf8(around):
        return "utf-8"
    return guess(around)


def _zero_share(data: bytes) -> float:
    return data.count(0) / max(1, len(data))


def _mostly_utf8(data: bytes) -> bool:
    """UTF-8 with a few broken bytes, rather than another encoding: most of what is not ASCII decodes."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    beyond = sum(1 for character in text if character > "\x7f") - broken
    return beyond > 4 * broken


def decode(name: str, data: bytes, encoding: str, problems: Problems) -> tuple[str, str]:
    """(text without a byte order mark, encoding found). Each broken byte is a problem; raises Unreadable then."""
    for start, what in FOREIGN.items():
        if data.startswith(start):
            problems.add(name, Message("This is {what}.", what=what))
            raise Unreadable
    guessed = encoding == "auto"
    found = find_encoding(data) if guessed else encoding
    codec, skip = _codec(data, found)
    body = memoryview(data)[skip:]
    try:
        text = str(body, codec)
    except UnicodeDecodeError:
        _report_broken(name, body, codec, found, problems)
        raise Unreadable from None
    if found == "latin-1" and re.search("[\x80-\x9f]", text):
        text = _windows(data, text)
    _refuse_binary(name, text, found, problems)
    _refuse_halves(name, text, found, problems)
    if guessed and not found.startswith("utf"):
        words = islice(BEYOND_ASCII.finditer(text, 0, SAMPLE), 4)
        problems.warn(
            "encoding_guessed",
            Message(
                'The encoding of {file} is a guess, {encoding}: is "{sample}" right? If not, choose another encoding.',
                file=name,
                encoding=found,
                sample=" ".join(match.group()[:30] for match in words),
            ),
        )
    return text.lstrip("\ufeff"), found


def _codec(data: bytes, encoding: str) -> tuple[str, int]:
    """The codec to use and how many bytes of byte order mark to skip."""
    if encoding == "utf-16":
        if data.startswith(codecs.BOM_UTF16_LE):
            return "utf-16-le", 2
        if data.startswith(codecs.BOM_UTF16_BE):
            return "utf-16-be", 2
        # Without a mark: in nearly every script's text the high bytes have the zeros.
        return ("utf-16-be" if data[:SAMPLE:2].count(0) > data[1:SAMPLE:2].count(0) else "utf-16-le"), 0
    if encoding in {"utf-8", "utf-8-sig"}:
        return "utf-8", 3 if data.startswith(codecs.BOM_UTF8) else 0
    if encoding == "gb18030" and data.startswith(b"\x84\x31\x95\x33"):
        return "gb18030", 4
    return CODECS.get(encoding, encoding), 0


def _windows(data: bytes, text: str) -> str:
    """What is called Latin-1 is mostly Windows-1252, which has quotes and dashes where Latin-1 has control codes."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return text


def count_lines(text: str) -> int:
    """Line ends in ``text``: LF, CR LF or CR."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _report_broken(name: str, body: memoryview, codec: str, encoding: str, problems: Problems) -> None:
    line, position, reported = 1, 0, 0
    while position < len(body):
        try:
            str(body[position:], codec)
            return
        except UnicodeDecodeError as error:
            line += count_lines(str(body[position : position + error.start], codec, "replace"))
            broken = bytes(body[position + error.start : position + error.end]).hex(" ")
            problems.add(
                name,
                Message(
                    "The bytes {broken} are not {encoding}; save the file as UTF-8, or name its encoding.",
                    broken=broken,
                    encoding=encoding,
                ),
                line=line,
            )
            position += max(error.end, 1)
        reported += 1
        if reported >= problems.limit:
            rest = str(body[position:], codec, "replace").count("\ufffd")
            if rest:
                problems.add(name, Message("More bytes cannot be decoded."), line=line, count=rest)
            return


def _refuse_halves(name: str, text: str, encoding: str, problems: Problems) -> None:
    """UTF-7 alone can hold half a surrogate pair, which no file and no database takes."""
    if encoding != "utf-7" or not (half := re.search("[\ud800-\udfff]", text)):
        return
    message = Message("Half a surrogate pair, which is no character; save the file as UTF-8.")
    problems.add(name, message, line=1 + count_lines(text[: half.start()]))
    raise Unreadable


def _refuse_binary(name: str, text: str, encoding: str, problems: Problems) -> None:
    if "\0" not in text:
        return
    position, line, last = text.find("\0"), 1, 0
    nuls = text.count("\0")
    for _ in range(min(nuls, 3)):
        line += count_lines(text[last:position])
        problems.add(
            name,
            Message("A NUL byte: this is not text, or not in the encoding {encoding}.", encoding=encoding),
            line=line,
        )
        last, position = position, text.find("\0", position + 1)
    if nuls > 3:
        problems.add(name, Message("More NUL bytes follow."), line=line, count=nuls - 3)
    raise Unreadable
