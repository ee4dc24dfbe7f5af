"""One file as a table: how it is written (its layout), its columns, and its cells with their lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import Any

from hub.datasets.formats import delimited, jsonrows
from hub.datasets.formats.columns import KNOWN
from hub.datasets.formats.decoding import count_lines, decode
from hub.datasets.formats.problems import Limits, Options, Problems, Unreadable
from pst.messages import Message

FORMATS = ("csv", "tsv", "json", "jsonl")
SAMPLE = 1000
SEPARATOR = re.compile(r"""\s*("?)sep=([^\w\s"'\0]|\t)?\1[,;|\t ]*(?=\r|\n)""", re.IGNORECASE)
"""Excel's own line before the header: in quotes, and filled up with delimiters, where a program saved it as a cell."""
NO_TEXT = re.compile("[\\0\\ud800-\\udfff]")

Cell = str | tuple[str, ...] | None
Cells = list[str | None]


@dataclass(frozen=True)
class Layout:
    """How a file is written. The last three are None for JSON."""

    format: str
    encoding: str
    delimiter: str | None = None
    quotes: bool | None = None
    header: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "encoding": self.encoding,
            "delimiter": self.delimiter,
            "quotes": self.quotes,
            "header": self.header,
        }


@dataclass(frozen=True)
class Table:
    """A file that is open for reading. ``records`` yields (physical line, record), anew at each call."""

    name: str
    layout: Layout
    columns: list[str]
    limits: Limits
    records: Callable[[], Iterator[tuple[int, Any]]]
    repeated: frozenset[str] = frozenset()
    """Columns that the header names more than once: they can't be chosen."""

    def sample(self, count: int = SAMPLE) -> list[Cells]:
        """The first readable rows, all columns, lists and objects as JSON."""
        found: list[Cells] = []
        for _, record in islice(self.records(), count):
            if isinstance(record, list):
                found.append([*record[: len(self.columns)], *[None] * (len(self.columns) - len(record))])
            elif isinstance(record, dict):
                found.append([_shown(record.get(name)) for name in self.columns])
        return found

    def read(
        self, names: Sequence[str], problems: Problems, *, lists: Collection[str] = ()
    ) -> Iterator[tuple[int, list[Cell]]]:
        """(line, cells of the columns ``names``) of every sound record; the others are problems.

        In the columns ``lists``, JSON may have a list of texts, which is a tuple then.
        """
        missing = [name for name in names if name not in self.columns]
        for name in missing:
            has = ", ".join(self.columns[:20]) + (", …" if len(self.columns) > 20 else "")
            problems.add(
                self.name,
                Message('There is no column "{name}"; the file has: {has}.', name=name, has=has),
                line=1,
                column=name,
            )
        for name in sorted(self.repeated.intersection(names)):
            problems.add(
                self.name, Message('The header names "{twice}" more than once.', twice=name), line=1, column=name
            )
        if missing or self.repeated.intersection(names):
            return
        headers: list[int] = []
        for count, (line, record) in enumerate(self.records(), start=1):
            if count > self.limits.rows:
                problems.add(
                    self.name, Message("The file has more than {rows:,} rows.", rows=self.limits.rows), line=line
                )
                return
            if self._is_header(record):
                headers.append(line)
                continue
            cells = self._pick(line, record, names, lists, problems)
            if cells is not None:
                yield line, cells
        if headers:
            problems.warn(
                "repeated_header",
                Message(
                    "The header of {file} stands there again, in line {lines}; it is no row.",
                    file=self.name,
                    lines=", ".join(map(str, headers[:5])) + (", …" if len(headers) > 5 else ""),
                ),
            )

    def _is_header(self, record: Any) -> bool:
        """Whether a record repeats the header, as where files were put one behind the other."""
        return (
            bool(self.layout.header)
            and isinstance(record, list)
            and len(record) == len(self.columns)
            and all(
                delimited.plain(cell) in (delimited.plain(name), "" if name == f"column_{place}" else None)
                for place, (cell, name) in enumerate(zip(record, self.columns, strict=True), start=1)
            )
        )

    def _pick(
        self, line: int, record: Any, names: Sequence[str], lists: Collection[str], problems: Problems
    ) -> list[Cell] | None:
        if isinstance(record, (delimited.Malformed, jsonrows.Broken)):
            problems.add(self.name, record.message, line=line)
            return None
        if isinstance(record, list):
            if len(record) != len(self.columns):
                problems.add(
                    self.name,
                    Message(
                        "This record has {fields} fields where {columns} are expected (a delimiter "
                        "inside a cell needs quotes).",
                        fields=len(record),
                        columns=len(self.columns),
                    ),
                    line=line,
                )
                return None
            cells: list[Cell] = [record[self.columns.index(name)] for name in names]
        else:
            if len(record) > self.limits.columns:
                problems.add(
                    self.name,
                    Message("This row has more than {columns} columns.", columns=self.limits.columns),
                    line=line,
                )
                return None
            cells = []
            for name in names:
                given = record.get(name)
                value: Cell | type[jsonrows.Nested] = jsonrows.cell(given)
                if isinstance(given, list) and name in lists:
                    value = jsonrows.items(given) or (jsonrows.Nested if given else ())
                if isinstance(value, type):
                    problems.add(
                        self.name,
                        Message("A list or an object stands where a text is expected."),
                        line=line,
                        column=name,
                    )
                    return None
                cells.append(value)
        return cells if self._sound(line, cells, names, problems) else None

    def _sound(self, line: int, cells: Sequence[Cell], names: Sequence[str], problems: Problems) -> bool:
        flat = [(name, cell) for name, cell in zip(names, cells, strict=True) if not isinstance(cell, tuple)]
        flat += [
            (name, item) for name, cell in zip(names, cells, strict=True) if isinstance(cell, tuple) for item in cell
        ]
        for name, value in flat:
            if value is None:
                continue
            if len(value) > self.limits.cell_chars:
                message = Message(
                    "This cell has {length:,} characters; {most:,} are the most.",
                    length=len(value),
                    most=self.limits.cell_chars,
                )
            elif NO_TEXT.search(value):
                message = Message("This cell has a character that is no text: NUL, or half a surrogate pair.")
            else:
                continue
            problems.add(self.name, message, line=line, column=name)
            return False
        return True


def open_table(
    name: str, data: bytes, options: Options, limits: Limits, problems: Problems, *, like: Table | None = None
) -> Table:
    """Find how ``data`` is written and open it. ``like`` is the training table: another split's file is read as it.

    Raises Unreadable when there is no table in it; ``problems`` says why.
    """
    text, encoding = decode(name, data, options.encoding, problems)
    if not text.strip():
        problems.add(name, Message("The file is empty."))
        raise Unreadable
    form = options.format if options.format != "auto" else _find_format(name, text)
    if form in {"json", "jsonl"}:
        return _open_json(name, text, Layout(form, encoding), limits, problems)
    return _open_delimited(name, text, form, encoding, options, limits, problems, like)


def _find_format(name: str, text: str) -> str:
    suffix = PurePath(name).suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        return "jsonl"
    if suffix == ".json" or (suffix not in {".csv", ".tsv"} and text.lstrip()[:1] in {"{", "["}):
        return "jsonl" if jsonrows.is_lines(text) else "json"
    return "tsv" if suffix == ".tsv" else "csv"


def _open_json(name: str, text: str, layout: Layout, limits: Limits, problems: Problems) -> Table:
    read = jsonrows.line_records if layout.format == "jsonl" else jsonrows.document_records
    columns: dict[str, None] = {}
    for line, record in islice(read(text), SAMPLE):
        if isinstance(record, dict):
            columns |= dict.fromkeys(record)
        if len(columns) > limits.columns:
            problems.add(name, Message("The rows have more than {columns} columns.", columns=limits.columns), line=line)
            raise Unreadable
    if _by_column(jsonrows.first_value(text)):
        problems.add(
            name,
            Message('This is one object with a column each, as pandas writes it; write it with orient="records".'),
            line=1,
        )
        raise Unreadable
    if not columns:
        first = next(read(text), None)
        if first is not None and isinstance(first[1], jsonrows.Broken):
            problems.add(name, first[1].message, line=first[0])
        else:
            problems.add(name, Message("There are no rows in the file."))
        raise Unreadable
    return Table(name, layout, list(columns), limits, lambda: read(text))


def _by_column(record: Any) -> bool:
    """Whether a row is the whole table, a column each: ``{"text": {"0": ...}, "label": {"0": ...}}``."""
    if not isinstance(record, dict) or len(record) < 2:
        return False
    values = list(record.values())
    return all(isinstance(value, dict) and value and value.keys() == values[0].keys() for value in values)


def _open_delimited(
    name: str,
    text: str,
    form: str,
    encoding: str,
    options: Options,
    limits: Limits,
    problems: Problems,
    like: Table | None,
) -> Table:
    # Excel's own first line, which names the delimiter and is no row.
    named = SEPARATOR.match(text)
    if named:
        text = "\n" * count_lines(named[0]) + text[named.end() :]
    csv.field_size_limit(
        max(csv.field_size_limit(), limits.cell_chars + 1)
    )  # the module's own limit is for all readers
    preferred = like.layout.delimiter if like is not None else {"tsv": "\t"}.get(form, ",")
    delimiter: str | None = options.delimiter
    if delimiter == "auto" and named and named[2]:
        delimiter = named[2]
    elif delimiter == "auto":
        delimiter = "\t" if options.format == "tsv" else delimited.find_delimiter(text, preferred)
    if not delimiter:
        problems.add(
            name, Message("There is one column only; a text and a label are needed (separated by , ; | or a tab).")
        )
        raise Unreadable
    quotes = delimited.find_quotes(text, delimiter)

    def read() -> Iterator[tuple[int, list[str] | delimited.Malformed]]:
        return delimited.records(text, delimiter, quotes)

    rows = [record for _, record in islice(read(), delimited.SAMPLE) if isinstance(record, list)]
    if not rows:
        line, record = next(read(), (1, None))
        problems.add(
            name,
            record.message if isinstance(record, delimited.Malformed) else Message("There are no rows in the file."),
            line=line,
        )
        raise Unreadable
    header = _find_header(rows, options, like)
    width = len(rows[0]) if header else delimited.shape(text, delimiter, quotes, delimited.SAMPLE).width
    if width > limits.columns:
        problems.add(
            name,
            Message("The file has {width} columns; {columns} are the most.", width=width, columns=limits.columns),
            line=1,
        )
        raise Unreadable
    columns = [f"column_{number + 1}" for number in range(width)]
    repeated: set[str] = set()
    if header:
        columns = [cell.strip() or columns[number] for number, cell in enumerate(rows[0])]
        repeated = {column for column in columns if columns.count(column) > 1}
        columns = [_numbered(columns, number) for number in range(width)]
    if width < 2:
        problems.add(name, Message("There is one column only; a text and a label are needed."), line=1)
        raise Unreadable
    layout = Layout("tsv" if delimiter == "\t" else "csv", encoding, delimiter=delimiter, quotes=quotes, header=header)
    return Table(name, layout, columns, limits, lambda: islice(read(), 1 if header else 0, None), frozenset(repeated))


def _find_header(rows: list[list[str]], options: Options, like: Table | None) -> bool:
    if options.header != "auto":
        return options.header == "true"
    if like is not None and like.layout.header is not None:
        return like.layout.header
    named = {options.text_column, options.text_pair_column, options.label_column, options.references_column} - {""}
    if named and named <= {cell.strip() for cell in rows[0]}:
        return True
    return delimited.find_header(rows, KNOWN)


def _numbered(columns: list[str], index: int) -> str:
    """The name of a column, with a number where an earlier one has it too."""
    before = columns[:index].count(columns[index])
    return f"{columns[index]} ({before + 1})" if before else columns[index]


def _shown(value: Any) -> str | None:
    found = jsonrows.cell(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(found, type) else found
