"""The page of a report: whole, self-contained, escaped."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pst import report
from pst.__main__ import main
from pst.report import svg
from pst.report.page import amount, render
from tests.pst.runs import run_unchecked
from tests.pst.texts import write_generator, write_text_job

VOID = {"meta", "img", "line", "circle", "rect", "path", "br"}


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_unchecked(tmp_path_factory.mktemp("page") / "job", base, epochs=1, dense_epochs=1)[0]


class _Reader(HTMLParser):
    """Checks nesting, and collects tags with their attributes and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_needs_nothing_else(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    assert main(["report", str(folder), "--html", str(target), "--against", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    page = target.read_text("utf-8")
    reader = _read(page)
    kinds = {tag for tag, _ in reader.tags}
    assert not kinds & {"script", "link", "iframe", "object"}
    assert "@import" not in page and "url(" not in page
    for tag, attributes in reader.tags:
        assert not {name for name in attributes if name.startswith("on")}
        assert (attributes.get("src") or "data:").startswith("data:")
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img" and attributes["aria-label"]
    assert "prefers-color-scheme: dark" in page
    for words in ("Quality", "Cost", "Inference time", "Loyalty", "Robustness", "Carbon footprint", "Where it errs"):
        assert words in reader.words
    content = report.read(folder)
    assert f"{content['metrics']['test']['accuracy']:.2%}".replace("%", " %") in reader.words
    assert "With pst in" in reader.words


def test_a_generating_model_has_all_measures_and_a_page(tmp_path: Path) -> None:
    base = write_generator(tmp_path / "base", "t5")
    folder, content = run_unchecked(
        tmp_path / "job", base, write=write_text_job, epochs=1, dense_epochs=1, target={"sparsity": 0.6}
    )
    jsonschema.validate(report.read(folder), json.loads(report.SCHEMA.read_text()))
    measures = content["measures"]
    assert measures["flops"]["shape"]["target_tokens"] >= 1
    assert measures["loyalty"]["closeness"] is None and 0 <= measures["loyalty"]["text_overlap"] <= 1
    stacks = {matrix["stack"] for matrix in content["pictures"]["matrices"]}
    assert stacks == {"encoder", "decoder"}
    reader = _read(render(content))
    for words in ("What it writes", "Encoder", "Decoder", "words in common"):
        assert words in reader.words
    assert report.card(content)


def test_words_from_outside_are_escaped(folder: Path) -> None:
    content = report.read(folder)
    bad = '<script>alert("x")</script>'
    content["labels"][0] = content["confusion"]["labels"][0] = bad
    content["device"]["name"] = content["pictures"]["matrices"][0]["kind"] = bad
    page = render(content)
    assert "<script>" not in page and "&lt;script&gt;" in page
    _read(page)


def test_a_report_without_measures_has_a_page(folder: Path) -> None:
    content = report.read(folder)
    for name in ("measures", "pictures"):
        del content[name]
    content["metrics"]["test"] = content["dense"]["test"] = content["confusion"] = None
    assert "Quality" in _read(render(content)).words


def test_a_carbon_footprint_that_is_not_known(folder: Path) -> None:
    content = report.read(folder)
    content["measures"]["carbon"] = {
        "kwh": None, "grams_co2e": None, "seconds": 1.0, "measured_seconds": 0.0, "reason": "no meter"
    }  # fmt: skip
    assert "Not measured: no meter." in _read(render(content)).words


def test_the_page_can_not_be_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--html", str(tmp_path / "none" / "page.html")]) == 1
    assert "can't be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 12, [0, 5, 10]), (0.88, 0.96, None)]
)
def test_ticks_are_round_and_inside(low: float, high: float, wanted: list[float] | None) -> None:
    found = svg.ticks(low, high)
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found) and 2 <= len(found) <= 7
    if wanted is not None:
        assert found == pytest.approx(wanted)


def test_a_heat_strip_is_a_png_of_its_values() -> None:
    image = str(svg.heat([[0.0, 0.5, 1.0], [1.0, 2.0, -1.0]], 'a "strip"'))
    assert 'alt="a &#34;strip&#34;"' in image
    png = base64.b64decode(re.search(r"base64,([^\"]+)", image)[1])  # type: ignore[index]
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and struct.unpack(">2I", png[16:24]) == (3, 2)
    at = png.index(b"IDAT")
    raw = zlib.decompress(png[at + 4 : at + 4 + struct.unpack(">I", png[at - 4 : at])[0]])
    assert [raw[1 + 4 * x + 3] for x in range(3)] == [0, 128, 255]
    assert [raw[13 + 1 + 4 * x + 3] for x in range(3)] == [255, 255, 0]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0, "B", "0 B"),
        (999, "", "999"),
        (2_869_000_000, "", "2.87 G"),
        (0.58, "gCO₂e", "580 mgCO₂e"),
        (1.5e-12, "Wh", "0.0015 nWh"),
    ],
)
def test_amounts(value: float, unit: str, words: str) -> None:
    assert amount(value, unit) == words


def test_lines_name_every_series_apart() -> None:
    series: dict[str, list[tuple[float, float]]] = {f"kind {n}": [(0, 0.5), (1, 0.5)] for n in range(6)}
    drawing = str(svg.lines(series, 0.1, "words"))
    heights = [float(y) for y in re.findall(r'y="([\d.]+)" class="name', drawing)]
    assert len(heights) == 6 and all(b - a >= 14.9 for a, b in pairwise(heights))


def test_one_layer_and_one_bin_can_be_drawn() -> None:
    points: Any = {"only": [(0, 0.0)]}
    _read(str(svg.lines(points, None, "one")))
    _read(str(svg.histogram([-0.5, 0.5], [0], [0], "none")))
    _read(str(svg.spots([("x", [svg.Spot("dense", 0.5, 0.5, 0.5)])], str, "flat")))
