"""Metrics of generated texts against one or several references each: BLEU (sacrebleu), ROUGE-L (rouge-score), METEOR
(nltk), NIST and CIDEr (:mod:`pst.tasks.ngrams`), and the perplexity of the first reference.

METEOR's third stage looks synonyms up in WordNet, which is a download: this is METEOR with the exact and the stem
stage, and it is named so. BLEU is sacrebleu's with its own tokenizer ("13a", or "zh" where a reference holds Chinese);
the other metrics take the same tokens in lower case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from pst.tasks import ngrams
from pst.tasks.scores import Array, Measure

CHINESE = re.compile("[\u3400-\u9fff]")


class _Split(Tokenizer):  # type: ignore[misc]
    """rouge-score's own tokenizer drops all but ASCII letters and digits."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


class _NoSynonyms:
    """Stands where nltk expects WordNet."""

    def synsets(self, word: str) -> list[str]:
        return []


def texts(said: Sequence[str], references: Sequence[Sequence[str]], losses: Array, tokens: Array) -> Measure:
    """The metrics of texts ``said`` (rows), with each row's references, and of the reference's ``losses`` (summed over
    its ``tokens``), both (rows)."""
    chinese = any(CHINESE.search(reference) for group in references for reference in group)
    tokenizer: Callable[[str], str] = (TokenizerZh if chinese else Tokenizer13a)()
    bleu = BLEU(tokenize="zh" if chinese else "13a", effective_order=True)

    def words(text: str) -> list[str]:
        return tokenizer(text).lower().split()

    spoken = [words(text) for text in said]
    wanted = [[words(text) for text in group] for group in references]
    parts = [bleu.sentence_score(text, list(group)) for text, group in zip(said, references, strict=True)]
    bleu_sums = np.array([[*part.counts, *part.totals, part.sys_len, part.ref_len] for part in parts], np.float64)
    rouge = RougeScorer(["rougeL"], tokenizer=_Split())
    by_row = {
        "rouge_l": np.array(
            [
                rouge.score_multi([" ".join(text) for text in group], " ".join(text_said))["rougeL"].fmeasure
                for text_said, group in zip(spoken, wanted, strict=True)
            ]
        ),
        "meteor_exact_stem": np.array(
            [
                meteor_score(group, answer, wordnet=_NoSynonyms()) if answer else 0.0
                for answer, group in zip(spoken, wanted, strict=True)
            ]
        ),
        "cider": ngrams.cider(spoken, wanted),
    }
    nist_sums = ngrams.nist_sums(spoken, wanted)

    def of(counts: Array) -> dict[str, Array]:
        rows = counts.sum(-1)
        result = {"bleu": _bleu(counts @ bleu_sums), "nist": ngrams.nist(counts @ nist_sums)}
        result |= {name: counts @ values / rows for name, values in by_row.items()}
        return result | {"perplexity": np.exp(np.minimum(counts @ losses / np.maximum(counts @ tokens, 1), 50.0))}

    return of


def _bleu(sums: Array) -> Array:
    """sacrebleu's corpus BLEU, 0 to 100, (…) from sums (…, 4 + 4 + 2) of matches, n-grams and lengths."""
    flat = sums.reshape(-1, sums.shape[-1]).round().astype(int)
    values = [
        BLEU.compute_bleu(
            row[:4].tolist(), row[4:8].tolist(), int(row[8]), int(row[9]), smooth_method="exp", max_ngram_order=4
        ).score
        for row in flat
    ]
    return np.array(values).reshape(sums.shape[:-1])
