"""The report as one HTML page: no script, no resource from elsewhere, light and dark as the reader's system asks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from pst.report import SHARES, metrics_of, span, spoken, svg
from pst.report.svg import Spot

MAX_LABELS = 24  # of a confusion matrix that is drawn
MAX_SERIES = 16  # lines in one drawing
GROUPS = {"attention": "Attention", "ffn": "Feed-forward"}
SHORT = {"attention.self.": "", "attention.output.dense": "attention out", "intermediate.dense": "ffn in"}

Report = Mapping[str, Any]
Cell = dict[str, str]


def render(report: Report, comparisons: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page of ``report``; ``comparisons`` are what :func:`pst.report.agreement.compare` gave for other runs."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pst.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = report.get("pictures") or {"distributions": {}, "matrices": []}
    return environment.get_template("page.html.j2").render(
        title=_headline(report),
        headline=_headline(report),
        facts=_facts(report),
        tiles=_tiles(report),
        sections=_sections(report),
        confusion=_confusion(report),
        samples=report.get("samples") or [],
        layers=_layers(report),
        similarity=_similarity(pictures["matrices"], comparisons),
        distributions=[_distribution(name, group) for name, group in pictures["distributions"].items()],
        strips=_strips(pictures["matrices"]),
        settings=[(name.replace("_", " "), value) for name, value in report["settings"].items()],
        versions=", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    )


def _headline(report: Report) -> str:
    share = report["sparsity"]["reached"]
    words = {"pst": "PST", "smp": "SMP", "lora": "LoRA", "l0": "L0"}
    method = words.get(report["method"], str(report["method"]).capitalize())
    return f"{method}, {_percent(share, 1)} sparse" if share else f"{method}, dense"


def _facts(report: Report) -> list[tuple[str, str]]:
    rows, device = report["rows"], report["device"]
    facts = [
        ("task", str(report["task"])),
        ("rows", " / ".join(f"{count:,} {name}" for name, count in rows.items())),
        ("structure", str(report["settings"].get("structure", "unstructured"))),
        ("best step", f"{report['best_step']:,} of {report['steps']:,}"),
        ("seed", str(report["seed"])),
        ("device", f"{device['name']}, {_threads(device['threads'])}" if device["type"] == "cpu" else device["name"]),
    ]
    if report["labels"]:
        facts.insert(1, ("labels", f"{len(report['labels'])}"))
    return facts


def _threads(count: int) -> str:
    return f"{count} thread" + "s" * (count != 1)


def _percent(share: float, places: int = 1) -> str:
    return f"{share:.{places}%}".replace("%", " %")


def _points(name: str, difference: float) -> str:
    """A difference of metrics: points where people read percent."""
    size = abs(difference)
    words = f"{size * 100:.1f} points" if name in SHARES else f"{size:.3g}"
    sign = "" if not float(words.split()[0]) else "−" if difference < 0 else "+"
    return sign + words


def _points_span(name: str, interval: Sequence[float]) -> str:
    return " to ".join(_points(name, value).removesuffix(" points") for value in interval)


def amount(count: float, unit: str = "") -> str:
    """A number with three digits and a decimal prefix."""
    if not count:
        return f"0 {unit}".strip()
    power = min(max(math.floor(math.log10(abs(count)) / 3), -3), 5)
    prefix = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T", 5: "P"}[power]
    return f"{count / 1000.0**power:.3g} {prefix}{unit}".strip()


def _tiles(report: Report) -> list[Cell]:
    """The eight measures, each as one figure."""
    measures = report.get("measures")
    if not measures:
        return []
    quality = measures["quality"]
    split = "test" if "test" in quality["splits"] else "validation"
    shown, name = quality["splits"][split], quality["metric"]
    flops, size, carbon = measures["flops"], report["bytes"], measures["carbon"]
    loyalty, robustness = measures["loyalty"], measures["robustness"]
    drop, other = robustness["drop"]["sparse"], robustness["drop"]["dense"]
    emitted = {"value": "not measured", "note": str(carbon.get("reason", ""))}
    if carbon["kwh"] is not None:
        emitted = {
            "value": amount(carbon["grams_co2e"], "gCO₂e"),
            "note": f"{amount(carbon['kwh'] * 1000, 'Wh')} for the run",
        }
    counted = timed = {"value": "not measured", "note": "two copies of the model are too large for the machine"}
    if flops is not None:
        counted = {
            "value": amount(flops["sparse"]["total"]),
            "note": f"{_percent(flops['ratio'])} of dense; {flops['shape']['tokens']} tokens, zeros skipped",
        }
    if measures["time"] is not None:
        shape = measures["time"]["shapes"][0]
        timed = {
            "value": f"{shape['sparse']['p50_ms']:.3g} ms",
            "note": f"{shape['speedup']:.2f} times as fast as dense "
            f"({shape['interval'][0]:.2f} to {shape['interval'][1]:.2f})",
        }
    agreement = _percent(loyalty["agreement"])
    low, high = loyalty["agreement_interval"]
    same = "correlation" if report["task"] == "regression" else "same answers"
    return [
        {
            "name": f"Quality: {name.replace('_', ' ')}, {split}",
            "value": _spoken(name, shown["sparse"]),
            "note": f"{_points(name, shown['difference'])} from dense "
            f"({_points_span(name, shown['difference_interval'])})",
        },
        {
            "name": "Model size on disk",
            "value": amount(size["sparse"], "B"),
            "note": f"{_percent(size['sparse'] / size['dense'], 0)} of dense; "
            f"{_percent(report['sparsity']['reached'])} of pruned matrices is zero",
        },
        {"name": "FLOPs of a forward pass", **counted},
        {"name": "Inference time, p50", **timed},
        {
            "name": "Trainable parameters",
            "value": amount(measures["trainable"]["sparse"]),
            "note": f"{_percent(measures['trainable']['share'])} of the model's",
        },
        {"name": "Loyalty to dense", "value": agreement, "note": f"{same} ({_percent(low)} to {_percent(high)})"},
        {
            "name": "Robustness: mean drop",
            "value": _points(name, -drop),
            "note": f"dense {_points(name, -other)}; perturbed texts",
        },
        {"name": "Carbon footprint", **emitted},
    ]


def _spoken(name: str, value: float) -> str:
    return spoken(name, value).replace("%", " %")


def _span(name: str, interval: list[float]) -> str:
    return span(name, interval).replace("%", " %")


def _cell(text: str, note: str = "") -> Cell:
    return {"text": text, "note": note}


def _section(title: str, head: Sequence[str], rows: Sequence[Any], caption: str, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"lead": "", "drawing": None, "legend": False, "notes": []}
    return empty | {"title": title, "head": head, "rows": rows, "caption": caption} | more


def _sections(report: Report) -> list[dict[str, Any]]:
    sections = [_quality(report)]
    measures = report.get("measures")
    if measures:
        sections += [
            _cost(report, measures),
            *([_time(measures["time"])] if measures["time"] else []),
            _loyalty(measures["loyalty"], report["task"]),
            _robustness(measures["robustness"]),
            _carbon(measures["carbon"], report["seconds"]),
        ]
    return sections


def _quality(report: Report) -> dict[str, Any]:
    rows, drawn = [], []
    splits = (report.get("measures") or {}).get("quality", {}).get("splits", {})
    primary = report.get("primary", "accuracy")
    for split in ("validation", "test"):
        ours, dense = report["metrics"][split], report["dense"][split]
        if ours is None:
            continue
        for name, value in metrics_of(ours):
            gain = _points(name, value - dense[name])
            note = ""
            if split in splits and name == primary:
                note = _points_span(name, splits[split]["difference_interval"])
            label = f"{split} {name.replace('_', ' ')}"
            rows.append((label, _measured(name, dense), _measured(name, ours), _cell(gain, note)))
        drawn.append(
            (
                split,
                [_spot("dense", dense[primary], dense["interval"]), _spot("sparse", ours[primary], ours["interval"])],
            )
        )
    words = f"{primary.replace('_', ' ')} of both models with intervals"
    return _section(
        "Quality",
        ["metric", "dense", "this model", "difference"],
        rows,
        "With 95 % intervals; the difference's from both models on the same resampled rows.",
        drawing=svg.spots(drawn, lambda value: spoken(primary, value).replace(".00%", " %").replace("%", " %"), words),
        legend=True,
    )


def _measured(name: str, values: Mapping[str, Any]) -> Cell:
    interval = values.get("intervals", {}).get(name)
    return _cell(_spoken(name, values[name]), "" if interval is None else _span(name, interval))


def _spot(kind: str, value: float, interval: Sequence[float]) -> Spot:
    return Spot(kind, value, min(interval[0], value), max(interval[1], value))


def _share(part: float, whole: float) -> str:
    return _percent(part / whole) if whole else "–"


def _cost(report: Report, measures: Report) -> dict[str, Any]:
    flops, size, trainable = measures["flops"], measures["size"], measures["trainable"]
    computed = {"linear": "linear maps", "attention": "attention", "total": "total"}
    pairs = [
        (f"FLOPs, {words}", flops["dense"][kind], flops["sparse"][kind], "")
        for kind, words in (computed if flops else {}).items()
    ]
    pairs += [
        ("parameters not zero", size["nonzeros"]["dense"], size["nonzeros"]["sparse"], ""),
        ("parameters", size["parameters"]["dense"], size["parameters"]["sparse"], ""),
        ("trained parameters", trainable["dense"], trainable["sparse"], ""),
        ("bytes, compact file", report["bytes"]["dense"], report["bytes"]["sparse"], "B"),
        ("bytes in memory when served", size["memory"]["dense"], size["memory"]["sparse"], "B"),
    ]
    rows = [
        (
            name,
            _cell(amount(dense, unit)),
            _cell(amount(sparse, unit)),
            _cell(_percent(sparse / dense) if dense else "–"),
        )
        for name, dense, sparse, unit in pairs
    ]
    shown = [pair for pair in pairs if pair[0] not in ("FLOPs, linear maps", "FLOPs, attention", "parameters")]
    bars = [
        (name, "sparse", min(1.0, sparse / dense) if dense else 0.0, _share(sparse, dense))
        for name, dense, sparse, _ in shown
    ]
    files = ", ".join(f"{name} {amount(count, 'B')}" for name, count in size["files"].items())
    caption, notes = "Dense: the dense model.", []
    if flops:
        shape = flops["shape"]
        caption = (
            f"One forward pass of {shape['rows']} row of {shape['tokens']} tokens; dense: the dense fine-tuned model."
        )
        notes = [f"FLOPs: {flops['formula']}. With the zeros computed too: {amount(flops['sparse_with_zeros'])}."]
    return _section(
        "Cost",
        ["", "dense", "this model", "share"],
        rows,
        caption,
        drawing=svg.bars(bars, "share of the dense model's cost: " + ", ".join(f"{b[0]} {b[3]}" for b in bars)),
        notes=[*notes, f"Files of the export: {files}. Memory: {size['memory_note']}."],
    )


def _time(times: Report) -> dict[str, Any]:
    rows = []
    for shape in times["shapes"]:
        dense, sparse = shape["dense"], shape["sparse"]
        rows.append(
            (
                f"{shape['rows']} × {shape['tokens']} tokens",
                *(_cell(f"{who[at]:.3g} ms") for at in ("p50_ms", "p95_ms") for who in (dense, sparse)),
                _cell(f"{shape['speedup']:.2f}", f"{shape['interval'][0]:.2f} to {shape['interval'][1]:.2f}"),
            )
        )
    head = ["rows × tokens", "dense p50", "this p50", "dense p95", "this p95", "speed-up"]
    caption = f"Engine: {times['engine']}, {_threads(times['threads'])}; both models in turns in one process."
    return _section("Inference time", head, rows, caption, notes=[times["note"]])


def _loyalty(loyalty: Report, task: str) -> dict[str, Any]:
    words = "correlation of answers" if task == "regression" else "same answer"
    rows = [(words, _shared(loyalty, "agreement"))]
    if loyalty["closeness"] is not None:
        rows.append(("closeness of probabilities, 1 − √JS", _shared(loyalty, "closeness")))
    if "text_overlap" in loyalty:
        rows.append(("words in common", _shared(loyalty, "text_overlap")))
    return _section(
        "Loyalty",
        ["", "to the dense model"],
        rows,
        f"{loyalty['split']} split, with 95 % intervals.",
        lead="How far this model answers as the dense fine-tuned one does, right or wrong.",
    )


def _shared(loyalty: Report, name: str) -> Cell:
    low, high = loyalty[f"{name}_interval"]
    return _cell(_percent(loyalty[name], 2), f"{_percent(low, 2)} to {_percent(high, 2)}")


def _robustness(robustness: Report) -> dict[str, Any]:
    name = robustness["metric"]
    both_models = ("dense", "sparse")
    clean = [_cell(_spoken(name, robustness["clean"][who])) for who in both_models]
    rows: list[Any] = [("unperturbed", *clean, _cell(""), _cell(""))]
    drawn = []
    for kind, both in robustness["kinds"].items():
        label = kind.replace("_", " ")
        values = [_cell(_spoken(name, both[who]["value"])) for who in both_models]
        drops = [
            _cell(
                _points(name, -both[who]["drop"]),
                _points_span(name, [-v for v in reversed(both[who]["drop_interval"])]),
            )
            for who in ("dense", "sparse")
        ]
        rows.append((label, *values, *drops))
        drawn.append(
            (label, [_spot(who, both[who]["drop"], both[who]["drop_interval"]) for who in ("dense", "sparse")])
        )
    percent = name in SHARES
    return _section(
        "Robustness",
        ["texts with", "dense", "this model", "dense change", "this change"],
        rows,
        f"{name.replace('_', ' ')} on {robustness['rows']:,} {robustness['split']} rows, perturbed by seed.",
        lead="What is lost when users write carelessly: misspelt, with words missing, in odd capitals.",
        drawing=svg.spots(
            drawn,
            lambda value: f"{value * 100:.3g}" if percent else f"{value:.2g}",
            f"drop of {name.replace('_', ' ')} under each perturbation, both models, with intervals",
        ),
        legend=True,
        notes=[f"Drawn: drop of {name.replace('_', ' ')}{', in points' if percent else ''}."],
    )


def _negative(interval: Sequence[float]) -> list[float]:
    return [-value for value in reversed(interval)]


def _carbon(carbon: Report, seconds: Mapping[str, float]) -> dict[str, Any]:
    spent = ", ".join(f"{name} {value:,.1f} s" for name, value in seconds.items())
    notes = [f"Time by phase: {spent}."]
    if carbon["kwh"] is None:
        return _section("Carbon footprint", [], [], "", lead=f"Not measured: {carbon['reason']}.", notes=notes)
    assumed = carbon["assumptions"]
    grid = assumed["grid"] or "the world's average (PST_COUNTRY names the machine's country)"
    rows = [
        ("energy", _cell(amount(carbon["kwh"] * 1000, "Wh"))),
        *((f"of it, {part}", _cell(amount(kwh * 1000, "Wh"))) for part, kwh in carbon["by_part_kwh"].items()),
        ("emissions", _cell(amount(carbon["grams_co2e"], "gCO₂e"))),
    ]
    measured = f"Measured for {carbon['measured_seconds']:,.0f} s of {carbon['seconds']:,.0f} s"
    notes.insert(
        0, f"{assumed['method']}. Grid: {grid}, {assumed['grams_co2e_per_kwh']:.0f} gCO₂e/kWh. PUE {assumed['pue']:g}."
    )
    return _section(
        "Carbon footprint", ["", "whole run"], rows, f"{measured}; the rest at the same power.", notes=notes
    )


def _confusion(report: Report) -> dict[str, Any] | None:
    confusion = report.get("confusion")
    if not confusion or len(confusion["labels"]) > MAX_LABELS:
        return None
    rows = []
    for label, counts in zip(confusion["labels"], confusion["matrix"], strict=True):
        total = max(sum(counts), 1)
        rows.append((label, [{"share": 0.75 * n / total, "text": f"{n:,}"} if n else None for n in counts]))
    caption = "Counts of rows; colour is the share of the label's rows."
    return {"caption": caption, "corner": "", "columns": confusion["labels"], "rows": rows, "split": confusion["split"]}


def _short(kind: str) -> str:
    for long, short in SHORT.items():
        if kind.startswith(long):
            return short + kind.removeprefix(long)
    return "ffn out" if kind == "output.dense" else kind


def _layers(report: Report) -> list[dict[str, Any]]:
    """One table of depth by kind for each stack."""
    from_pictures = (report.get("pictures") or {}).get("matrices", [])
    places = {entry["name"]: entry for entry in from_pictures}
    stacks: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for matrix in report["sparsity"]["matrices"]:
        if place := places.get(matrix["name"]):
            stacks[place["stack"]][place["depth"]][_short(place["kind"])] = 1 - matrix["sparsity"]
    grids = []
    for stack, depths in stacks.items():
        kinds = list(dict.fromkeys(kind for row in depths.values() for kind in row))
        highest = max(value for row in depths.values() for value in row.values()) or 1.0
        rows = [
            (
                str(depth),
                [
                    {"share": 0.7 * row[kind] / highest, "text": _percent(row[kind])} if kind in row else None
                    for kind in kinds
                ],
            )
            for depth, row in sorted(depths.items())
        ]
        grids.append({"caption": stack.capitalize(), "corner": "depth", "columns": kinds, "rows": rows})
    return grids


def _similarity(
    matrices: Sequence[Mapping[str, Any]], comparisons: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    pictures = []
    own = [(m, m["magnitude_overlap"]) for m in matrices if m.get("magnitude_overlap")]
    if own:
        pictures.append(_similarity_picture("with magnitude's mask of the pretrained weights", own))
    for other in comparisons:
        found = [(entry, entry) for entry in other["matrices"]]
        pictures.append(_similarity_picture(f"with {other['method']} in {other['folder']}", found))
    return pictures


def _similarity_picture(title: str, entries: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    several = len({place["stack"] for place, _ in entries}) > 1
    for place, value in entries:
        name = " ".join([place["stack"]] * several + [_short(place["kind"])])
        series[name].append((place["depth"], value["jaccard"]))
    shown = {name: sorted(points) for name, points in list(series.items())[:MAX_SERIES]}
    mean = math.fsum(value["jaccard"] for _, value in entries) / len(entries)
    chance = math.fsum(value["chance"] for _, value in entries) / len(entries)
    words = f"Jaccard index by depth {title}: mean {mean:.2f}, by chance {chance:.2f}"
    return {"title": f"{title[0].upper()}{title[1:]}: mean {mean:.2f}", "drawing": svg.lines(shown, chance, words)}


def _distribution(name: str, group: Mapping[str, Any]) -> dict[str, Any]:
    drawn: dict[str, Any] = {"name": GROUPS.get(name, name)}
    for part in ("weight", "score"):
        counts = group[part]
        words = f"distribution of the {part}s from {counts['edges'][0]:.3g} to {counts['edges'][1]:.3g}"
        drawn[part] = svg.histogram(counts["edges"], counts["all"], counts["kept"], words)
    against = group["weight_score"]
    largest = max((count for row in against["all"] for count in row), default=1) or 1
    drawn["against"] = [
        ("all", _scatter(against["all"], largest, "all weights")),
        ("stay", _scatter(against["kept"], largest, "weights that stay")),
    ]
    return drawn


def _scatter(counts: Sequence[Sequence[int]], largest: int, words: str) -> Markup:
    """Score upwards, size of the weight to the right; colour is the logarithm of the count."""
    scale = math.log1p(largest)
    image = [[math.log1p(row[y]) / scale for row in counts] for y in reversed(range(len(counts[0])))]
    return svg.heat(image, f"score against size of the weight, {words}")


def _strips(matrices: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    blocks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for matrix in matrices:
        name = " ".join(filter(None, [matrix["stack"], f"depth {matrix['depth']}"]))
        rows, columns = matrix["density"]["rows"], matrix["density"]["columns"]
        highest = max(*rows, *columns) or 1.0
        blocks[name[0].upper() + name[1:]].append(
            {
                "name": _short(matrix["kind"]),
                "rows": _strip(rows, highest, "rows"),
                "columns": _strip(columns, highest, "columns"),
                "empty": f"{matrix['empty_rows']:,}, {matrix['empty_columns']:,}",
            }
        )
    return [{"name": name, "strips": strips} for name, strips in blocks.items()]


def _strip(values: Sequence[float], highest: float, words: str) -> Markup:
    low, high = _percent(min(values)), _percent(max(values))
    return svg.heat([[value / highest for value in values]], f"density by {words}: {low} to {high}", kind="strip")
