from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from nltk.translate.nist_score import corpus_nist
from sacrebleu.metrics.bleu import BLEU

from pst.tasks import ngrams, scores
from pst.tasks.texts import texts

GOLD = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 4])
PREDICTED = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 0, 4])


def once(measure: scores.Measure, rows: int) -> dict[str, float]:
    return {name: float(value) for name, value in measure(np.ones(rows)).items()}


def drawn(measure: scores.Measure, repeats: list[int], rows: int) -> dict[str, float]:
    """The metrics when row i occurs as often as ``repeats`` holds it."""
    counts = np.bincount(repeats, minlength=rows).astype(float)
    return {name: float(value) for name, value in measure(counts).items()}


def test_confusion_counts_gold_by_row() -> None:
    matrix = scores.confusion_matrix(PREDICTED, GOLD, 5)
    assert matrix.tolist() == [[2, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 0, 3, 0, 0], [0] * 5, [0, 0, 0, 0, 1]]


def test_f1_is_the_mean_over_the_labels_that_occur() -> None:
    by_hand = []
    for label in (0, 1, 2, 4):  # label 3 occurs nowhere
        hits = int(((label == PREDICTED) & (label == GOLD)).sum())
        precision, recall = hits / int((label == PREDICTED).sum()), hits / int((label == GOLD).sum())
        by_hand.append(2 * precision * recall / (precision + recall))
    values = once(scores.classification(PREDICTED, GOLD, 5), 10)
    assert values["macro_f1"] == pytest.approx(sum(by_hand) / 4)
    assert values["accuracy"] == pytest.approx(0.7)
    assert "f1" not in values


def test_matthews_is_the_correlation_of_two_labels() -> None:
    gold, predicted = torch.tensor([0, 1, 1, 1, 0, 0, 1, 1]), torch.tensor([0, 1, 0, 1, 1, 0, 1, 1])
    values = once(scores.classification(predicted, gold, 2), 8)
    assert values["matthews"] == pytest.approx(np.corrcoef(gold, predicted)[0, 1])
    assert values["f1"] == pytest.approx(2 * 4 / 10)
    assert once(scores.classification(torch.ones_like(gold), gold, 2), 8)["matthews"] == 0


def test_regression_is_that_of_numpy_with_ties_sharing_ranks() -> None:
    said, gold = torch.tensor([1.0, 2.0, 2.5, 4.0, 0.0]), torch.tensor([1.0, 1.0, 3.0, 5.0, 2.0])
    values = once(scores.regression(said, gold), 5)
    assert values["pearson"] == pytest.approx(np.corrcoef(said, gold)[0, 1])
    assert values["spearman"] == pytest.approx(np.corrcoef([2, 3, 4, 5, 1], [1.5, 1.5, 4, 5, 3])[0, 1])
    assert values["mse"] == pytest.approx(float(((said - gold) ** 2).mean()))
    assert values["pearson_spearman"] == pytest.approx((values["pearson"] + values["spearman"]) / 2)
    assert once(scores.regression(torch.ones(5), gold), 5)["pearson_spearman"] == 0


def test_multilabel_by_hand() -> None:
    gold = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    said = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    values = once(scores.multilabel(said, gold), 4)
    assert values["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert values["macro_f1"] == pytest.approx((1 + 0.5) / 2)  # the third label occurs nowhere
    assert values["subset_accuracy"] == 0.5


def text_measure() -> tuple[scores.Measure, list[str], list[list[str]]]:
    said = ["the cat sat on the mat", "a dog runs", "red house near the old river bank", "it is a nice place"]
    references = [["the cat sat on a mat", "there is a cat on the mat"], ["a dog is running fast"]]
    references += [["the red house near the river bank"], ["it is a nice place"]]
    return texts(said, references, np.array([3.0, 4.0, 5.0, 6.0]), np.array([6.0, 5.0, 7.0, 5.0])), said, references


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "texts"])
def test_counts_stand_for_repeated_rows(kind: str) -> None:
    """A resample's metrics are those of the rows that it holds."""
    generator = torch.Generator().manual_seed(0)
    repeats = [0, 0, 2, 3, 3, 3]
    measured: Any
    if kind == "texts":
        whole, said, references = text_measure()
        losses, tokens = np.array([3.0, 4.0, 5.0, 6.0]), np.array([6.0, 5.0, 7.0, 5.0])
        chosen = texts([said[i] for i in repeats], [references[i] for i in repeats], losses[repeats], tokens[repeats])
        one, other = drawn(whole, repeats, 4), once(chosen, 6)
        for name in ("nist", "cider"):  # their weights are those of all references, resampled or not
            one.pop(name), other.pop(name)
    else:
        shape = (4, 3) if kind == "multilabel" else (4,)
        gold = torch.randint(0, 2, shape, generator=generator)
        predicted = torch.randint(0, 2, shape, generator=generator)
        measured = getattr(scores, kind)
        more = (2,) if kind == "classification" else ()
        one = drawn(measured(predicted, gold, *more), repeats, 4)
        other = once(measured(predicted[repeats], gold[repeats], *more), 6)
    assert one == pytest.approx(other)


def test_intervals_are_those_of_resampling_the_rows() -> None:
    right = np.array([True] * 180 + [False] * 20)
    draws = np.random.default_rng(1).choice(right, size=(4000, 200)).mean(1)
    gold = torch.zeros(200, dtype=torch.long)
    predicted = torch.tensor((~right).astype(int))
    measure = scores.classification(predicted, gold, 2)

    class Toy(scores.Measured):
        primary = "accuracy"

        def measure(self, answers: Any, rows: Any) -> scores.Measure:
            return measure

    found = Toy().metrics({}, [None] * 200, 3)  # type: ignore[list-item]
    assert found["interval"] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.011)
    assert found["interval"] == found["intervals"]["accuracy"]
    assert found == Toy().metrics({}, [None] * 200, 3)  # type: ignore[list-item]
    assert Toy().gains({}, {}, [None] * 200, 3)["accuracy"] == [0.0, 0.0]  # type: ignore[list-item]


def test_bleu_is_sacrebleus_corpus_score() -> None:
    measure, said, references = text_measure()
    most = max(map(len, references))
    streams = [[group[place] if place < len(group) else "" for group in references] for place in range(most)]
    whole = BLEU(tokenize="13a").corpus_score(said, streams)
    assert once(measure, 4)["bleu"] == pytest.approx(whole.score)


def test_nist_is_nltks_for_single_references() -> None:
    said = [text.split() for text in ("the cat sat on the mat there", "a dog runs very fast", "it is a nice old place")]
    wanted = [[text.split()] for text in ("the cat sat on a mat", "a dog runs fast", "it is a nice place")]
    sums = ngrams.nist_sums(said, wanted).sum(0)
    assert float(ngrams.nist(sums)) == pytest.approx(corpus_nist(wanted, said, n=5))
    short = [words[:3] for words in said]
    assert float(ngrams.nist(ngrams.nist_sums(short, wanted).sum(0))) == pytest.approx(corpus_nist(wanted, short, n=3))


def test_cider_of_one_word_by_hand() -> None:
    said = [["red"], ["blue"], ["green"]]
    references = [[["red"], ["red", "red"]], [["grey"]], [["green"]]]
    near = math.exp(-1 / 72)
    assert ngrams.cider(said, references).tolist() == pytest.approx(
        [10 / 4 * (1 + near * 2 / 2) / 2, 0, 10 / 4]
    )  # min(1, 2) * 2 / (1 * 2) = 1


def test_perfect_texts_and_silence() -> None:
    references = [["the quick brown fox jumps"], ["over the lazy dog today"]]
    best = once(texts([group[0] for group in references], references, np.zeros(2), np.ones(2)), 2)
    assert best["bleu"] == pytest.approx(100)
    assert best["rouge_l"] == 1
    assert best["meteor_exact_stem"] > 0.99
    assert best["cider"] == pytest.approx(10)
    assert best["perplexity"] == 1
    worst = once(texts(["", ""], references, np.ones(2), np.ones(2)), 2)
    assert [worst[name] for name in ("bleu", "nist", "rouge_l", "meteor_exact_stem", "cider")] == [0] * 5
    assert worst["perplexity"] == pytest.approx(math.e)


def test_chinese_is_measured_by_character_and_stems_count() -> None:
    values = once(texts(["红色的房子很大"], [["红色的房子不大"]], np.ones(1), np.ones(1)), 1)
    assert 0 < values["bleu"] < 100
    assert 0.5 < values["rouge_l"] < 1
    stem = once(texts(["dogs running"], [["dog runs"]], np.ones(1), np.ones(1)), 1)
    assert stem["meteor_exact_stem"] > 0
    assert stem["rouge_l"] == 0
