"""Scores per class, compared with numbers computed by hand."""

import numpy as np
import pytest

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.measure.predictions import per_class

TRUTH = [0, 0, 0, 0, 1, 1, 2, 2]
OURS = [0, 0, 1, 1, 1, 0, 2, 2]
THEIRS = [0, 0, 0, 1, 1, 1, 2, 0]


def _model(answers):
    certain = np.eye(4)[np.asarray(answers)]
    return ModelMeasurement(digest="d", size=1, answers=certain.tolist())


@pytest.fixture
def measured():
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b", "c", "never"],
        truth=TRUTH,
        models={"candidate": _model(OURS), "finetune": _model(THEIRS)},
        latency={},
    )


def test_precision_recall_and_f1_are_those_of_the_table(measured):
    a, b, c, never = per_class.compare(measured, "finetune")
    assert (a.rows, b.rows, c.rows, never.rows) == (4, 2, 2, 0)
    assert (a.candidate.precision, a.candidate.recall) == (2 / 3, 1 / 2)
    assert a.candidate.f1 == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert (b.candidate.precision, b.candidate.recall) == (1 / 3, 1 / 2)
    assert (b.reference.precision, b.reference.recall) == (2 / 3, 1)
    assert (c.candidate.f1, c.reference.recall) == (1, 1 / 2)
    assert never.candidate == per_class.Scores(None, None, None)


def test_flips_are_counted_both_ways_under_the_true_class(measured):
    found = per_class.compare(measured, "finetune")
    assert [(result.lost, result.won) for result in found] == [(1, 0), (1, 0), (0, 1), (0, 0)]


def test_an_answer_that_is_no_number_is_missed_and_given_to_no_class(measured):
    measured.models["candidate"].answers[0] = [float("nan")] * 4
    a = per_class.compare(measured, "finetune")[0]
    assert (a.candidate.precision, a.candidate.recall, a.lost) == (1 / 2, 1 / 4, 2)


def test_rows_with_several_labels_count_for_each_of_them():
    def model(*decisions):
        return ModelMeasurement(digest="d", size=1, answers=[[0.5, 0.5, *row] for row in decisions])

    measured = Measurements(
        machine={},
        task="multi-label-classification",
        labels=["a", "b"],
        truth=[[1, 1], [1, 0], [0, 0]],
        models={
            "candidate": model((1, 0), (0, 0), (0, 1)),
            "teacher": model((1, 1), (1, 1), (0, 0)),
        },
        latency={},
    )
    a, b = per_class.compare(measured, "teacher")
    assert (a.rows, a.lost, a.won) == (2, 1, 0)
    assert (b.rows, b.lost, b.won) == (1, 1, 0)
    # All rows have the same probabilities, so that no threshold finds one without a false positive.
    assert a.candidate == per_class.Scores(1.0, 0.5, pytest.approx(2 / 3), 0.0)
    assert b.candidate == per_class.Scores(0.0, 0.0, 0.0, 0.0)
    assert b.reference == per_class.Scores(0.5, 1.0, pytest.approx(2 / 3), 0.0)
    measured.truth[1:] = [[1, 0], [1, 0]]
    a, _ = per_class.compare(measured, "teacher")
    assert a.candidate.recall_1_fpr == 1.0


def test_a_task_without_labels_has_no_classes():
    one = ModelMeasurement(digest="d", size=1, answers=[[0.5], [1.0]])
    measured = Measurements(
        machine={},
        task="regression",
        labels=[],
        truth=[0.5, 1.0],
        models={"candidate": one, "teacher": one},
        latency={},
    )
    assert per_class.compare(measured, "teacher") == []
