"""The report of a run, held against independent computations. One tiny run serves most tests."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from pst import report
from pst.__main__ import main
from pst.errors import PSTError
from pst.layers.inject import TargetModule
from pst.model.data import Row
from pst.native.model import NativeModel
from pst.plan import engine
from pst.report import carbon, timing
from pst.report.agreement import compare
from pst.report.answers import closeness, word_overlap
from pst.report.flops import count
from pst.report.mistakes import confusion, wrong_rows
from pst.report.perturb import KINDS, answers_needed, chosen, perturbations
from pst.report.pictures import density, overlap, picture_data, place_of
from pst.sparsity.masks import mask_of, select
from tests.pst.runs import run_unchecked


@dataclass(frozen=True)
class Finished:
    folder: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def done(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(*run_unchecked(tmp_path_factory.mktemp("report") / "job", base, epochs=2, dense_epochs=2))


def test_the_report_fits_its_schema(done: Finished) -> None:
    schema = json.loads(report.SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    written = json.loads((done.folder / "report.json").read_text())
    jsonschema.validate(written, schema)
    del written["measures"]["loyalty"]["closeness"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema)


def test_reading_gives_what_was_written(done: Finished) -> None:
    assert report.read(done.folder) == json.loads(json.dumps(done.report))
    assert not [line for line in (done.folder / "report.json").read_text().splitlines() if line.strip() in ("0,", "1,")]


def _counted(model: nn.Module, length: int) -> int:
    ids = torch.full((1, length), 7)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops()


def test_flops_are_those_of_torchs_counter_and_of_the_formula(done: Finished, base: Path) -> None:
    flops = done.report["measures"]["flops"]
    length = flops["shape"]["tokens"]
    hidden, inner, layers, labels = 32, 64, 2, 3
    blocks = layers * (4 * hidden * hidden + 2 * hidden * inner)
    linear = 2 * length * blocks + 2 * (hidden * hidden + hidden * labels)
    attention = layers * 2 * 2 * length * length * hidden
    assert flops["dense"] == {"linear": linear, "attention": attention, "total": linear + attention}
    plain = BertForSequenceClassification.from_pretrained(base, attn_implementation="eager", num_labels=labels)
    assert flops["dense"]["total"] == _counted(plain, length)
    model = BertForSequenceClassification.from_pretrained(done.folder / "export", attn_implementation="eager")
    assert flops["sparse_with_zeros"] == _counted(model, length)
    kept = sum(matrix["nonzeros"] for matrix in done.report["sparsity"]["matrices"])
    head = sum(
        int(model.get_parameter(f"{name}.weight").count_nonzero()) for name in ("bert.pooler.dense", "classifier")
    )
    assert flops["sparse"]["linear"] == 2 * length * kept + 2 * head
    assert flops["sparse"]["total"] == flops["sparse"]["linear"] + flops["sparse"]["attention"]
    assert flops["ratio"] == pytest.approx(flops["sparse"]["total"] / (linear + attention))


def test_counting_leaves_the_model_as_it_was() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes)).train()
    before = model.config._attn_implementation
    count(model, {"input_ids": torch.ones(1, 4, dtype=torch.long)})
    assert model.training and model.config._attn_implementation == before
    assert not any(module._forward_hooks for module in model.modules())


def test_sizes_are_those_of_the_files(done: Finished) -> None:
    size, export = done.report["measures"]["size"], done.folder / "export"
    assert size["files"]["model.safetensors"] == (export / "model.safetensors").stat().st_size
    assert size["files"]["sparse/model.sparse.safetensors"] == done.report["bytes"]["sparse"]
    state = load_file(export / "model.safetensors")
    assert size["nonzeros"]["sparse"] == sum(int((tensor != 0).sum()) for tensor in state.values())
    assert size["memory"]["dense"] == 4 * done.report["params"]["total"] + engine.OVERHEAD_BYTES
    served = NativeModel(export, 1)
    assert size["memory"]["sparse"] == served.encoder.bytes + engine.OVERHEAD_BYTES < size["memory"]["dense"]
    assert done.report["measures"]["trainable"]["share"] == pytest.approx(
        done.report["params"]["trainable"] / done.report["params"]["total"]
    )


def test_the_quality_is_the_metric_with_its_intervals(done: Finished) -> None:
    quality = done.report["measures"]["quality"]
    assert quality["metric"] == "accuracy" and set(quality["splits"]) == {"validation", "test"}
    for split, shown in quality["splits"].items():
        assert shown["sparse"] == done.report["metrics"][split]["accuracy"]
        assert shown["difference"] == pytest.approx(shown["sparse"] - shown["dense"])
        low, high = shown["difference_interval"]
        assert low <= shown["difference"] + 1e-9 and shown["difference"] <= high + 1e-9


def test_closeness_is_one_minus_the_root_of_jensen_shannon() -> None:
    generator = np.random.default_rng(0)
    p, q = generator.dirichlet(np.ones(4), 20), generator.dirichlet(np.ones(4), 20)
    q[0], p[1], q[1] = p[0], [1, 0, 0, 0], [0, 1, 0, 0]
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = sum(np.where(one > 0, one * np.log2(one / middle), 0).sum(1) for one in (p, q)) / 2
    found = closeness(torch.from_numpy(p), torch.from_numpy(q)).numpy()
    np.testing.assert_allclose(found, 1 - np.sqrt(divergence), atol=1e-7)
    assert found[0] == pytest.approx(1, abs=1e-7) and found[1] == pytest.approx(0, abs=1e-12)
    several = closeness(torch.from_numpy(np.stack([p, p], 1)), torch.from_numpy(np.stack([p, q], 1))).numpy()
    np.testing.assert_allclose(several, (1 + found) / 2, atol=1e-7)


def test_loyalty_is_that_of_the_exported_model(done: Finished) -> None:
    loyalty = done.report["measures"]["loyalty"]
    assert loyalty["split"] == "test" and loyalty["agreement"] == done.report["agreement"]
    low, high = loyalty["agreement_interval"]
    assert 0 <= low <= loyalty["agreement"] <= high <= 1
    low, high = loyalty["closeness_interval"]
    assert low <= loyalty["closeness"] <= high


def test_words_in_common() -> None:
    assert word_overlap("a b b c", "b b d") == pytest.approx(2 * 2 / 7)
    assert word_overlap("", "") == 1 and word_overlap("a", "") == 0


ROWS = [Row(f"The quick brown fox number {n} jumps over it", "A lazy dog" if n % 2 else None, n % 3) for n in range(40)]


def test_perturbations_depend_on_seed_kind_and_place_alone() -> None:
    random.seed(1)
    first = perturbations(ROWS, 5)
    random.seed(2)
    assert perturbations(ROWS, 5) == first != perturbations(ROWS, 6)
    assert perturbations(ROWS[:20], 5)["typos"] == first["typos"][:20]
    assert set(first) == set(KINDS)
    for kind, rows in first.items():
        assert [row.label for row in rows] == [row.label for row in ROWS]
        assert all((row.text_pair is None) == (was.text_pair is None) for row, was in zip(rows, ROWS, strict=True))
        assert sum(row.text != was.text for row, was in zip(rows, ROWS, strict=True)) >= 35, kind


def test_each_kind_changes_what_it_says() -> None:
    found = perturbations(ROWS, 5)
    for place, was in enumerate(ROWS):
        assert found["case"][place].text.lower() == was.text.lower()
        words = found["word_drop"][place].text.split()
        assert len(words) == len(was.text.split()) - 1 and set(words) < set(was.text.split())
        assert abs(len(found["typos"][place].text) - len(was.text)) <= 2


@pytest.mark.parametrize("text", ["", "x", "一二三四五六七八九十一二三四五六七八九十", "a b"])
def test_any_text_can_be_perturbed(text: str) -> None:
    for rows in perturbations([Row(text, None, 0)], 1).values():
        assert isinstance(rows[0].text, str)
    if len(text) == 20:
        assert len(perturbations([Row(text, None, 0)], 1)["word_drop"][0].text) == 18


def test_a_bounded_number_of_rows_is_perturbed() -> None:
    places = chosen(1000, 3, 100)
    assert len(set(places)) == 100 and places == sorted(places) == chosen(1000, 3, 100) and max(places) < 1000
    needed = answers_needed({"train": ROWS, "validation": ROWS[:5], "test": ROWS}, 3, 7)
    assert {name: len(rows) for name, rows in needed.items()} == {
        "validation": 5, "test": 40, "typos": 7, "word_drop": 7, "case": 7
    }  # fmt: skip
    assert answers_needed({"validation": ROWS}, 3)["case"] == perturbations(ROWS, 3)["case"]


def test_robustness_is_that_of_the_exported_model(done: Finished) -> None:
    found = done.report["measures"]["robustness"]
    spec = json.loads((done.folder / "spec.json").read_text())
    rows = [json.loads(line) for line in (done.folder / spec["test"]).read_text().splitlines()]
    rows = [Row(row["text"], None, spec["labels"].index(row["label"])) for row in rows]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(done.folder / "export")
    model = AutoModelForSequenceClassification.from_pretrained(done.folder / "export").eval()
    for kind, perturbed in perturbations(rows, 42).items():
        inputs = tokenizer([row.text for row in perturbed], padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            answers = model(**inputs).logits.argmax(-1).tolist()
        right = sum(answer == row.label for answer, row in zip(answers, rows, strict=True)) / len(rows)
        assert found["kinds"][kind]["sparse"]["value"] == pytest.approx(right)
        assert found["kinds"][kind]["sparse"]["drop"] == pytest.approx(found["clean"]["sparse"] - right)
        low, high = found["kinds"][kind]["sparse"]["drop_interval"]
        assert low <= found["kinds"][kind]["sparse"]["drop"] + 1e-9 <= high + 2e-9
    assert found["rows"] == len(rows) and found["clean"]["sparse"] == done.report["metrics"]["test"]["accuracy"]


def test_the_speed_up_is_the_ratio_of_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lot = [0.0], random.Random(0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def takes(seconds: float) -> None:
        now[0] += seconds * lot.uniform(1, 1.2)

    found = timing.compare(partial(takes, 0.006), partial(takes, 0.002), 0)
    assert found["speedup"] == pytest.approx(3, rel=0.1)
    assert found["interval"][0] <= found["speedup"] <= found["interval"][1]
    assert found["speedup"] == pytest.approx(found["dense"]["p50_ms"] / found["sparse"]["p50_ms"])
    assert 7.2 >= found["dense"]["p95_ms"] >= found["dense"]["p50_ms"] >= 6
    assert found["rounds"] == timing.MAX_ROUNDS
    slow = timing.compare(partial(takes, 1.0), partial(takes, 0.5), 0)
    assert slow["rounds"] == timing.MIN_ROUNDS


def _module(name: str, weight: torch.Tensor, scores: torch.Tensor, kept: int) -> TargetModule:
    layer = SimpleNamespace(weight=weight, scores=lambda: scores, selection=select(scores, kept), plain=lambda: weight)
    return TargetModule(name, "ffn", layer)  # type: ignore[arg-type]


def test_pictures_count_what_is_there() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 300, generator=generator)
    scores = torch.randn(24, 300, generator=generator).contiguous()
    scores[3] = -100.0
    module = _module("bert.encoder.layer.5.output.dense", weight, scores, 720)
    found = picture_data([module], {module.name: weight})
    matrix, group = found["matrices"][0], found["distributions"]["ffn"]
    mask = mask_of(scores, module.layer.selection)
    assert (matrix["stack"], matrix["depth"], matrix["kind"], matrix["kept"]) == ("encoder", 5, "output.dense", 720)
    assert matrix["empty_rows"] == int((~mask.any(1)).sum()) >= 1
    assert matrix["empty_columns"] == int((~mask.any(0)).sum())
    np.testing.assert_allclose(matrix["density"]["rows"], mask.float().mean(1), atol=1e-4)
    assert len(matrix["density"]["columns"]) == 128
    for histogram in (matrix["weight"], matrix["score"], group["weight"], group["score"]):
        assert sum(histogram["all"]) == 7200 and sum(histogram["kept"]) == 720
        assert all(kept <= total for kept, total in zip(histogram["kept"], histogram["all"], strict=True))
    against = group["weight_score"]
    assert np.sum(against["all"]) == 7200 and np.sum(against["kept"]) == 720
    by_magnitude = mask_of(weight.abs(), select(weight.abs(), 720))
    both, either = int((mask & by_magnitude).sum()), int((mask | by_magnitude).sum())
    assert matrix["magnitude_overlap"]["jaccard"] == pytest.approx(both / either)


def test_magnitudes_own_mask_overlaps_itself() -> None:
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    module = _module("t5.decoder.block.2.layer.0.SelfAttention.q", weight, weight.abs(), 64)
    matrix = picture_data([module], {module.name: weight})["matrices"][0]
    assert matrix["magnitude_overlap"]["jaccard"] == matrix["magnitude_overlap"]["shared"] == 1.0
    assert matrix["magnitude_overlap"]["chance"] == pytest.approx(16 / (128 - 16))
    assert (matrix["stack"], matrix["depth"]) == ("decoder", 2)


def test_chance_is_what_random_masks_give() -> None:
    generator = torch.Generator().manual_seed(3)
    one, other = torch.rand(400, 400, generator=generator) < 0.1, torch.rand(400, 400, generator=generator) < 0.3
    found = overlap(one, other)
    assert found["jaccard"] == pytest.approx(found["chance"], rel=0.05)
    assert density(torch.ones(200, 3, dtype=torch.bool), 128, 24)["columns"] == [1.0, 1.0, 1.0]


def test_cells_are_means_of_their_part_of_the_mask() -> None:
    mask = torch.rand(37, 50, generator=torch.Generator().manual_seed(1)) > 0.7
    cells = density(mask, 16, 5)["cells"]
    wanted = [
        [round(float(cell.float().mean()), 3) for cell in band.tensor_split(5, 1)] for band in mask.tensor_split(5)
    ]
    assert [[pytest.approx(share, abs=0.002) for share in row] for row in wanted] == cells
    assert len(density(mask[:3], 16, 24)["cells"]) == 3


def test_wrong_rows_come_the_surest_first() -> None:
    rows = [Row(text, None, label) for text, label in (("a", 0), ("b", 1), ("c", 1), ("d", 0))]
    logits = torch.tensor([[0.0, 3.0], [0.0, 1.0], [5.0, 0.0], [2.0, 0.0]])
    found = wrong_rows("test", ["no", "yes"], logits, -logits, rows)
    assert found["count"] == 2 and [row["row"] for row in found["rows"]] == [3, 1]
    assert found["rows"][0] | {"probability": 0} == {
        "row": 3, "text": "c", "text_pair": None, "gold": "yes", "predicted": "no", "dense": "yes", "probability": 0
    }  # fmt: skip
    assert found["rows"][0]["probability"] == pytest.approx(1 / (1 + math.exp(-5)), abs=1e-4)
    assert confusion("test", ["no", "yes"], logits, rows)["matrix"] == [[1, 1], [1, 1]]
    assert place_of("classifier") == ("", 0, "classifier")


def test_the_report_stays_small_for_many_matrices(done: Finished) -> None:
    weight = torch.randn(64, 64)
    modules = [_module(f"model.layers.{n}.mlp.up_proj", weight, weight.abs(), 400) for n in range(300)]
    assert len(json.dumps(picture_data(modules, {}))) < 1_000_000
    assert (done.folder / "report.json").stat().st_size < 200_000


def test_masks_of_two_runs(done: Finished, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = compare(done.folder, done.folder)
    assert same["method"] == "pst" and len(same["matrices"]) == 12
    assert all(matrix["jaccard"] == 1.0 for matrix in same["matrices"])
    other, _ = run_unchecked(tmp_path / "other", base, method="magnitude", epochs=1, dense_epochs=1)
    matrix = compare(done.folder, other)["matrices"][0]
    ours, theirs = (load_file(at / "export/model.safetensors")[matrix["name"]] != 0 for at in (done.folder, other))
    assert matrix["jaccard"] == pytest.approx(int((ours & theirs).sum()) / int((ours | theirs).sum()))
    assert main(["report", str(done.folder), "--against", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["against"][0]["method"] == "magnitude"
    assert main(["report", str(done.folder), "--against", str(other)]) == 0
    assert "Jaccard" in capsys.readouterr().out
    assert main(["report", str(done.folder), "--against", str(tmp_path)]) == 1
    assert "no report" in capsys.readouterr().err


class _Tracker:
    """codecarbon's part: what it would measure, or how it would fail."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __call__(self, **settings: Any) -> _Tracker:
        assert settings["output_methods"] == []
        if self.fault == "init":
            raise OSError("no meter")
        return self

    def start(self) -> None:
        if self.fault == "slow":
            time.sleep(0.5)

    def stop(self) -> None:
        if self.fault == "stop":
            raise OSError("meter is gone")

    @property
    def final_emissions_data(self) -> SimpleNamespace:
        energy = {
            "energy_consumed": 0.004,
            "cpu_energy": 0.001,
            "gpu_energy": 0.0,
            "ram_energy": 0.003,
            "emissions": 0.002,
        }
        words = {"codecarbon_version": "3", "country_name": "Germany", "cpu_model": "chip", "gpu_model": ""}
        return SimpleNamespace(**energy, **words, duration=10.0, pue=1.0)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(fault: str) -> None:
        monkeypatch.setattr(carbon.importlib.util, "find_spec", lambda name: object())
        made = SimpleNamespace(OfflineEmissionsTracker=_Tracker(fault))
        monkeypatch.setattr(carbon.importlib, "import_module", lambda name: made)

    return install


def test_carbon_scales_to_the_whole_run(tracker: Callable[[str], None]) -> None:
    tracker("")
    with carbon.Carbon() as meter:
        time.sleep(0.2)
        found = meter.stop(40.0)
    assert found["kwh"] == pytest.approx(0.016) and found["grams_co2e"] == pytest.approx(8.0)
    assert found["measured_seconds"] == 10.0 and found["seconds"] == 40.0
    assert sum(found["by_part_kwh"].values()) == pytest.approx(found["kwh"])
    assert found["assumptions"]["grams_co2e_per_kwh"] == pytest.approx(500)


@pytest.mark.parametrize(
    ("fault", "words"), [("init", "could not start"), ("stop", "could not stop"), ("slow", "ended before")]
)
def test_a_broken_meter_is_a_sentence_in_the_report(tracker: Callable[[str], None], fault: str, words: str) -> None:
    tracker(fault)
    begin = time.monotonic()
    with carbon.Carbon() as meter:
        if fault != "slow":
            time.sleep(0.1)
        found = meter.stop(1.0)
    assert found["kwh"] is None and words in found["reason"]
    assert time.monotonic() - begin < 0.45  # a short run does not wait for a slow meter


def test_a_run_leaves_nothing_of_the_meter(done: Finished) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names <= {"spec.json", "data", "checkpoints", "dense", "export", "verify", "report.json"}
    assert not list(Path.cwd().glob("emissions*")) and not os.path.lexists(".codecarbon.lock")


def test_no_report_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PSTError, match="run train first"):
        report.read(tmp_path)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(PSTError, match="JSON object"):
        report.read(tmp_path)
    with pytest.raises(ValueError):
        report.write({"loss": float("nan")}, tmp_path / "report.json")
