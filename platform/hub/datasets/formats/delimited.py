"""Text with one record per line (CSV, TSV): its records, delimiter, quoting and header."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pst.messages import Message

DELIMITERS = (",", "\t", ";", "|")
SAMPLE = 300
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True)
class Malformed:
    """A record that quoting makes unreadable."""

    message: str


def lines(text: str) -> Iterator[str]:
    """Physical lines with their ends. Not str.splitlines: that also splits at form feeds and U+2028."""
    return (match.group() for match in LINE.finditer(text))


def records(text: str, delimiter: str, quotes: bool) -> Iterator[tuple[int, list[str] | Malformed]]:
    """(physical line where it starts, fields) of every record; blank lines are passed over."""
    reader = csv.reader(
        lines(text),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        skipinitialspace=delimiter != " ",
        strict=True,
    )
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The csv module says which by its message alone.
            if "expected after" in str(error):
                yield (
                    start,
                    Malformed(Message("Something follows a closing quote; double the quotes inside a quoted cell.")),
                )
                continue
            if "field limit" in str(error):
                yield (
                    start,
                    Malformed(
                        Message("A cell is far too long: a quote is opened and not closed, or it is not a table.")
                    ),
                )
            else:
                yield start, Malformed(Message("The quote that is opened in this record is never closed."))
            return  # where the next record starts cannot be known
        if len(fields) > 1 or (fields and fields[0].strip()):
            yield start, fields


@dataclass(frozen=True)
class Shape:
    """How even the records are under one way to read them."""

    width: int
    records: int
    odd: int
    multiline: bool = False

    @property
    def even_share(self) -> float:
        return 1 - self.odd / self.records if self.records else 0.0


def shape(text: str, delimiter: str, quotes: bool, limit: int | None = None) -> Shape:
    """The most frequent number of fields, and how many records have another one or cannot be read."""
    widths: Counter[int] = Counter()
    count, multiline, last = 0, False, 0
    for line, fields in islice(records(text, delimiter, quotes), limit):
        count += 1
        widths[len(fields) if isinstance(fields, list) else 0] += 1
        multiline = multiline or (isinstance(fields, list) and any("\n" in cell or "\r" in cell for cell in fields))
        last = line
    widths_read = Counter({width: number for width, number in widths.items() if width})
    if not last or not widths_read:
        return Shape(0, count, count)
    width, number = widths_read.most_common(1)[0]
    return Shape(width, count, count - number, multiline)


def find_delimiter(text: str, preferred: str | None) -> str | None:
    """The delimiter under which the first records are most even; None where no record has two fields."""
    order = [preferred] if preferred else []
    order += [delimiter for delimiter in DELIMITERS if delimiter != preferred]
    best, best_share = None, 0.0
    for delimiter in order:
        for quotes in (True, False):
            seen = shape(text, delimiter, quotes, SAMPLE)
            if seen.width >= 2 and seen.even_share > best_share:
                best, best_share = delimiter, seen.even_share
    return best


def find_quotes(text: str, delimiter: str) -> bool:
    """Whether double quotes quote cells, as always in CSV, or are characters like others, as in most TSV corpora."""
    if delimiter in {",", ";"} or '"' not in text:
        return True
    quoted = shape(text, delimiter, True)
    if not quoted.odd and not quoted.multiline:
        return True
    plain = shape(text, delimiter, False)
    if plain.width < 2:
        return True
    if quoted.odd:
        return plain.odd >= quoted.odd
    # Quoting swallowed line ends, and yet without it every line is a whole record: then those were not quotes.
    return plain.odd > 0


def find_header(rows: Sequence[Sequence[str]], known: frozenset[str]) -> bool:
    """Whether the first of ``rows`` names columns: a known name, or unlike what stands below it."""
    if not rows:
        return False
    first, below = [cell.strip() for cell in rows[0]], rows[1:]
    if any(name.casefold() in known for name in first):
        names = [plain(cell) for cell in first]
        below = [
            row for row in below if [plain(cell) for cell in row] != names
        ]  # where files were put one behind the other
    if any(len(cell) > 100 for cell in first):
        return False
    votes = 0
    for index, name in enumerate(first):
        values = [row[index].strip() for row in below if index < len(row)]
        if name in values:
            votes -= 1
        elif name.casefold() in known:
            return True
        elif values and (
            (all(_is_number(value) for value in values) and not _is_number(name))
            or (len(values) >= 4 and len(set(values)) <= len(values) / 2)
        ):
            votes += 1
    return votes > 0 and len(set(first)) == len(first)


def plain(cell: str) -> str:
    """A column's name without white space and byte order marks around it, in lower case."""
    return cell.strip().strip("\ufeff").strip().casefold()


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?\d+(?:[.,]\d+)?", text))
