"""A sweep gives every row its turn."""

from __future__ import annotations

from typing import Any

from hub.core.sweeps import each


def test_what_fails_with_one_keeps_no_other_waiting() -> None:
    seen: list[int] = []

    def act(number: int) -> Any:
        seen.append(number)
        if number == 1:
            raise KeyError("unforeseen")
        return number != 2

    assert each("test", range(4), act) == 2
    assert seen == [0, 1, 2, 3]
