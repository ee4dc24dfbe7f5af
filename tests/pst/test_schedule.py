from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pst.sparsity.schedule import average_decay, cooldown_start, cubic_sparsity, linear_rate


def sparsity(step: int, total: int, initial: float = 0.1, final: float = 0.9) -> float:
    return cubic_sparsity(step, total, initial=initial, final=final, warmup_fraction=0.1, cooldown_fraction=0.3)


def test_follows_the_cubic_between_its_ends() -> None:
    for step in range(100, 700):
        share = Fraction(step - 100, 600)
        expected = 0.9 - 0.8 * float((1 - share) ** 3)
        assert sparsity(step, 1000) == pytest.approx(expected, abs=1e-12)
    assert {sparsity(step, 1000) for step in range(100)} == {0.1}
    assert {sparsity(step, 1000) for step in range(700, 1000)} == {0.9}


@given(total=st.integers(1, 400), warmup=st.floats(0, 0.5), cooldown=st.floats(0.01, 0.49))
def test_never_falls_and_ends_at_the_target(total: int, warmup: float, cooldown: float) -> None:
    values = [
        cubic_sparsity(t, total, initial=0.0, final=0.95, warmup_fraction=warmup, cooldown_fraction=cooldown)
        for t in range(total)
    ]
    assert values == sorted(values)
    assert values[-1] == 0.95
    start = cooldown_start(total, cooldown)
    assert all(value == 0.95 for value in values[start:])


@given(total=st.integers(1, 500), warmup=st.floats(0, 0.9))
def test_rate_rises_to_one_and_falls(total: int, warmup: float) -> None:
    rates = [linear_rate(t, total, warmup_ratio=warmup) for t in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_the_peak_is_held() -> None:
    rates = [linear_rate(step, 100, warmup_ratio=0.1, hold_ratio=0.7) for step in range(100)]
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(10)] + [1.0])
    assert rates[10:71] == [1.0] * 61
    assert rates[70:] == pytest.approx([(100 - step) / 30 for step in range(70, 100)])
    assert [linear_rate(step, 100, warmup_ratio=0.1, hold_ratio=0.05) for step in range(100)] == [
        linear_rate(step, 100, warmup_ratio=0.1) for step in range(100)
    ]
    assert linear_rate(0, 1, warmup_ratio=0.0, hold_ratio=0.99) == 1.0


def test_the_average_looks_back_a_third_of_the_steps_and_no_further_than_its_decay_says() -> None:
    assert average_decay(0, 0.95) == 0
    assert average_decay(6, 0.95) == pytest.approx(2 / 3)  # a window of 3 steps
    assert average_decay(57, 0.95) == average_decay(1000, 0.95) == 0.95
    assert average_decay(1000, 0.0) == 0
