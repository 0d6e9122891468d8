"""Budgets on labels and slices: each cell by its own interval, a family by Holm's correction."""

import numpy as np
import pytest
from scipy.stats import binomtest

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement, Predicted
from rarefy.pipeline.measure.predictions.predict import metrics
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.interval import HALF_A_ROW, Interval
from rarefy.pipeline.verdict.cell_scores import Cell
from rarefy.pipeline.verdict.cells import judge_cells
from rarefy.pipeline.verdict.judge import judge
from rarefy.pipeline.verdict.verdict import BudgetResult, Verdict
from tests.pipeline.verdict.measured import CPU, Budget, one

LABELS = ["a", "b", "c", "never"]


def model(answers, labels=4):
    certain = np.eye(labels)[np.asarray(answers)]
    return ModelMeasurement(digest="d", size=1, answers=certain.tolist())


def measured(truth, ours, theirs, **fields):
    return Measurements(
        machine={},
        task="text-classification",
        labels=LABELS,
        truth=list(map(int, truth)),
        models={"candidate": model(ours), "finetune": model(theirs)},
        latency={},
        **fields,
    )


@pytest.fixture
def loses_c():
    """Labels a and b have 900 rows each, c has 200; the candidate calls 30 rows of c an a."""
    truth = np.repeat([0, 1, 2], [900, 900, 200])
    theirs = truth.copy()
    theirs[::50] = 0
    ours = theirs.copy()
    rows = np.flatnonzero((truth == 2) & (theirs == 2))[:30]
    ours[rows] = 0
    return measured(truth, ours, theirs)


def test_the_recall_of_a_label_is_the_accuracy_of_its_rows(loses_c):
    found = one(loses_c, metric="recall", label="c", max_drop="5 points", against="finetune")
    assert found.outcome == "fail"
    rows = 200
    expected = intervals.paired_difference(0, 30, rows, 0.90, HALF_A_ROW)
    assert found.value == pytest.approx(30 / rows)
    assert (found.low, found.high) == pytest.approx((-expected.high, -expected.low))
    assert found.subject == "recall (label=c)"
    assert found.reason.startswith("c: recall differs from finetune's by −15.00 points")
    assert [(cell.name, cell.rows) for cell in found.cells] == [("c", rows)]


def test_the_mean_may_hold_while_a_label_loses(loses_c):
    assert (
        one(loses_c, metric="accuracy", max_drop="3 points", against="finetune").outcome == "pass"
    )
    family = {"metric": "recall", "label": "*", "max_drop": "3 points", "against": "finetune"}
    found = one(loses_c, **family)
    assert [(cell.name, cell.outcome) for cell in found.cells] == [
        ("c", "fail"),
        ("never", "inconclusive"),
        ("a", "pass"),
        ("b", "pass"),
    ]
    assert (found.outcome, found.value) == ("fail", found.cells[0].value)
    assert found.reason.startswith(
        "of 4 cells 1 fail, 1 inconclusive, 2 pass; the worst is c: recall differs"
    )
    assert "no row counts for it" in found.cells[1].reason


def test_precision_and_f1_are_those_of_the_table():
    truth = [0, 0, 0, 0, 1, 1, 2, 2]
    ours = [0, 0, 1, 1, 1, 0, 2, 2]
    theirs = [0, 0, 0, 1, 1, 1, 2, 0]
    found = measured(truth, ours, theirs)
    precision = one(found, metric="precision", label="b", max_drop=0.5, against="finetune")
    assert precision.value == pytest.approx(2 / 3 - 1 / 3)
    f1 = one(found, metric="f1", label="a", max_drop=0.5, against="finetune")
    assert f1.value == pytest.approx(2 * 3 / 8 - 2 * 2 / 7)
    alone = one(found, metric="precision", label="a", min=0.5)
    bounds = binomtest(2, 3).proportion_ci(method="wilson")
    assert (alone.value, alone.low, alone.high) == pytest.approx((2 / 3, bounds.low, bounds.high))
    never = one(found, metric="precision", label="never", min=0.5)
    assert (never.outcome, never.value) == ("inconclusive", None)


@pytest.mark.parametrize("metric", ["precision", "recall", "f1"])
def test_few_rows_that_are_all_right_prove_little(metric):
    """Resampled, twenty right rows are always right: an interval without width would pass."""
    rows = [0] * 20 + [1] * 500
    found = one(
        measured(rows, rows, rows),
        metric=metric,
        label="a",
        max_drop="5 points",
        against="finetune",
    )
    assert found.outcome == "inconclusive"
    assert found.high > 0.10
    floor = one(measured(rows, rows, rows), metric=metric, label="a", min="90 %")
    assert floor.outcome == "inconclusive"
    assert floor.low < 0.87
    assert "eval rows are needed, but there are only 20" in floor.reason


def test_rows_in_groups_count_as_one():
    truth = np.repeat([0, 1], [400, 400])
    ours = truth.copy()
    ours[:20] = 1
    budget = {"metric": "recall", "label": "a", "max_drop": "9 points", "against": "finetune"}
    assert one(measured(truth, ours, truth), **budget).outcome == "pass"
    groups = (np.arange(800) // 20).tolist()
    found = one(measured(truth, ours, truth, groups=groups), **budget)
    assert (found.outcome, found.cells[0].rows) == ("inconclusive", 20)
    assert "groups are needed, but there are only 20" in found.reason


def test_entities_are_counted_by_sentence():
    """One sentence in four has two names; the candidate misses both in one of ten of these."""
    tags = ["O", "B-NAME", "B-CITY"]
    truth, ours = [], []
    for row in range(800):
        names = row % 4 == 0
        truth.append({"tags": [1, 0, 1, 2] if names else [0, 0, 0, 2]})
        missed = names and row % 40 == 0
        ours += [0, 0, 0, 2] if missed else truth[-1]["tags"]
    truth[0]["names"] = tags
    theirs = [tag for row in truth for tag in row["tags"]]
    models = {"candidate": model(ours, 3), "finetune": model(theirs, 3)}
    found = Measurements(
        machine={},
        task="token-classification",
        labels=tags,
        truth=truth,
        models=models,
        latency={},
        columns={"source": ["web" if row % 2 else "mail" for row in range(800)]},
    )
    budget = {"label": "*", "max_drop": "4 points", "against": "finetune"}
    recall = one(found, metric="recall", **budget)
    assert [(cell.name, cell.rows, cell.outcome) for cell in recall.cells] == [
        ("NAME", 200, "fail"),
        ("CITY", 800, "pass"),
    ]
    assert recall.value == pytest.approx(0.1)
    assert one(found, metric="precision", **budget).outcome == "pass"
    sliced = {"metric": "entity_f1", "slice": "source=*", "max_drop": "1 point"}
    by_source = one(found, against="finetune", **sliced)
    assert [(cell.name, cell.outcome) for cell in by_source.cells] == [
        ("mail", "fail"),
        ("web", "pass"),
    ]


def test_a_slice_is_judged_by_its_own_rows():
    truth = np.zeros(1000, int)
    languages = ["de" if row < 300 else "en" for row in range(990)] + ["xx"] * 10
    ours = truth.copy()
    ours[:30] = 1
    found = measured(truth, ours, truth, columns={"language": languages})
    budget = {"metric": "accuracy", "max_drop": "5 points", "against": "finetune"}
    german = one(found, slice="language=de", **budget)
    assert (german.outcome, german.value) == ("fail", pytest.approx(0.1))
    alone = one(measured(truth[:300], ours[:300], truth[:300]), **budget)
    assert (german.low, german.high) == (alone.low, alone.high)
    every = one(found, slice="language=*", **budget)
    assert [(cell.name, cell.outcome) for cell in every.cells] == [
        ("de", "fail"),
        ("(rare)", "inconclusive"),
        ("en", "pass"),
    ]
    rare = one(found, slice="language=xx", **budget)
    assert (rare.outcome, rare.cells[0].rows) == ("inconclusive", 10)
    assert "eval rows are needed, but there are only 10" in rare.reason
    assert one(found, slice="language=fr", **budget).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"metric": "accuracy", "slice": "country=*"}, "no column 'country' for a slice"),
        ({"metric": "entity_f1", "slice": "language=*"}, "text-classification has no entity_f1"),
        ({"metric": "recall", "label": "a", "against": "production"}, "was not measured"),
    ],
)
def test_what_cannot_be_judged_fails_with_the_reason(loses_c, budget, reason):
    loses_c.columns = {"language": ["de"] * 2000}
    found = one(loses_c, max_drop="1 point", **({"against": "finetune"} | budget))
    assert (found.outcome, found.cells) == ("fail", [])
    assert reason in found.reason


def share(name, right, rows):
    return Cell(name, rows, intervals.wilson(right, rows))


def test_one_of_twenty_cells_that_seems_to_miss_the_limit_is_not_failed():
    budget = Budget(metric="recall", label="*", min="90 %")
    cells = [share(f"c{number}", 185, 200) for number in range(19)]
    unlucky = share("unlucky", 170, 200)
    assert unlucky.score.high < 0.9, "it fails by its own interval"
    assert judge_cells(budget, None, [unlucky]).outcome == "fail"
    found = judge_cells(budget, None, [*cells, unlucky])
    assert found.outcome == "inconclusive"
    assert found.cells[0].name == "unlucky"
    assert "one of 20 cells may miss it by chance (p = " in found.cells[0].reason
    broken = share("broken", 120, 200)
    assert judge_cells(budget, None, [*cells, broken]).outcome == "fail"


def test_a_family_passes_if_each_cell_does_at_its_own_level():
    budget = Budget(metric="recall", label="*", min="90 %")
    cells = [share(f"c{number}", 195, 200) for number in range(50)]
    found = judge_cells(budget, None, cells)
    assert found.outcome == "pass"
    assert found.reason.startswith("of 50 cells 50 pass; the worst is c0: ")


@pytest.mark.parametrize("form", ["min", "max_drop", "min_retained", "max_regression"])
def test_the_p_value_of_a_cell_agrees_with_its_interval(form):
    """With a limit at the bound, one cell fails and two do not: Holm doubles a p-value of 5 %."""
    limit = {"min": 0.9, "max_drop": 0.05, "min_retained": 0.95, "max_regression": 0.05}[form]
    against = None if form == "min" else "finetune"
    budget = Budget(metric="recall", label="*", against=against, **{form: limit})
    lost = Interval(-0.12, -0.20, -0.0501)
    kept = Interval(0.88, 0.80, 0.9499)
    score = intervals.Bootstrap(lost, kept, lost, kept)
    if form == "min":
        score = Interval(0.82, 0.74, 0.8999)
    cell = Cell("a", 500, score)
    assert judge_cells(budget, None, [cell]).outcome == "fail"
    assert judge_cells(budget, None, [cell, cell]).outcome == "inconclusive"


def test_a_reference_that_has_learned_nothing_leaves_every_cell_open():
    truth = np.repeat([0, 1], [600, 400])
    guess = np.zeros(1000, int)
    found = one(
        measured(truth, guess, guess), metric="recall", label="*", max_drop=0.5, against="finetune"
    )
    assert found.outcome == "inconclusive"
    assert {cell.outcome for cell in found.cells} == {"inconclusive"}
    whys = [cell.reason.rpartition("; ")[2] for cell in found.cells]
    assert all(why.startswith("inconclusive because finetune ") for why in whys), whys


def test_the_verdict_file_holds_the_cells_and_others_stay_as_they_were(loses_c):
    budgets = [
        Budget(metric="recall", label="*", max_drop=0.03, against="finetune"),
        Budget(metric="accuracy", min=0.5),
    ]
    verdict = judge(budgets, CPU, loses_c)
    family, plain = verdict.model_dump(mode="json")["budgets"]
    assert [cell["name"] for cell in family["cells"]] == ["c", "never", "a", "b"]
    assert not {"label", "slice", "cells"} & plain.keys()
    assert Verdict.model_validate_json(verdict.model_dump_json(by_alias=True)) == verdict
    assert BudgetResult(**plain) == verdict.budgets[1]


def test_a_slice_may_be_compared_with_a_file_of_predictions(loses_c):
    columns = {"language": ["de", "en"] * 1000}
    budget = {"metric": "accuracy", "slice": "language=*", "max_drop": "5 points"}
    loses_c.columns = columns
    expected = one(loses_c, against="finetune", **budget)
    theirs = loses_c.models.pop("finetune").answers
    loses_c.predicted = {"llm": Predicted(digest="p", answers=theirs)}
    found = one(loses_c, against="llm", **budget)
    assert [(cell.name, cell.value) for cell in found.cells] == [
        (cell.name, cell.value) for cell in expected.cells
    ]
    assert found.outcome == "pass"


@pytest.mark.parametrize("metric", ["entity_f1", "entity_recall"])
def test_sentences_without_an_entity_say_nothing_of_entities(metric):
    """Not even if the candidate invents some in half of them."""
    truth = [{"tags": [0, 0]} for _ in range(300)]
    truth[0]["names"] = ["O", "B-NAME"]
    models = {"candidate": model([0, 1, 0, 0] * 150, 2), "finetune": model([0, 0] * 300, 2)}
    found = Measurements(
        machine={},
        task="token-classification",
        labels=["O", "B-NAME"],
        truth=truth,
        models=models,
        latency={},
        columns={"source": ["web"] * 300},
    )
    budget = {"metric": metric, "max_drop": "5 points", "against": "finetune"}
    for fields in ({}, {"slice": "source=web"}):
        result = one(found, **budget, **fields)
        assert (result.outcome, result.value) == ("inconclusive", None)
    task, table = found.scored_by, found.table("candidate")
    stored = metrics(task, task.scorer.formulas(truth), table, truth, "eval")
    names = [each.name for each in stored]
    assert "token_accuracy" in names
    assert metric not in names, "a manifest takes no NaN"
