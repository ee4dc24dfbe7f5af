from __future__ import annotations

import numpy as np
import pytest
import torch

from pst.evaluate import accuracy, bootstrap_interval, confusion_matrix, macro_f1, metrics

GOLD = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 4])
PREDICTED = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 0, 4])


def test_confusion_counts_gold_by_row() -> None:
    matrix = confusion_matrix(PREDICTED, GOLD, 5)
    assert matrix.tolist() == [[2, 1, 0, 0, 0], [0, 1, 1, 0, 0], [1, 0, 3, 0, 0], [0] * 5, [0, 0, 0, 0, 1]]


def test_f1_is_the_mean_over_the_labels_that_occur() -> None:
    by_hand = []
    for label in (0, 1, 2, 4):  # label 3 occurs nowhere
        hits = int(((label == PREDICTED) & (label == GOLD)).sum())
        precision, recall = hits / int((label == PREDICTED).sum()), hits / int((label == GOLD).sum())
        by_hand.append(2 * precision * recall / (precision + recall))
    assert macro_f1(PREDICTED, GOLD, 5) == pytest.approx(sum(by_hand) / 4)
    assert accuracy(PREDICTED, GOLD) == 0.7


def test_interval_is_that_of_resampling_the_rows() -> None:
    right = np.array([True] * 180 + [False] * 20)
    draws = np.random.default_rng(1).choice(right, size=(4000, 200)).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    ours = bootstrap_interval(0.9, 200, 0)
    assert ours[0] == pytest.approx(low, abs=0.011)
    assert ours[1] == pytest.approx(high, abs=0.011)
    assert bootstrap_interval(1.0, 50, 0) == (1.0, 1.0)


def test_metrics_depend_on_the_seed_alone() -> None:
    assert metrics(PREDICTED, GOLD, 5, 3) == metrics(PREDICTED, GOLD, 5, 3)
