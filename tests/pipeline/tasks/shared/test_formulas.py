"""Formulas of scores, checked against textbook definitions."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from rarefy.pipeline.tasks.shared import formulas


def test_scores_by_weights_are_the_textbook_s_of_repeated_rows():
    generator = np.random.default_rng(4)
    probabilities = generator.dirichlet([1, 1, 1], 50)
    truth = generator.integers(0, 3, 50)
    times = generator.integers(0, 4, 50)
    rows, labels = np.repeat(probabilities, times, axis=0), np.repeat(truth, times)
    answers, sure = rows.argmax(axis=1), rows.max(axis=1)
    f1, gaps = [], []
    for label in range(3):
        precision = np.mean(labels[answers == label] == label)
        recall = np.mean(answers[labels == label] == label)
        f1.append(2 * precision * recall / (precision + recall))
    for low in np.arange(15) / 15:
        inside = (sure >= low) & (sure < low + 1 / 15)
        right = (answers == labels)[inside]
        gaps.append(abs(right.sum() - sure[inside].sum()) / len(rows))
    expected = {"accuracy": np.mean(answers == labels), "macro_f1": np.mean(f1), "ece": sum(gaps)}
    for name, formula in formulas.FORMULAS.items():
        score = formula(probabilities, truth)
        assert score(times[None].astype(float))[0] == pytest.approx(expected[name])


def test_a_row_answered_nan_is_wrong_whatever_its_label():
    probabilities = np.array([[np.nan, np.nan], [0.9, 0.1]])
    score = formulas.accuracy(probabilities, np.array([0, 0]))
    assert score(np.ones((1, 2)))[0] == 0.5


def test_a_label_that_neither_occurs_nor_is_answered_has_no_f1():
    """As in scikit-learn; one that is only answered, or only occurs, has an F1 of 0."""
    generator = np.random.default_rng(5)
    answers, truth = (generator.choice(labels, 40) for labels in ([0, 1, 4], [0, 1, 2]))
    score = formulas.macro_f1(np.eye(6)[answers], truth)
    times = np.stack([np.ones(40), generator.integers(0, 3, 40), truth == 1, (truth + answers) < 2])
    repeated = [np.repeat(np.arange(40), row.astype(int)) for row in times]
    expected = [f1_score(truth[rows], answers[rows], average="macro") for rows in repeated]
    assert score(times.astype(float)) == pytest.approx(expected)
    assert formulas.mean_f1(*np.zeros((2, 3, 2), bool))(np.ones((1, 3))).tolist() == [0.0]
