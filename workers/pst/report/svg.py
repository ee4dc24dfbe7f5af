"""Small drawings as inline SVG, and heat strips as tiny PNG images: no script, no resource from elsewhere.

Colours are classes and variables of the page's style sheet, so that one drawing serves light and dark. Every drawing
carries a sentence that says what it shows, for people who don't see it.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 520
HEAT_COLOUR = (79, 104, 232)  # reads on white and on black; the share is its opacity

Format = Callable[[float], str]


@dataclass(frozen=True)
class Spot:
    """A value with its interval, drawn as a dot on a whisker. ``kind`` is a class: dense or sparse."""

    kind: str
    value: float
    low: float
    high: float


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _svg(width: float, height: float, words: str, parts: Sequence[str]) -> Markup:
    """``parts`` are safe: every text in them has gone through :func:`escape`."""
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(words)}" class="drawing">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 (see the docstring)


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'


def _path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}{"Z" if closed else ""}" class="{kind}"/>'


def spots(rows: Sequence[tuple[str, Sequence[Spot]]], show: Format, words: str) -> Markup:
    """One line for each label, a dot with whiskers for each of its values, on one axis."""
    left, right, pitch = 90.0, WIDTH - 16.0, 44.0
    low = min(spot.low for _, line in rows for spot in line)
    high = max(spot.high for _, line in rows for spot in line)
    margin = max((high - low) * 0.06, 1e-9)
    low, high = low - margin, high + margin

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    bottom = 10 + pitch * len(rows)
    parts = []
    for value in ticks(low, high):
        parts += [
            _line(at(value), 8, at(value), bottom, "grid"),
            _text(at(value), bottom + 16, show(value), "tick", "middle"),
        ]
    for number, (label, line) in enumerate(rows):
        middle = 10 + pitch * (number + 0.5)
        parts.append(_text(left - 12, middle + 4, label, "label", "end"))
        for place, spot in enumerate(line):
            y = middle + 10 * (place - (len(line) - 1) / 2)
            parts.append(_line(at(spot.low), y, at(spot.high), y, f"whisker {spot.kind}"))
            parts.append(f'<circle cx="{at(spot.value):.1f}" cy="{y:.1f}" r="4.5" class="dot {spot.kind}"/>')
    return _svg(WIDTH, bottom + 24, words, parts)


def bars(rows: Sequence[tuple[str, str, float, str]], words: str) -> Markup:
    """Horizontal bars: (label, class, share of the longest in 0..1, what it says)."""
    left, right, pitch = 150.0, WIDTH - 66.0, 32.0
    parts = []
    for number, (label, kind, share, says) in enumerate(rows):
        y, length = 4 + pitch * number, max(1.5, share * (right - left))
        parts.append(_text(left - 12, y + 15, label, "label", "end"))
        parts.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{length:.1f}" height="20" rx="3" class="bar {kind}"/>')
        parts.append(_text(left + length + 8, y + 15, says, "value"))
    return _svg(WIDTH, pitch * len(rows) + 6, words, parts)


def histogram(edges: Sequence[float], everything: Sequence[int], kept: Sequence[int], words: str) -> Markup:
    """Counts of all values as a pale area, of those that stay as a strong one before it."""
    width, height, left, bottom = 420.0, 190.0, 8.0, 160.0
    top = max(max(everything), 1)
    step = (width - 2 * left) / len(everything)

    def area(counts: Sequence[int], kind: str) -> str:
        points = [(left, bottom)]
        for place, count in enumerate(counts):
            y = bottom - count / top * (bottom - 10)
            points += [(left + place * step, y), (left + (place + 1) * step, y)]
        return _path([*points, (width - left, bottom)], kind, closed=True)

    low, high = edges
    parts = [area(everything, "area all"), area(kept, "area kept"), _line(left, bottom, width - left, bottom, "axis")]
    for value in ticks(low, high, 6):
        x = left + (value - low) / (high - low) * (width - 2 * left)
        # A label that stood over the drawing's end would be cut.
        x = min(max(x, left + 14), width - left - 14)
        parts.append(_text(x, bottom + 16, f"{value:.3g}", "tick", "middle"))
    return _svg(width, height - 10, words, parts)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], chance: float | None, words: str) -> Markup:
    """Values from 0 to 1 by depth, one line a series, named at its right end; ``chance`` is a dashed level."""
    width, height, left, right, bottom = WIDTH, 290.0, 40.0, WIDTH - 130.0, 250.0
    deepest = max(depth for points in series.values() for depth, _ in points)
    shallowest = min(depth for points in series.values() for depth, _ in points)
    high = max(max(value for points in series.values() for _, value in points), chance or 0) * 1.08 or 1.0

    def x(depth: float) -> float:
        return left + (depth - shallowest) / max(deepest - shallowest, 1) * (right - left)

    def y(value: float) -> float:
        return bottom - value / high * (bottom - 12)

    parts = []
    for value in ticks(0, high):
        parts += [
            _line(left, y(value), right, y(value), "grid"),
            _text(left - 8, y(value) + 4, f"{value:.2g}", "tick", "end"),
        ]
    for depth in range(int(shallowest), int(deepest) + 1, max(1, round((deepest - shallowest) / 12))):
        parts.append(_text(x(depth), bottom + 18, str(depth), "tick", "middle"))
    parts.append(_text((left + right) / 2, bottom + 34, "depth", "tick", "middle"))
    if chance is not None:
        parts += [
            _line(left, y(chance), right, y(chance), "chance"),
            _text(left + 4, y(chance) - 5, "by chance", "tick"),
        ]
    ends = _spread({name: y(points[-1][1]) for name, points in series.items()}, 15.0, bottom)
    for number, (name, points) in enumerate(series.items()):
        kind = f"series s{number % 8}"
        parts.append(_path([(x(depth), y(value)) for depth, value in points], kind))
        parts += [f'<circle cx="{x(d):.1f}" cy="{y(v):.1f}" r="2.8" class="mark s{number % 8}"/>' for d, v in points]
        parts.append(_line(right + 4, y(points[-1][1]), right + 16, ends[name], f"lead s{number % 8}"))
        parts.append(_text(right + 20, ends[name] + 4, name, f"name s{number % 8}"))
    return _svg(width, height, words, parts)


def _spread(places: Mapping[str, float], gap: float, bottom: float) -> dict[str, float]:
    """Heights of names, at least ``gap`` apart, as near to ``places`` as that allows from the top down."""
    result: dict[str, float] = {}
    before = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        before = max(place, before + gap)
        result[name] = before
    over = before - bottom
    for name in reversed(list(result)):  # pushed over the lower edge: move up again
        if over <= 0:
            break
        result[name] -= over
    return result


def heat(image: Sequence[Sequence[float]], words: str, *, kind: str = "heat") -> Markup:
    """Shares (0 to 1) as a picture of one cell each, the first row on top, stretched by the style sheet."""
    red, green, blue = HEAT_COLOUR
    raw = b"".join(
        b"\0" + b"".join(bytes((red, green, blue, round(255 * min(max(v, 0.0), 1.0)))) for v in row) for row in image
    )
    height, width = len(image), len(image[0])

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return Markup('<img class="{}" alt="{}" src="{}">').format(kind, words, source)
