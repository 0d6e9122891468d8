"""Compare two models on the same rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.measure.measurements import Measurements, ModelMeasurement
from pipeline.release import comparison
from pipeline.stage.split import Split
from pipeline.stage.tasks import unlabelled
from pipeline.stage.tasks.sentence_embeddings import SentenceEmbeddings
from pipeline.stage.tasks.text_classification import TextClassification
from pipeline.terms.errors import EvidenceError
from pipeline.terms.vocabulary import Target
from tests.searches import search


def test_gains_are_rows_that_only_the_candidate_has_right() -> None:
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    answers = {
        "candidate": [right, right, right, wrong],
        "baseline": [wrong, wrong, right, right],
    }
    models = {
        side: ModelMeasurement(digest="", size=1, answers=rows) for side, rows in answers.items()
    }
    measured = Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * 4,
        models=models,
        latency={},
    )
    found = comparison.agreement(measured)
    assert (found["gains"], found["losses"], found["flips"]) == (2, 1, 3)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert found["candidate"]["value"] == 0.75
    assert found["baseline"]["value"] == 0.5


def test_a_search_is_timed_by_its_queries() -> None:
    task = SentenceEmbeddings((), 8, ("query", "positive"))
    asked = comparison.timing(task, search(), Target(), comparison.Effort(200, 5, 60))
    assert (sorted(asked["texts"]), asked["pairs"]) == (["dull", "warm"], None)


def test_rows_without_labels_are_scored_by_the_baseline_s_answers() -> None:
    task = unlabelled.of(TextClassification)(("no", "yes"), 8, ("text",))
    rows = Split("eval", "e.jsonl", "0", ["a", "b"], None, None)
    baseline = ModelMeasurement(digest="", size=1, answers=[[0.9, 0.1], [0.2, 0.8]])
    assert comparison.truth_of(task, rows, baseline) == [0, 1]
    gathered = comparison.gathered({}, task, rows, [0, 1])
    assert (gathered.unlabelled, gathered.main) == (True, "agreement")
    assert gathered.groups == []
    users = replace(rows, groups=["ann", "ann"])
    assert comparison.gathered({}, task, users, [0, 1]).groups == [0, 0]
    labelled = TextClassification(("no", "yes"), 8, ("text",))
    assert comparison.truth_of(labelled, replace(rows, labels=[1, 1]), baseline) == [1, 1]
    broken = baseline.model_copy(update={"answers": [[float("nan")] * 2, [0.2, 0.8]]})
    with pytest.raises(EvidenceError, match=r"outputs NaN for rows of e\.jsonl, so its answers"):
        comparison.truth_of(task, rows, broken)
