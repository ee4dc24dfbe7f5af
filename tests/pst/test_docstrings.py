"""The examples in the library's docstrings run, and what people build on has one."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pst.files import formats
from pst.layers import inject
from pst.layers.linear import PrunableLinear
from pst.plan import planner
from pst.sparsity import masks, patterns, schedule, streaming

ROOT = Path(__file__).resolve().parents[2] / "workers"
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "pst").rglob("*.py")
    if ">>>" in file.read_text("utf-8")
)
PUBLIC: list[Callable[..., Any]] = [
    planner.plan,
    masks.select,
    masks.select_global,
    patterns.n_m_mask,
    schedule.cubic_sparsity,
    streaming.streaming_top_k,
    formats.write_sparse,
    *(
        type_
        for type_ in vars(inject).values()
        if isinstance(type_, type) and issubclass(type_, PrunableLinear) and type_ is not PrunableLinear
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed  # doctest has printed which


@pytest.mark.parametrize("item", PUBLIC, ids=lambda item: item.__name__)
def test_what_is_public_has_an_example(item: Callable[..., Any]) -> None:
    assert ">>> " in (item.__doc__ or "")
