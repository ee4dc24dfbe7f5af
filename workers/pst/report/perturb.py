"""Seeded perturbations of texts, for the robustness of a model: what happens to the metric when users write carelessly.

    typos      5 % of the characters: one is left out, doubled, or swapped with the next
    word_drop  one word in ten is left out (at least one; in a text without spaces, characters)
    case       each word in capitals, in small letters, or with a capital, by lot

A perturbed text depends on the seed, the kind and the row's place alone: every model meets the very same texts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pst.model.data import Row

LIMIT = 500
GENERATION_LIMIT = 50  # writing an answer takes a forward pass for each token
TYPO_SHARE = 0.05
DROP_SHARE = 0.1


def _typos(text: str, draw: random.Random) -> str:
    letters = list(text)
    for _ in range(max(1, round(len(letters) * TYPO_SHARE))):
        if not letters:
            break
        place = draw.randrange(len(letters))
        kind = draw.choice(("leave out", "double", "swap")) if len(letters) > 1 else "double"
        if kind == "leave out":
            del letters[place]
        elif kind == "double":
            letters.insert(place, letters[place])
        else:
            place = min(place, len(letters) - 2)
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def _word_drop(text: str, draw: random.Random) -> str:
    words = text.split()
    between = " "
    if len(words) == 1:  # a script without spaces, or a single word
        words, between = list(words[0]), ""
    if len(words) < 2:
        return text
    gone = set(draw.sample(range(len(words)), max(1, round(len(words) * DROP_SHARE))))
    return between.join(word for place, word in enumerate(words) if place not in gone)


def _case(text: str, draw: random.Random) -> str:
    changes: tuple[Callable[[str], str], ...] = (str.upper, str.lower, str.capitalize)
    return " ".join(draw.choice(changes)(word) for word in text.split(" "))


KINDS: dict[str, Callable[[str, random.Random], str]] = {"typos": _typos, "word_drop": _word_drop, "case": _case}


def limit_of(task: str) -> int:
    """Rows that are perturbed for a task."""
    return GENERATION_LIMIT if task == "generation" else LIMIT


def chosen(rows: int, seed: int, limit: int = LIMIT) -> list[int]:
    """The places of the rows that are perturbed, in rising order: all, or ``limit`` drawn from ``seed``."""
    if rows <= limit:
        return list(range(rows))
    return sorted(random.Random(f"{seed} rows").sample(range(rows), limit))  # noqa: S311 (no secret)


def perturbations(rows: Sequence[Row], seed: int, limit: int = LIMIT) -> dict[str, list[Row]]:
    """By kind, the :func:`chosen` rows with their texts perturbed; labels stay as they are."""
    places = chosen(len(rows), seed, limit)
    return {kind: [_perturbed(rows[place], kind, f"{seed} {kind} {place}") for place in places] for kind in KINDS}


def _perturbed(row: Row, kind: str, seed: str) -> Row:
    change, draw = KINDS[kind], random.Random(seed)  # noqa: S311 (no secret)
    pair = None if row.text_pair is None else change(row.text_pair, draw)
    return replace(row, text=change(row.text, draw), text_pair=pair)


def reported_split(names: Mapping[str, object]) -> str:
    """The split that measures are taken on: test where there is one."""
    return "test" if "test" in names else "validation"


def answers_needed(rows: Mapping[str, Sequence[Row]], seed: int, limit: int = LIMIT) -> dict[str, list[Row]]:
    """Everything that both models must answer: validation and test (``rows`` by split), and each perturbation of the
    split that is reported."""
    splits = {name: list(rows[name]) for name in ("validation", "test") if name in rows}
    return splits | perturbations(splits[reported_split(splits)], seed, limit)
