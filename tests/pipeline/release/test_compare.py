"""Compare two bundles on the same rows, and judge the regression."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rarefy.pipeline.data.split import Split
from rarefy.pipeline.measure.latency import compare as gate
from rarefy.pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from rarefy.pipeline.measure.row_lengths import rows_to_time
from rarefy.pipeline.release.bundles import Bundle
from rarefy.pipeline.release.compare import (
    Comparison,
    collect,
    compare_answers,
    compare_scores,
    judge,
    read_rows,
    truth_for,
)
from rarefy.pipeline.tasks import unlabelled
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.embeddings.task import SENTENCE_EMBEDDINGS
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import DataError, EvidenceError
from rarefy.pipeline.terms.interval import Interval
from rarefy.pipeline.terms.metrics import OwnMetric
from rarefy.pipeline.terms.recipe_parts import Data, Target
from tests.pipeline.measure import bundles
from tests.searches import search


def test_a_limit_is_on_the_task_s_main_score() -> None:
    rows = np.random.default_rng(0).lognormal(0, 0.3, (9, 60)).tolist()
    timed = Latency(samples={"candidate": rows, "baseline": rows})
    scores = np.random.default_rng(1).normal(size=(200, 1))
    same = ModelMeasurement(digest="d", size=1, answers=scores.tolist())
    measured = Measurements(
        machine={}, task="regression", labels=[], truth=scores[:, 0].tolist(),
        models={"candidate": same, "baseline": same}, latency={"default": timed},
    )  # fmt: skip
    equal = gate.Comparison("equal", Interval(1, 1, 1), None)
    verdict = judge(Comparison({}, measured, timed, equal, 0.05), 0.2, Target(name="default"))
    judged = {budget.metric: budget.outcome for budget in verdict.budgets}
    assert judged["spearman"] == "pass"
    assert "accuracy" not in judged


@pytest.mark.parametrize(("other", "outcome"), [(0, "pass"), (60, "fail")])
def test_rows_without_labels_are_judged_by_agreement_with_the_baseline(
    other: int, outcome: str
) -> None:
    """A bundle against itself, and one that answers some rows otherwise."""
    chance = np.random.default_rng(0).random((400, 1))
    answers = np.hstack([chance, 1 - chance])
    ours = answers.copy()
    ours[:other] = answers[:other, ::-1]
    blocks = np.random.default_rng(1).lognormal(0, 0.01, (20, 100)).tolist()
    timed = Latency(samples={"candidate": blocks, "baseline": blocks}, provider="cpu")
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], unlabelled=True,
        truth=[int(row[1] > row[0]) for row in answers], latency={"default": timed},
        models={
            "candidate": ModelMeasurement(digest="c", size=1, answers=ours.tolist()),
            "baseline": ModelMeasurement(digest="b", size=1, answers=answers.tolist()),
        },
    )  # fmt: skip
    equal = gate.Comparison("equal", Interval(1, 1, 1), None)
    verdict = judge(Comparison({}, measured, timed, equal, 0.05), 0.05, Target(name="default"))
    judged = {budget.metric: budget.outcome for budget in verdict.budgets}
    assert judged == {"agreement": outcome, "latency_p50": "pass", "size": "pass"}


def rows_for(folder: Path, *labels: str | None) -> tuple[Bundle, Data]:
    """A bundle with the labels no and yes, and a file of rows as ``--data`` names it."""
    bundle = Bundle("tiny", bundles.make(folder / "bundle"), None)
    rows = [{"text": f"w{at}", "label": label} for at, label in enumerate(labels)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return bundle, Data(train="rows.jsonl", eval="rows.jsonl")


def test_labels_of_rows_are_places_in_the_bundle_s_labels(tmp_path: Path) -> None:
    task, split = read_rows(*rows_for(tmp_path, "yes", "yes", "no"), tmp_path, [])
    assert task.labels == ("no", "yes")
    assert split.labels == [1, 1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ("no", "maybe"),
            "eval has the label 'maybe', which does not occur in the model's labels (no, yes)",
        ),
        ((None, None), "the eval split has no usable rows: 2 rows without a label"),
    ],
)
def test_rows_that_the_bundle_cannot_answer_are_refused_without_a_word_of_train(
    tmp_path: Path, labels: tuple[str | None, ...], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        read_rows(*rows_for(tmp_path, *labels), tmp_path, [])
    assert str(raised.value) == f"rows.jsonl: {message}"


def test_only_eval_is_opened(tmp_path: Path) -> None:
    bundle, table = rows_for(tmp_path, "yes", "no")
    (tmp_path / "train.jsonl").write_text("no rows")
    found = read_rows(bundle, table.model_copy(update={"train": "train.jsonl"}), tmp_path, [])
    assert len(found[1]) == 2


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
    found = compare_answers(measured)
    assert (found["gains"], found["losses"], found["flips"]) == (2, 1, 3)
    assert found["difference"]["value"] == pytest.approx(0.25)
    assert found["candidate"]["value"] == 0.75
    assert found["baseline"]["value"] == 0.5


def test_a_search_is_timed_by_its_queries() -> None:
    task = SENTENCE_EMBEDDINGS.bind((), 8, ("query", "positive"))
    texts, pairs = rows_to_time(task, search(), 200, seed=0)
    assert (sorted(texts), pairs) == (["dull", "warm"], None)


def test_rows_without_labels_are_scored_by_the_baseline_s_answers() -> None:
    task = unlabelled.without_labels(TEXT_CLASSIFICATION).bind(("no", "yes"), 8, ("text",))
    rows = Split("eval", "e.jsonl", "0", ["a", "b"], None, None)
    baseline = ModelMeasurement(digest="", size=1, answers=[[0.9, 0.1], [0.2, 0.8]])
    assert truth_for(task, rows, baseline) == [0, 1]
    gathered = collect({}, task, rows, [0, 1])
    assert (gathered.unlabelled, gathered.main) == (True, "agreement")
    assert gathered.groups == []
    users = replace(rows, groups=["ann", "ann"])
    assert collect({}, task, users, [0, 1]).groups == [0, 0]
    labelled = TEXT_CLASSIFICATION.bind(("no", "yes"), 8, ("text",))
    assert truth_for(labelled, replace(rows, labels=[1, 1]), baseline) == [1, 1]
    broken = baseline.model_copy(update={"answers": [[float("nan")] * 2, [0.2, 0.8]]})
    with pytest.raises(EvidenceError, match=r"outputs NaN for rows of e\.jsonl, so its"):
        truth_for(task, rows, broken)


def test_the_recipe_s_labels_and_slices_are_judged_against_the_baseline() -> None:
    truth = np.repeat([0, 1], [500, 300])
    certain = np.eye(2)
    ours = truth.copy()
    ours[500:560] = 0
    blocks = np.random.default_rng(1).lognormal(0, 0.01, (6, 100)).tolist()
    timed = Latency(samples={"candidate": blocks, "baseline": blocks}, provider="cpu")
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], truth=truth.tolist(),
        columns={"source": ["web"] * 800}, latency={"default": timed},
        models={
            "candidate": ModelMeasurement(digest="c", size=1, answers=certain[ours].tolist()),
            "baseline": ModelMeasurement(digest="b", size=1, answers=certain[truth].tolist()),
        },
    )  # fmt: skip
    equal = gate.Comparison("equal", Interval(1, 1, 1), None)
    comparison = Comparison({}, measured, timed, equal, 0.05)
    recipe = [
        Budget(metric="recall", label="*", max_drop="5 points", against="finetune"),
        Budget(metric="accuracy", slice="source=web", min="85 %"),
        Budget(metric="accuracy", min="99 %"),
    ]
    target = Target(name="default")
    verdict = judge(comparison, 0.2, target, recipe)
    assert verdict.outcome == "fail"
    *_, labels, source = verdict.budgets
    assert (labels.against, labels.outcome, labels.cells[0].name) == ("baseline", "fail", "b")
    assert (source.against, source.outcome) == (None, "pass")
    assert len(verdict.budgets) == len(judge(comparison, 0.2, target).budgets) + 2


def test_scores_of_answers_with_nan_are_not_compared() -> None:
    """A metric of one's own may raise an error on them; the verdict fails because of them."""

    def raises(predictions: Any, labels: Any) -> float:
        raise ValueError("NaN")

    metric = OwnMetric("mine:cost", raises, "c0de")
    budgets = [
        Budget(metric="auroc", min=0.5),
        Budget(metric="mine:cost", max=1).with_own(metric),
    ]
    fine, broken = (
        ModelMeasurement(digest="d", size=1, answers=[[0.9, 0.1], [low, 0.8]])
        for low in (0.2, float("nan"))
    )
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], truth=[0, 1], latency={},
        models={"candidate": broken, "baseline": fine},
    )  # fmt: skip
    assert compare_scores(measured, budgets) == []
    measured.models["candidate"] = fine
    [auroc] = compare_scores(measured, budgets[:1])
    assert auroc["candidate"]["value"] == 1
