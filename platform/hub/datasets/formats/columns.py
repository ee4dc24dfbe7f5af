"""Which column is the text, which the label: by their names, else by what stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text", "text_pair"),
    ("query", "passage"),
    ("question", "sentence"),
)
TEXTS = (
    "text", "sentence", "question", "utterance", "query", "content", "message", "review", "comment", "document",
    "title", "body", "description", "input", "tweet", "phrase", "texte", "texto", "文本", "句子", "内容", "评论",
)  # fmt: skip
LABELS = (
    "label", "gold_label", "intent", "class", "category", "sentiment", "target", "labels", "topic", "tag", "label_text",
    "rating", "answer", "output", "quality", "classe", "klasse", "kategorie", "etiqueta", "标签", "类别", "情感",
)  # fmt: skip
SOURCES = (
    "source", "input", "prompt", "mr", "meaning_representation", "triples", "tripleset", "data", "question", "document",
    "article", "text", "src", "context", "文本", "输入",
)  # fmt: skip
TARGETS = (
    "target", "output", "ref", "human_reference", "reference", "summary", "response", "completion", "answer", "tgt",
    "text", "label", "目标", "输出",
)  # fmt: skip
REFERENCES = "references"
NUMBERS = ("score", "similarity", "value", "number", "rating", "label", "target", "stars", "分数")
KNOWN = frozenset(
    {name for pair in PAIRS for name in pair} | {*TEXTS, *LABELS, *SOURCES, *TARGETS, *NUMBERS, REFERENCES}
)


@dataclass(frozen=True)
class Roles:
    """Column names; ``text_pair`` is empty for single texts, ``references`` where there are none."""

    text: str
    text_pair: str
    label: str
    references: str = ""


def suggest(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | None]],
    *,
    task: str = "classification",
    text: str = "",
    text_pair: str = "",
    label: str = "",
    references: str = "",
) -> Roles:
    """Roles for ``columns``, of which ``rows`` is a sample; those given stay. Empty where no column is left."""
    if task == "generation":
        return _of_generation(columns, rows, text, label, references)
    if task == "regression" and not label:
        label = _known(NUMBERS, [name for name in columns if name not in {text, text_pair}])
    free = [name for name in columns if name not in {text, text_pair, label}]
    if not text and not text_pair and (label or len(free) > 2):
        by_name = {name.casefold(): name for name in free}
        for first, second in PAIRS:
            if first in by_name and second in by_name:
                text, text_pair = by_name[first], by_name[second]
                free = [name for name in free if name not in {text, text_pair}]
                break
    if not text:
        likely_label = "" if label else _known(LABELS, free)
        candidates = [name for name in free if name != likely_label] or free
        text = _known(TEXTS, candidates) or _longest(candidates, columns, rows)
        free = [name for name in free if name != text]
    if not label:
        label = _known(LABELS, free) or _least_varied(free, columns, rows)
    return Roles(text, text_pair, label)


def _of_generation(
    columns: Sequence[str], rows: Sequence[Sequence[str | None]], source: str, target: str, references: str
) -> Roles:
    free = [name for name in columns if name not in {source, target, references}]
    if not references:
        references = _known([REFERENCES], free)
        free = [name for name in free if name != references]
    if not target:
        target = _known(TARGETS, [name for name in free if source or name != _known(SOURCES, free)])
        free = [name for name in free if name != target]
    if not source:
        source = _known(SOURCES, free) or _longest(free, columns, rows)
        free = [name for name in free if name != source]
    return Roles(source, "", target or references or _longest(free, columns, rows), references if target else "")


def _known(names: Sequence[str], columns: Sequence[str]) -> str:
    """The column with the first of the ``names`` that there is."""
    by_name = {column.casefold(): column for column in reversed(columns)}
    return next((by_name[name] for name in names if name in by_name), "")


def _values(name: str, columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> list[str]:
    index = list(columns).index(name)
    return [value for row in rows if index < len(row) and (value := row[index])]


def _longest(names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    def mean_length(name: str) -> float:
        values = _values(name, columns, rows)
        return sum(map(len, values)) / max(1, len(values))

    return max(names, key=mean_length, default="")


def _least_varied(names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
    """The column with the fewest different values, two at least: one value tells nothing apart."""

    def variety(name: str) -> tuple[bool, int]:
        different = len(set(_values(name, columns, rows)))
        return different < 2, different

    return min(names, key=variety, default="")
