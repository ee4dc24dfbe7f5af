"""Which encoding bytes are in that are neither UTF-8 nor marked: a guess, and said to be one."""

from __future__ import annotations

import re

from charset_normalizer import from_bytes

HIGH = re.compile(rb"[\x80-\xff]")
PAIRS = 20_000
"""Bytes beyond ASCII in twos that are looked at."""
SAMPLE = 1 << 14
IN_WORDS = re.compile(
    rb"(?<=[A-Za-z])[\x8d\x8f\x9a\x9d\x9e\x9f\xb3\xb9\xbf]|[\x8d\x8f\x9a\x9d\x9e\x9f\xb3\xb9\xbf](?=[a-z])"
)
"""Letters of windows-1250 that are signs, or rare, in Western European text."""


def guess(data: bytes) -> str:
    """One of the names in :data:`hub.datasets.formats.decoding.ENCODINGS`, the most plausible."""
    pairs = _pairs(data)
    if _share(pairs, 0x82, 0x83) > 0.15 and _decodes(data, "cp932"):  # kana, of which Japanese has much
        return "shift-jis"
    double = [pair for pair in pairs if pair[0] >= 0xA1 and pair[1] >= 0xA1]
    frequent = sum(1 for lead, _ in double if 0xA1 <= lead <= 0xA3 or 0xB0 <= lead <= 0xD7)
    if pairs and frequent > 0.5 * len(pairs):
        # Hangul fills the first rows of what are hanzi in GB 2312, whose frequent ones go further.
        korean = len(double) >= 4 and _share(double, 0xB0, 0xC8) > 0.97 and _decodes(data, "cp949")
        return "euc-kr" if korean else "gb18030"
    if _share(pairs, 0xA4, 0xC6) > 0.8 and any(0x40 <= tail <= 0x7E for _, tail in pairs) and _decodes(data, "cp950"):
        return "big5"
    found = from_bytes(_around(data), cp_isolation=["cp1251", "cp1250", "cp1252", "mac_roman"]).best()
    name = found.encoding if found is not None else ""
    if name == "cp1251" and _share(pairs, 0xC0, 0xFF) > 0.5:
        return "windows-1251"
    if name == "cp1250" and IN_WORDS.search(data):
        return "windows-1250"
    # The Mac's small letters with accents lie where Windows has quotes and dashes.
    return "mac-roman" if name == "mac_roman" and _share(pairs, 0x80, 0x9F) > 0.4 else "latin-1"


def _pairs(data: bytes) -> list[tuple[int, int]]:
    """What would be characters of two bytes: a byte beyond ASCII and its follower."""
    found: list[tuple[int, int]] = []
    index, end = 0, len(data) - 1
    while len(found) < PAIRS and (match := HIGH.search(data, index)):
        index = match.start()
        if index >= end:
            break
        found.append((data[index], data[index + 1]))
        index += 1 if data[index + 1] < 0x40 else 2
    return found


def _share(pairs: list[tuple[int, int]], first: int, last: int) -> float:
    return sum(1 for lead, _ in pairs if first <= lead <= last) / max(1, len(pairs))


def _decodes(data: bytes, codec: str) -> bool:
    """But for a character that the sample cuts in two."""
    try:
        data[: len(data) - 2].decode(codec)
    except UnicodeDecodeError as error:
        return error.start >= len(data) - 4
    return True


def _around(data: bytes) -> bytes:
    """So much of the data from the first byte beyond ASCII on that a guess is quick."""
    match = HIGH.search(data)
    start = max(0, match.start() - SAMPLE // 4) if match else 0
    return data[start : start + SAMPLE]
