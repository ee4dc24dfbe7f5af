"""NIST and CIDEr as sums over rows, from their papers; a test holds NIST against nltk's.

NIST (Doddington 2002), n = 1 … 5, ratio = words said / words of the references (mean over a row's references):

    info(w1 … wn) = log2(count(w1 … wn-1) / count(w1 … wn))        counts over all references
    NIST = sum_n (sum of info over the matched n-grams / n-grams said) * exp(beta * log(min(ratio, 1))^2)

CIDEr (Vedantam et al. 2015), in the form CIDEr-D that evaluations use, n = 1 … 4, N rows, df rows whose references hold
the n-gram, g(w) = count(w) (log N - log max(df(w), 1)), c what was said, r a reference:

    CIDEr_n = 10 mean over r of exp(-(len(c) - len(r))^2 / (2 * 6^2)) * sum_w min(g_c(w), g_r(w)) g_r(w) / (|g_c| |g_r|)

and CIDEr is the mean over n. Legend: a row is a list of words; references, a list of rows for each row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import reduce

import numpy as np

from pst.tasks.scores import Array

NIST_ORDER = 5
NIST_BETA = math.log(0.5) / math.log(1.5) ** 2  # two thirds of the words halve the score
CIDER_ORDER = 4
CIDER_SIGMA = 6.0

Words = list[str]
Grams = Counter[tuple[str, ...]]


def grams(words: Words, order: int) -> Grams:
    """How often each n-gram of ``order`` occurs."""
    return Counter(tuple(words[at : at + order]) for at in range(len(words) - order + 1))


def nist_sums(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> Array:
    """Sums (rows, 2 * 5 + 2): information matched and n-grams said for each n, words said, words of the references."""
    counts: Grams = Counter()
    for group in references:
        for reference in group:
            for order in range(1, NIST_ORDER + 1):
                counts.update(grams(reference, order))
    words = sum(count for gram, count in counts.items() if len(gram) == 1)

    def information(gram: tuple[str, ...]) -> float:
        return math.log2((counts[gram[:-1]] if len(gram) > 1 else words) / counts[gram])

    sums = np.zeros((len(said), 2 * NIST_ORDER + 2))
    for row, (answer, group) in enumerate(zip(said, references, strict=True)):
        for order in range(1, NIST_ORDER + 1):
            mine = grams(answer, order)
            allowed: Grams = reduce(lambda one, other: one | other, (grams(reference, order) for reference in group))
            sums[row, order - 1] = sum(information(gram) * count for gram, count in (mine & allowed).items())
            sums[row, NIST_ORDER + order - 1] = sum(mine.values())
        sums[row, -2] = len(answer)
        sums[row, -1] = sum(map(len, group)) / len(group)
    return sums


def nist(sums: Array) -> Array:
    """NIST (…) from :func:`nist_sums`, summed over rows, (…, 12)."""
    matched, spoken = sums[..., :NIST_ORDER], sums[..., NIST_ORDER : 2 * NIST_ORDER]
    ratio = np.minimum(sums[..., -2] / np.maximum(sums[..., -1], 1), 1)
    penalty = np.where(ratio > 0, np.exp(NIST_BETA * np.log(np.where(ratio > 0, ratio, 1)) ** 2), 0)
    score: Array = (matched / np.maximum(spoken, 1)).sum(-1) * penalty
    return score


def cider(said: Sequence[Words], references: Sequence[Sequence[Words]]) -> Array:
    """CIDEr of each row (rows)."""
    held: Grams = Counter()
    for group in references:
        found = {gram for reference in group for order in range(1, CIDER_ORDER + 1) for gram in grams(reference, order)}
        held.update(found)
    total = math.log(len(said))

    def weighed(words: Words, order: int) -> tuple[dict[tuple[str, ...], float], float]:
        vector = {gram: count * (total - math.log(max(held[gram], 1))) for gram, count in grams(words, order).items()}
        return vector, math.sqrt(sum(value**2 for value in vector.values()))

    result = np.zeros(len(said))
    for row, (answer, group) in enumerate(zip(said, references, strict=True)):
        for order in range(1, CIDER_ORDER + 1):
            mine, length = weighed(answer, order)
            for reference in group:
                theirs, size = weighed(reference, order)
                if length and size:
                    alike = sum(min(mine[gram], value) * value for gram, value in theirs.items() if gram in mine)
                    near = math.exp(-((len(answer) - len(reference)) ** 2) / (2 * CIDER_SIGMA**2))
                    result[row] += alike / (length * size) * near / len(group)
    return 10 * result / CIDER_ORDER
