"""Messages: English texts that remember how they were made."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pst.messages import LONGEST_VALUE, Message, recall, said, word

CHINESE = {
    "There is no {kind} {name}; {why}": "没有{kind}“{name}”：{why}",
    "model": "模型",
    "it was {what} {times:,} times.": "已被{what} {times:,} 次。",
    "deleted": "删除",
}
NESTED = Message(
    "There is no {kind} {name}; {why}",
    kind=word("model"),
    name="a/b",
    why=Message("it was {what} {times:,} times.", what=word("deleted"), times=1200),
)


def test_a_message_is_its_english_text() -> None:
    assert NESTED == "There is no model a/b; it was deleted 1,200 times."
    assert f"{NESTED}" == "".join([NESTED]) == NESTED.text and type(NESTED.text) is str
    assert json.loads(json.dumps(NESTED)) == NESTED
    assert NESTED.render(CHINESE.get) == "没有模型“a/b”：已被删除 1,200 次。"


def test_an_exception_s_text_is_the_message() -> None:
    assert str(ValueError(NESTED)) is NESTED
    around = Message("No: {error}", error=ValueError(NESTED))
    assert around.params["error"] is NESTED


@pytest.mark.parametrize("copied", [copy.deepcopy(NESTED), pickle.loads(pickle.dumps(NESTED)), str(NESTED)])
def test_copies_are_messages(copied: Any) -> None:
    assert copied == NESTED and copied.render(CHINESE.get) == NESTED.render(CHINESE.get)


def test_long_values_are_cut() -> None:
    message = Message("no {key}", key="x" * 10**6)
    assert len(message) == len("no ") + LONGEST_VALUE and message.endswith("x…")


def test_what_was_kept_or_sent_is_the_message_again() -> None:
    kept = json.loads(json.dumps({"text": NESTED, "said": said(NESTED)}))
    again = recall(kept["text"], kept["said"])
    assert isinstance(again, Message) and again.render(CHINESE.get) == NESTED.render(CHINESE.get)
    assert said(again) == kept["said"]
    assert said("plain") is None and recall("plain", None) == "plain"


@pytest.mark.parametrize(
    "how",
    [
        None,
        [],
        "model",
        {},
        {"template": "model"},
        {"template": 1, "params": {}},
        {"template": "x" * 10_000, "params": {}},
        {"template": "model", "params": {str(number): 1 for number in range(100)}},
        {"template": "model", "params": {"a": None}},
        {"template": "model", "params": {"a": {"template": "model", "params": {}}}},
    ],
)
def test_an_unsound_one_is_its_text(how: Any) -> None:
    found = recall("Some text.", how)
    assert found == "Some text." and not isinstance(found, Message)


@pytest.mark.parametrize("params", [{}, {"kind": 1, "name": 2}, {"kind": "a", "name": "b", "Why": "c"}])
def test_a_translation_that_does_not_fit_is_the_text(params: Any) -> None:
    found = recall("Some text.", {"template": "There is no {kind} {name}; {why}", "params": params})
    assert isinstance(found, Message) and found.render(CHINESE.get) == "Some text."


def test_a_template_from_elsewhere_is_never_formatted() -> None:
    for template in ("{a.__class__.__init__}", "{a:>99999999}", "{0}", "{"):
        found = recall("Some text.", {"template": template, "params": {"a": "b"}})
        assert isinstance(found, Message) and found.render(CHINESE.get) == "Some text."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "template", "params", "a"]), inner),
)


@given(st.text(), JSON)
def test_anything_can_be_recalled(text: str, how: Any) -> None:
    found = recall(text, how)
    assert found == text
    if isinstance(found, Message):
        assert found.render(CHINESE.get) is not None


def test_what_is_recalled_is_bounded_in_all() -> None:
    """Many values in many messages are no more than many in one."""
    inner = {"text": "t", "template": "t", "params": {str(number): "x" * 500 for number in range(8)}}
    found = recall("Some text.", {"template": "t", "params": {str(number): inner for number in range(8)}})
    assert not isinstance(found, Message)
