"""A serving node measures itself, keeps what it found, and tells the platform."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import torch

from pst.plan.latency import Layer, Product, Profile, Timing, check
from pst_client.client import Platform
from pst_client.contract import NodeProfile
from pst_serve import __main__ as program
from pst_serve import measure as measuring
from pst_serve import profile as profiles
from pst_serve.engine import NativeEngine
from pst_serve.measurable import Expanding, Sparse, sparse
from pst_serve.measure import fastest, measure, software
from pst_serve.node import Node
from pst_serve.profile import FILE, Profiler
from pst_serve.settings import Settings, from_environment
from pst_serve.store import Store
from tests.workers.conftest import eventually


def found(engine: str = "pretend", device: str = "card") -> Profile:
    return check(Profile(engine, device, 1, software(), [0.0], [Product(8, 8, 8, [1e-6])], [Layer(8, 8, 1e-6)], 1e-6))


class Pretend(Expanding):
    name = "pretend"
    device_name = "card"  # type: ignore[assignment]


class Waits(Expanding):
    """Takes a millisecond for a matrix without zeros, and nothing that counts for others."""

    name = "waits"
    skips_zeros = True

    def product(self, weight: torch.Tensor) -> Callable[[torch.Tensor], object]:
        seconds = 0.0 if (weight == 0).any() else 0.001
        linear = super().product(weight)

        def run(inputs: torch.Tensor) -> object:
            time.sleep(seconds)
            return linear(inputs)

        return run


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "LOOK_AGAIN_SECONDS", 0)


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SHAPES", ((16, 16), (32, 16)))
    monkeypatch.setattr(measuring, "TOKENS", (1, 4))
    monkeypatch.setattr(measuring, "WIDTHS", (16, 32))
    monkeypatch.setattr(measuring, "SPANS", (4, 8))
    monkeypatch.setattr(measuring, "MIN_CALL_SECONDS", 0.001)


def test_a_node_measures_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    made = check(measure(Waits()))
    assert (made.engine, made.threads, made.software) == ("waits", torch.get_num_threads(), software())
    assert {(item.rows, item.columns, item.tokens) for item in made.products} == {
        (n, 16, tokens) for n in (16, 32) for tokens in (1, 4)
    }
    for item in made.products:
        dense, *pruned = item.seconds
        assert dense > 0.001 > max(pruned)
    assert {(item.width, item.tokens) for item in made.layers} == {(w, t) for w in (16, 32) for t in (4, 8)}
    assert 1e-5 < made.fixed_seconds < 1


def test_an_engine_that_multiplies_zeros_gains_nothing_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    made = check(measure(Expanding()))
    assert made.sparsities == [0.0] and {len(item.seconds) for item in made.products} == {1}
    timing = Timing(made)
    assert timing.product(32, 16, 4, 0.99) == timing.product(32, 16, 4)


def test_the_sparse_engine_is_measured_at_each_sparsity(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    held: list[float] = []

    class Kept(Sparse):
        def product(self, weight: torch.Tensor) -> Callable[[torch.Tensor], object]:
            held.append(float(weight.count_nonzero()) / weight.numel())
            return super().product(weight)

    made = check(measure(Kept()))
    assert made.engine == "native" and made.sparsities == list(measuring.SPARSITIES)
    assert all(len(item.seconds) == len(made.sparsities) for item in made.products)
    assert max(held) == 1 and min(held) < 0.1
    assert {(item.width, item.tokens) for item in made.layers} == {(w, t) for w in (16, 32) for t in (4, 8)}


def test_a_busy_machine_is_said_to_be_busy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Profiler(tmp_path, Pretend(), measure=lambda engine: found(), quiet=lambda: False).write()
    assert "busy" in caplog.text


def test_the_fastest_of_runs_in_turns() -> None:
    order, naps = [], iter([0, 0, 0.02, 0.001, 0.001, 0.001])

    def call(name: str) -> Callable[[], object]:
        def run() -> None:
            order.append(name)
            time.sleep(next(naps, 0.05))

        return run

    first, second = fastest([call("a"), call("b")], lambda: None)
    assert order[:6] == ["a", "b"] * 3
    assert 0.001 <= first < 0.02 and 0.001 <= second < 0.02


def test_it_waits_for_a_quiet_machine_and_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm, calls = False, []

    def counted(engine: Any) -> Profile:
        calls.append(engine)
        return found()

    profiler = Profiler(tmp_path, Pretend(), measure=counted, quiet=lambda: calm)
    assert not profiler.step() and profiler.get() is None
    calm = True
    monkeypatch.setattr(profiles, "LOOK_AGAIN_SECONDS", 60)
    assert not Profiler(tmp_path, Pretend(), measure=counted, quiet=lambda: calm).step(), "it looks after a while"
    assert profiler.step() and not profiler.step()
    kept = profiler.get()
    assert kept is not None and kept.times == found() and len(calls) == 1
    assert Profiler(tmp_path, Pretend(), measure=counted, quiet=lambda: calm).get() == kept


@pytest.mark.parametrize(
    "other", [found(engine="another"), found(device="another"), dataclasses.replace(found(), software="torch 0.1")]
)
def test_what_another_engine_measured_is_not_this_one_s(tmp_path: Path, other: Profile) -> None:
    Profiler(tmp_path, Pretend(), measure=lambda engine: other).write()
    profiler = Profiler(tmp_path, Pretend(), measure=lambda engine: found(), quiet=lambda: True)
    assert profiler.get() is None
    assert profiler.step() and profiler.get() is not None


def test_a_damaged_file_is_measured_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text('{"measured_at": "2026-01-01T00:00:00Z", "times": {"engine"')
    profiler = Profiler(tmp_path, Pretend(), measure=lambda engine: found(), quiet=lambda: True)
    assert profiler.get() is None and "can't be used" in caplog.text
    assert profiler.step() and profiler.get() is not None


def test_quiet_is_a_matter_of_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.4 * cores, 9.0, 9.0))
    assert profiles.quiet()
    monkeypatch.setattr(os, "getloadavg", lambda: (0.6 * cores, 0.0, 0.0))
    assert not profiles.quiet()


class Hears:
    """A platform that keeps what heartbeats say; ``forgets`` makes it answer once that it doesn't know the node."""

    def __init__(self) -> None:
        self.beats: list[dict[str, Any]] = []
        self.forgets = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("register"):
            return httpx.Response(200, json={"node_id": str(uuid4()), "heartbeat_seconds": 0.01})
        if self.forgets:
            self.forgets = False
            error = {"code": "unknown_node", "message": "unknown", "details": []}
            return httpx.Response(404, json={"error": error})
        self.beats.append(json.loads(request.read()))
        return httpx.Response(200, json={"wanted": []})

    def profiles(self) -> list[NodeProfile]:
        return [NodeProfile.model_validate(beat["profile"]) for beat in self.beats if beat.get("profile")]


def node(heard: Hears, folder: Path, profiler: Profiler | None) -> Node:
    settings = Settings(url="http://p", node_token="t", node_name="n", cache_dir=folder, public_url=None)
    platform = Platform("http://p", "t", transport=httpx.MockTransport(heard), tries=1)
    store = Store(folder, endpoint="http://p/hf", token="t")
    made = Node(settings, platform, NativeEngine(), store, url="http://n", profiler=profiler)
    made.start()
    return made


def test_a_profile_is_told_when_it_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pst_serve.node.REGISTER_AGAIN_SECONDS", 0.01)
    heard = Hears()
    profiler = Profiler(tmp_path, Pretend(), measure=lambda engine: found(), quiet=lambda: True)
    running = node(heard, tmp_path, profiler)
    try:
        eventually(lambda: len(heard.profiles()) == 1)
        count = len(heard.beats)
        eventually(lambda: len(heard.beats) > count + 3)
        assert len(heard.profiles()) == 1
        again = dataclasses.replace(found(), fixed_seconds=2e-6)
        Profiler(tmp_path, Pretend(), measure=lambda engine: again).write()
        eventually(lambda: len(heard.profiles()) == 2)
        assert heard.profiles()[1].times.fixed_seconds == 2e-6
        heard.forgets = True
        eventually(lambda: len(heard.profiles()) == 3)
    finally:
        running.stop()


def test_a_node_that_can_t_measure_itself_serves_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(engine: Any) -> Profile:
        raise RuntimeError("no such instruction")

    heard = Hears()
    running = node(heard, tmp_path, Profiler(tmp_path, Pretend(), measure=breaks, quiet=lambda: True))
    try:
        eventually(lambda: "could not be measured" in caplog.text)
        eventually(lambda: running.problem() is None)
        assert heard.profiles() == []
    finally:
        running.stop()


def test_the_program_measures_when_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    monkeypatch.setenv("SPARSEWRIGHT_CACHE_DIR", str(tmp_path / "new"))
    assert program.main(["--measure"]) == 0
    made = Profiler(tmp_path / "new", Expanding(), sparse()).get()
    assert made is not None and made.times.engine == "expanding"
    assert made.sparse is not None and made.sparse.engine == "native"
    assert Profiler(tmp_path / "new", Expanding()).get() is None, "of a node that had another engine"


@pytest.mark.parametrize(("text", "measures"), [("", True), ("auto", True), ("off", False), ("0", False)])
def test_measuring_can_be_switched_off(text: str, measures: bool) -> None:
    environ = {"SPARSEWRIGHT_URL": "http://p", "SPARSEWRIGHT_NODE_TOKEN": "t", "SPARSEWRIGHT_MEASURE": text}
    assert from_environment(cast(Any, environ)).measures is measures
