"""Times that a serving node measured, and what they say of a model."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from pst.config import TrainSettings
from pst.plan.families import FAMILIES, ModelDescription
from pst.plan.latency import Layer, Product, Profile, Timing, check, rising
from pst.plan.planner import BudgetError, Target, plan
from tests.pst.tiny import CONFIGS

CONFIG = {
    "model_type": "bert",
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
}
SHARES = [0.0, 0.5, 0.9, 0.99]


def profile(gain: float = 1.0, noise: float = 0.0) -> Profile:
    """Of a machine that takes 1 ns for a weight and token; a share ``gain`` of the zeros costs nothing."""
    lot = random.Random(0)

    def seconds(size: int, tokens: int, share: float) -> float:
        return 1e-9 * size * tokens * (1 - gain * share) * lot.uniform(1 - noise, 1 + noise)

    return check(
        Profile(
            engine="pretend",
            device="none",
            threads=1,
            software="none",
            sparsities=SHARES,
            products=[
                Product(n, n, tokens, [seconds(n * n, tokens, share) for share in SHARES])
                for n in (16, 64, 256)
                for tokens in (1, 32, 512)
            ],
            layers=[Layer(width, tokens, 1e-6 + 1e-9 * width * tokens) for width in (16, 256) for tokens in (8, 512)],
            fixed_seconds=5e-5,
        )
    )


def test_neighbours_out_of_order_are_averaged() -> None:
    assert rising([1, 3, 2, 4]) == [1, 2.5, 2.5, 4]
    assert rising([3, 2, 1]) == [2, 2, 2]
    assert rising([5, 1, 2, 1], falling=True) == [5, 1.5, 1.5, 1]
    assert rising([]) == []


def test_what_was_measured_is_given_back_and_what_lies_between_is_between() -> None:
    timing = Timing(profile())
    for item in profile().products:
        for share, seconds in zip(SHARES, item.seconds, strict=True):
            assert timing.product(item.rows, item.columns, item.tokens, share) == pytest.approx(seconds)
    # The machine is linear in size, tokens and sparsity, so that interpolation is exact.
    assert timing.product(32, 100, 77) == pytest.approx(1e-9 * 3200 * 77)
    assert timing.product(64, 64, 32, 0.7) == pytest.approx(1e-9 * 64 * 64 * 32 * 0.3)


def test_beyond_what_was_measured() -> None:
    timing = Timing(profile())
    assert timing.product(4, 4, 32) == timing.product(16, 16, 32)  # what is smaller does not cost less
    assert timing.product(1024, 1024, 2048) == pytest.approx(1e-9 * 1024**2 * 2048)
    assert timing.product(64, 64, 32, 0.999) == timing.product(64, 64, 32, 0.99)


def test_times_never_rise_with_sparsity_whatever_the_noise() -> None:
    timing = Timing(profile(gain=0.1, noise=0.4))
    sizes, shares = [(20, 30), (64, 64), (100, 90), (500, 400)], [step / 50 for step in range(50)]
    for n, k in sizes:
        times = [timing.product(n, k, 100, share) for share in shares]
        assert times == sorted(times, reverse=True)
    assert [timing.product(n, k, 100) for n, k in sizes] == sorted(timing.product(n, k, 100) for n, k in sizes)


def test_a_profile_of_one_point() -> None:
    one = Profile("e", "d", 1, "s", [0.0], [Product(8, 8, 8, [1e-6])], [Layer(8, 8, 1e-6)], 1e-6)
    timing = Timing(check(one))
    assert timing.product(8, 8, 8, 0.9) == 1e-6
    assert timing.product(16, 8, 16) == pytest.approx(4e-6)


def changed(**values: Any) -> Profile:
    return dataclasses.replace(profile(), **values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"products": []}, "1 to 500"),
        ({"layers": []}, "1 to 500"),
        ({"sparsities": [0.5, 0.9, 0.95, 0.99]}, "from 0"),
        ({"sparsities": [0.0, 0.9, 0.5, 0.99]}, "rise"),
        ({"sparsities": [0.0, 0.5, 0.9, 1.0]}, "below 1"),
        ({"sparsities": [0.0, 0.9]}, "one time for each"),
        ({"products": [Product(8, 8, 8, [1e-6, 1e-6, -1e-6, 1e-6])]}, "positive"),
        ({"products": [Product(8, 8, 8, [1e-6, 1e-6, float("nan"), 1e-6])]}, "positive"),
        ({"products": [Product(8, 0, 8, [1e-6] * 4)]}, "at least 1"),
        ({"layers": [Layer(8, 0, 1e-6)]}, "at least 1"),
        ({"fixed_seconds": 0.0}, "positive"),
        ({"products": profile().products[1:]}, "each number of tokens"),
        ({"products": [*profile().products, profile().products[0]]}, "once"),
        ({"layers": profile().layers[1:]}, "each number of tokens"),
    ],
)
def test_profiles_that_predict_nothing(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check(changed(**values))


def test_a_forward_pass_is_its_products_its_layers_and_what_is_fixed() -> None:
    timing = Timing(profile(), rows=2, tokens=32)
    seconds = timing.forward(ModelDescription(CONFIG, labels=3), {"attention": 0.0, "ffn": 0.5})
    maps = 3 * 64 * (4 * 64 + 2 * 256 * 0.5) * 64
    once_a_row = (64 * 64 + 3 * 64) * 2
    calls = timing.profile.layers[0].seconds
    layers = 3 * (calls + 2 * (1e-6 + 1e-9 * 64 * 32 - calls))
    assert seconds == pytest.approx(5e-5 + 1e-9 * (maps + once_a_row) + layers, rel=0.05)


def test_the_sparse_engine_has_its_own_times_and_computes_the_last_layer_by_row() -> None:
    model, shares = ModelDescription(CONFIG, labels=3), {"attention": 0.9, "ffn": 0.9}
    timing = Timing(profile(0.0), rows=2, tokens=32, sparse=profile())
    own = Timing(profile(), rows=2, tokens=32)
    assert timing.forward(model, shares) > timing.served(model, shares) == own.forward(model, shares, last_by_row=True)
    # Two maps of attention and both of the feed-forward part: 62 of 64 tokens less.
    saved = 1e-9 * 0.1 * (2 * 64 * 64 + 2 * 64 * 256) * 62
    assert own.forward(model, shares) - timing.served(model, shares) == pytest.approx(saved, rel=0.05)
    found = plan(model, Target(min_speedup=1.5), timing=timing)
    assert found.time is not None and found.time.dense_latency_ms == pytest.approx(
        1000 * timing.forward(model, dict.fromkeys(shares, 0.0))
    )
    generator = ModelDescription(CONFIGS["gpt2"], "generation")
    groups = dict.fromkeys(generator.groups, 0.9)
    assert timing.served(generator, groups) == timing.forward(generator, groups), "it does not have that model"


TASKS = [
    (name, task)
    for name, config in sorted(CONFIGS.items())
    for task in ("classification", "generation")
    if task in FAMILIES[config["model_type"]].tasks
]


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_every_family_has_a_time(name: str, task: str) -> None:
    config = CONFIGS[name]
    found = [
        plan(ModelDescription(config, task, 2), Target(sparsity=s), timing=Timing(profile())).time for s in (0.5, 0.9)
    ]
    first, second = found
    assert first is not None and second is not None
    assert 0 < second.latency_ms < first.latency_ms < first.dense_latency_ms == second.dense_latency_ms


def planned(target: Target, *, gain: float = 1.0, **settings: Any) -> Any:
    chosen = TrainSettings(**settings)
    return plan(
        ModelDescription(CONFIG, labels=3), target, settings=chosen, timing=Timing(profile(gain), rows=1, tokens=128)
    )


@pytest.mark.parametrize("structure", ["unstructured", "block_1x4", "structured"])
def test_the_least_sparsity_that_is_fast_enough(structure: str) -> None:
    dense = planned(Target(sparsity=0.5)).time.dense_latency_ms
    for target in (Target(max_latency_ms=0.8 * dense), Target(min_speedup=1.25)):
        found = planned(target, structure=structure)
        assert found.time.latency_ms <= 0.8 * dense and found.time.speedup >= 1.25
        assert found.binding in ("max_latency_ms", "min_speedup") and found.reached
        level = max(found.sparsities().values())
        less = {name: share - 0.01 for name, share in found.sparsities().items() if share}
        assert planned(Target(groups=less), structure=structure).time.latency_ms > 0.8 * dense
        assert 0.05 < level < 0.99
        shown = found.to_dict()["time"]
        assert shown["speedup"] == pytest.approx(found.time.speedup) and shown["tokens"] == 128


def test_the_limit_that_needs_most_decides() -> None:
    assert planned(Target(sparsity=0.97, min_speedup=1.25)).binding == "sparsity"
    both = planned(Target(min_speedup=1.25, max_bytes=340_000))
    assert both.binding == "max_bytes" and both.time.speedup > 1.25


def test_what_can_be_reached_is_said() -> None:
    with pytest.raises(
        BudgetError, match=r"speed-up of 50 can't be met: the best is a speed-up of \d[\d.]*, at 99% sparsity$"
    ):
        planned(Target(min_speedup=50), structure="structured")
    with pytest.raises(BudgetError, match=r"0.001 ms can't be met: the best is \S+ ms, at 50%"):
        planned(Target(max_latency_ms=0.001), structure="2:4")
    with pytest.raises(BudgetError, match=r"best is a speed-up of 1, .*structure 'structured' makes the matrices"):
        planned(Target(min_speedup=1.5), gain=0.0)
    with pytest.raises(BudgetError, match=r"nothing would be removed, .* meets this already, with \S+ ms"):
        planned(Target(max_latency_ms=1e6))


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (Target(max_latency_ms=0), "max_latency_ms"),
        (Target(max_latency_ms=float("nan")), "max_latency_ms"),
        (Target(max_latency_ms=float("inf")), "max_latency_ms"),
        (Target(min_speedup=1), "min_speedup"),
    ],
)
def test_times_that_mean_nothing(target: Target, field: str) -> None:
    with pytest.raises(BudgetError) as caught:
        planned(target)
    assert caught.value.field == field


def test_a_time_needs_a_node() -> None:
    with pytest.raises(BudgetError, match="what a serving node measured"):
        plan(ModelDescription(CONFIG, labels=3), Target(min_speedup=2))
    assert plan(ModelDescription(CONFIG, labels=3), Target(sparsity=0.9)).time is None
    assert plan(ModelDescription(CONFIG, labels=3), Target(sparsity=0.9)).to_dict()["time"] is None


def test_a_method_that_prunes_nothing_meets_what_the_dense_model_does() -> None:
    assert planned(Target(max_latency_ms=1e6), method="lora").reached
    assert not planned(Target(max_latency_ms=1e-3), method="lora").reached
    assert not planned(Target(min_speedup=1.5), method="dense").reached
