"""Entities of tagged words, by type."""

from __future__ import annotations

import numpy as np
import pytest
from seqeval.metrics import classification_report

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.measure.predictions import per_class

NAMES = ("O", "B-A", "I-A", "B-C", "I-C")


def measured(seed: int) -> tuple[Measurements, list[list[list[str]]]]:
    """Sentences with random tags; return also the tags of the truth and of both models."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 9, 30)
    sides = [[draw.integers(0, 5, length).tolist() for length in lengths] for _ in range(3)]
    truth = [{"tags": tags} for tags in sides[0]]
    truth[0]["names"] = list(NAMES)
    models = {
        name: ModelMeasurement(
            digest=name, size=1, answers=np.eye(5)[np.concatenate(side)].tolist()
        )
        for name, side in zip(("candidate", "teacher"), sides[1:], strict=True)
    }
    found = Measurements(
        machine={},
        task="token-classification",
        labels=list(NAMES),
        truth=truth,
        models=models,
        latency={},
    )
    return found, [[[NAMES[tag] for tag in tags] for tags in side] for side in sides]


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_and_f1_of_a_type_are_seqeval_s(seed):
    found, (truth, ours, theirs) = measured(seed)
    results = per_class.compare(found, "teacher")
    assert [result.label for result in results] == ["A", "C"]
    reports = [
        classification_report(truth, side, output_dict=True, zero_division=0)
        for side in (ours, theirs)
    ]
    for result in results:
        for scores, report in zip((result.candidate, result.reference), reports, strict=True):
            want = report[result.label]
            assert result.rows == want["support"]
            assert (scores.precision or 0) == pytest.approx(want["precision"])
            assert (scores.recall or 0) == pytest.approx(want["recall"])
            assert (scores.f1 or 0) == pytest.approx(want["f1-score"])


def test_entities_that_only_one_model_finds_are_counted():
    found, _ = measured(0)
    tags = [1, 2, 0, 3]
    truth = [{"tags": tags, "names": list(NAMES)}]
    models = {
        name: ModelMeasurement(digest=name, size=1, answers=np.eye(5)[given].tolist())
        for name, given in (("candidate", [1, 0, 0, 3]), ("teacher", [1, 2, 0, 0]))
    }
    measured_one = found.model_copy(update={"truth": truth, "models": models})
    first, second = per_class.compare(measured_one, "teacher")
    assert (first.label, first.rows, first.lost, first.won) == ("A", 1, 1, 0)
    assert (second.label, second.rows, second.lost, second.won) == ("C", 1, 0, 1)
