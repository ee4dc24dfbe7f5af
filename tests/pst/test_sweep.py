"""Successive halving: its choices with a pipeline whose results are known, and one real search."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pst import pipeline, sweep
from pst.__main__ import main
from pst.errors import PSTError, TrainingError
from pst.export import verify
from pst.pipeline import Stopped
from pst.sweep import Search
from pst.training import teacher
from tests.pst.conftest import write_job
from tests.pst.runs import PASSED


class Pipeline:
    """Stands for :func:`pst.pipeline.run`: the metric is a function of the settings, and every call is noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, Any], dict[str, Any], bool]] = []
        self.dense_phases = 0
        self.stop_after = 10**9

    def metric(self, settings: dict[str, Any], target: dict[str, Any]) -> float:
        if settings["learning_rate"] == 0.5:
            raise TrainingError("The loss became nan.")
        return 0.5 + settings["update_rank"] / 100 - 0.3 * target["sparsity"]

    def __call__(self, folder: Path, *, emit: Any, should_stop: Callable[[], bool], quick: bool) -> dict[str, Any]:
        if len(self.calls) >= self.stop_after:
            raise Stopped
        spec = json.loads((folder / "spec.json").read_text())
        settings, target = spec["settings"], spec["target"]
        self.calls.append((settings, target, quick))
        if not (folder / teacher.FOLDER).is_dir():
            self.dense_phases += 1
            (folder / teacher.FOLDER).mkdir()
            (folder / teacher.FOLDER / teacher.ANSWERS).write_bytes(b"answers")
        value = self.metric(settings, target)
        return {
            "primary": "accuracy",
            "metrics": {
                "validation": {"accuracy": value, "interval": [value - 0.1, value + 0.1]},
                "test": {"accuracy": 1 - value},
            },
            "bytes": {"sparse": int(1000 * (1 - target["sparsity"])) + settings["update_rank"]},
            "params": {"nonzero": 10, "trainable": 5},
            "sparsity": {"reached": target["sparsity"]},
            "seconds": {"train": 1.0, "report": 0.5},
        }


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    fake = Pipeline()
    monkeypatch.setattr(pipeline, "run", fake)
    return fake


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Path:
    return write_job(tmp_path / "job", base, epochs=9, learning_rate=0.01)


def _run(job: Path, values: dict[str, list[Any]], **more: Any) -> dict[str, Any]:
    return sweep.run(job, Search(values, **more), emit=lambda event: None, should_stop=lambda: False)


def test_the_best_third_goes_on_for_three_times_as_long(job: Path, ran: Pipeline) -> None:
    ranks = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    content = _run(job, {"update_rank": ranks})
    assert [(s["update_rank"], s["epochs"], quick) for s, _, quick in ran.calls] == [
        *((rank, 1.0, True) for rank in ranks),
        *((rank, 3.0, True) for rank in (9, 8, 7)),
        (9, 9.0, False),
    ]
    states = {trial["values"]["update_rank"]: trial["state"] for trial in content["trials"]}
    assert states == {9: "finished"} | dict.fromkeys(range(1, 9), "stopped")
    best = next(trial for trial in content["trials"] if trial["state"] == "finished")
    assert [rung["share"] for rung in best["rungs"]] == pytest.approx([1 / 9, 1 / 3, 1])
    assert content["front"] == [best["id"]] and content["metric"] == "accuracy"
    assert content == json.loads((job / "sweep/sweep.json").read_text())
    assert ran.dense_phases == 1


def test_trials_of_different_targets_do_not_compete(job: Path, ran: Pipeline) -> None:
    content = _run(job, {"sparsity": [0.6, 0.9], "update_rank": [2, 4, 6]})
    finished = [trial["values"] for trial in content["trials"] if trial["state"] == "finished"]
    assert finished == [{"sparsity": 0.6, "update_rank": 6}, {"sparsity": 0.9, "update_rank": 6}]
    by_id = {trial["id"]: trial["values"]["sparsity"] for trial in content["trials"]}
    assert [by_id[name] for name in content["front"]] == [0.9, 0.6]  # fewer bytes first
    assert all(target == {"sparsity": target["sparsity"]} for _, target, _ in ran.calls)


def test_what_is_finished_is_not_run_again(job: Path, ran: Pipeline) -> None:
    ran.stop_after = 4
    with pytest.raises(Stopped):
        _run(job, {"update_rank": [1, 2, 3, 4, 5]})
    ran.stop_after = 10**9
    content = _run(job, {"update_rank": [1, 2, 3, 4, 5]})
    assert [settings["update_rank"] for settings, _, _ in ran.calls] == [1, 2, 3, 4, 5, 5]
    assert _run(job, {"update_rank": [1, 2, 3, 4, 5]}) == content and len(ran.calls) == 6
    more = _run(job, {"update_rank": [1, 2, 3, 4, 5, 6]})  # a wider search takes over what it shares
    assert [s["update_rank"] for s, _, _ in ran.calls[6:]] == [6, 6] and content["front"][0] in more["front"]
    longer = _run(job, {"update_rank": [1, 2, 3, 4, 5, 6]}, rungs=3)
    shares = {trial["values"]["update_rank"]: [rung["share"] for rung in trial["rungs"]] for trial in longer["trials"]}
    assert shares[6] == pytest.approx([1 / 9, 1 / 3, 1]) and shares[1] == pytest.approx([1 / 9, 1 / 3])


def test_another_spec_is_another_search(job: Path, base: Path, ran: Pipeline) -> None:
    _run(job, {"update_rank": [1]})
    write_job(job, base, epochs=5)
    with pytest.raises(PSTError, match="another spec"):
        _run(job, {"update_rank": [1]})
    (job / "sweep/sweep.json").write_text("{")
    with pytest.raises(PSTError, match="can't be read"):
        _run(job, {"update_rank": [1]})


def test_a_trial_that_diverges_ends_alone(job: Path, ran: Pipeline) -> None:
    content = _run(job, {"learning_rate": [0.5, 0.01, 0.001]}, rungs=1)
    assert [trial["state"] for trial in content["trials"]] == ["failed", "finished", "finished"]
    assert "nan" in content["trials"][0]["error"] and content["trials"][0]["id"] not in content["front"]
    assert _run(job, {"learning_rate": [0.5, 0.01, 0.001]}, rungs=1) == content and len(ran.calls) == 3


def test_when_every_trial_diverges_there_is_no_front(job: Path, ran: Pipeline) -> None:
    content = _run(job, {"learning_rate": [0.5]})
    assert content["front"] == [] and content["trials"][0]["state"] == "failed"


def test_the_dense_method_is_shortened_too(job: Path, ran: Pipeline) -> None:
    _run(job, {"method": ["dense", "pst", "magnitude"], "update_rank": [4]}, eta=2, rungs=2)
    assert next(s["dense_epochs"] for s, _, _ in ran.calls if s["method"] == "dense") == 1.5
    assert next(s["dense_epochs"] for s, _, _ in ran.calls if s["method"] == "pst") == 3


@pytest.mark.parametrize(
    ("trials", "eta", "rungs", "wanted"),
    [
        (1, 3, None, [(1, 1.0)]),
        (9, 3, None, [(9, 1 / 9), (3, 1 / 3), (1, 1.0)]),
        (8, 2, None, [(8, 1 / 8), (4, 1 / 4), (2, 1 / 2), (1, 1.0)]),
        (20, 3, 2, [(20, 1 / 3), (6, 1.0)]),
        (2, 4, 3, [(2, 1 / 16), (1, 1 / 4), (1, 1.0)]),
    ],
)
def test_rungs(trials: int, eta: int, rungs: int | None, wanted: list[tuple[int, float]]) -> None:
    found = sweep.rungs_of(trials, eta, rungs)
    assert [count for count, _ in found] == [count for count, _ in wanted]
    assert [share for _, share in found] == pytest.approx([share for _, share in wanted])


def test_the_front_keeps_what_nothing_beats() -> None:
    points = {
        "a": (0.9, 100.0),
        "b": (0.8, 50.0),
        "c": (0.8, 60.0),
        "d": (0.85, 120.0),
        "e": (0.95, 300.0),
        "f": (0.8, 50.0),
    }
    assert sweep.front(points) == ["b", "a", "e"]
    for name in sweep.front(points):
        metric, size = points[name]
        assert not any(m >= metric and s <= size and (m, s) != (metric, size) for m, s in points.values())


def test_combinations_are_all_or_drawn_by_seed() -> None:
    values = {"update_rank": [4, 8], "alpha1": [0.0, 1.0, 2.0]}
    whole = sweep.combinations(Search(values))
    assert whole[:2] == [{"update_rank": 4, "alpha1": 0.0}, {"update_rank": 4, "alpha1": 1.0}] and len(whole) == 6
    drawn = sweep.combinations(Search(values, trials=3, seed=1))
    assert drawn == sweep.combinations(Search(values, trials=3, seed=1)) and len(drawn) == 3
    assert all(trial in whole for trial in drawn)


@pytest.mark.parametrize(
    ("values", "more", "words"),
    [
        ({}, {}, "what to search over"),
        ({"colour": ["red"]}, {}, "neither a setting nor part of the target"),
        ({"update_rank": []}, {}, "at least one value"),
        ({"update_rank": [4, 4]}, {}, "twice"),
        ({"update_rank": [4, 5000]}, {}, "update_rank 5000 can't be run.*<= 1024"),
        ({"sparsity": [0.9, 2]}, {}, "sparsity 2 can't be run"),
        ({"update_rank": [4]}, {"eta": 1}, "eta must be a whole number of at least 2"),
        ({"update_rank": [4]}, {"trials": "many"}, "trials must be a whole number"),
        ({"seed": list(range(200)), "update_rank": list(range(1, 101))}, {}, "20,000 combinations"),
    ],
)
def test_a_wrong_search_is_a_sentence_before_anything_runs(
    job: Path, ran: Pipeline, values: dict[str, list[Any]], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(PSTError, match=words):
        _run(job, values, **more)
    assert not ran.calls and not (job / "sweep/sweep.json").exists()


def test_words_of_the_command_line() -> None:
    assert sweep.parse(["update_rank=4,8", "learning_rate=1e-3", "threshold=matrix,global", "distill=true,false"]) == {
        "update_rank": [4, 8], "learning_rate": [1e-3], "threshold": ["matrix", "global"], "distill": [True, False]
    }  # fmt: skip
    with pytest.raises(PSTError, match="name=value"):
        sweep.parse(["update_rank"])


def test_a_file_of_the_search_and_words_over_it(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    path.write_text('{"values": {"update_rank": [4, 8]}, "eta": 4}')
    found = sweep.parse_search(path, ["score_rank=2,4"], trials=3, eta=None)
    assert found == Search({"update_rank": [4, 8], "score_rank": [2, 4]}, trials=3, eta=4)
    for content, words in (
        ("[]", '"values"'),
        ('{"values": {}, "depth": 1}', "'depth' is not known"),
        ("{", "can't be read"),
    ):
        path.write_text(content)
        with pytest.raises(PSTError, match=words):
            sweep.parse_search(path, [])


def test_a_real_search_from_the_command_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(verify, "elsewhere", lambda *arguments: PASSED)
    job = write_job(tmp_path / "job", base, epochs=4, dense_epochs=1, evaluations=2)
    events: list[dict[str, Any]] = []
    search = Search({"update_rank": [2, 4]}, eta=2)
    content = sweep.run(job, search, emit=events.append, should_stop=lambda: False)
    assert [event["phase"] for event in events if event["type"] == "phase"].count("dense") == 1
    winner = next(trial for trial in content["trials"] if trial["state"] == "finished")
    whole = winner["rungs"][-1]
    report = json.loads((job / whole["folder"] / "report.json").read_text())
    assert (
        whole["metric"] == report["metrics"]["validation"]["accuracy"] and whole["bytes"] == report["bytes"]["sparse"]
    )
    assert report["settings"]["epochs"] == 4 and report["verify"]["ok"] and "measures" in report
    assert (job / whole["folder"] / "export/model.safetensors").is_file()
    for trial in content["trials"]:
        short = job / trial["rungs"][0]["folder"]
        assert sorted(path.name for path in short.iterdir()) == ["report.json", "spec.json"]
        assert "measures" not in json.loads((short / "report.json").read_text())
    capsys.readouterr()
    assert main(["sweep", str(job), "--set", "update_rank=2,4", "--eta", "2"]) == 0
    printed = capsys.readouterr().out
    assert "finished *" in printed and "stopped" in printed
    assert main(["sweep", str(job), "--set", "update_rank=-1"]) == 1
    assert "can't be run" in capsys.readouterr().err
