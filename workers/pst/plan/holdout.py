"""Which rows validate where the user gave none for it: one rule for the platform and for a run without one."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Sequence


def held_out(
    sources: Sequence[Hashable], classes: Sequence[Collection[Hashable]], share: float, seed: int, *, single: bool
) -> set[int]:
    """The places of the rows that go to validation. ``sources`` are the rows' texts, ``classes`` the classes of each.

    ``single``: every row has one class, and each class gives ``share`` of its rows, rounded, at least one and never
    all; a class with one row stays in training. Elsewhere all rows are taken together, and no row goes that is the last
    in training with one of its classes. Rows of one source stay together, so that repeated rows, or references of one
    source, do not leak into validation.
    """
    strata: dict[str, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, source in enumerate(sources):
        stratum = str(next(iter(classes[index]))) if single else ""
        strata[stratum][source].append(index)
    chosen: set[int] = set()
    for stratum in sorted(strata):
        groups = list(strata[stratum].values())
        wanted = max(1, round(share * sum(map(len, groups))))
        # One generator per class: adding a class changes nothing for the others.
        random.Random(f"{seed}:{stratum}").shuffle(groups)  # noqa: S311 (a split, not a secret)
        several = [] if single else [{each for index in group for each in classes[index]} for group in groups]
        left = Counter(each for found in several for each in found)
        taken: list[int] = []
        for number, group in enumerate(groups[:-1]):
            if len(taken) >= wanted:
                break
            if several and any(left[each] < 2 for each in several[number]):
                continue
            left.subtract(several[number] if several else ())
            taken += group
        chosen.update(taken)
    return chosen
