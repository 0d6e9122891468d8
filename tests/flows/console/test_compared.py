"""A comparison as a table, as HTML and as plain values."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from rarefy.flows.console.compared import ComparisonView
from rarefy.flows.console.options import show_table
from rarefy.pipeline.measure.latency import compare as gate
from rarefy.pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from rarefy.pipeline.measure.rows_per_second import Throughput
from rarefy.pipeline.release.compare import Comparison, judge
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.metrics import OwnMetric
from rarefy.pipeline.terms.recipe_parts import Target


def compared() -> Comparison:
    """A candidate that takes half the time and loses one of four hundred rows."""
    rows = np.random.default_rng(0).lognormal(0, 0.2, (9, 60))
    timed = Latency(samples={"candidate": (rows / 2).tolist(), "baseline": rows.tolist()})
    sure, wrong = [1.0, 0.0], [0.0, 1.0]
    sides = {
        "candidate": ModelMeasurement(
            digest="c", size=5_000_000, parameters=10, answers=[wrong] + [sure] * 399
        ),
        "baseline": ModelMeasurement(
            digest="b", size=10_000_000, parameters=20, answers=[sure] * 400
        ),
    }
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], truth=[0] * 400,
        models=sides, latency={"cpu": timed},
    )  # fmt: skip
    change = gate.compare(timed.samples["candidate"], timed.samples["baseline"], 0.05)
    names = {"candidate": "mine", "baseline": "production"}
    return Comparison(names, measured, timed, change, 0.05)


def test_both_sides_stand_beside_each_other_with_their_change():
    found = compared()
    view = ComparisonView(found, judge(found, 0.05, Target()))
    rows = {row[0].split()[0]: row for row in view.rows()}
    assert "1 of 400 rows differ: 0 better, 1 worse" in rows["agreement"][3]
    assert "faster by more than" in rows["latency"][3]
    assert "0.500×" in rows["size"][3]
    assert "0.500×" in rows["parameters"][3]
    assert "mine" in repr(view)
    assert "accuracy max_regression" in repr(view), "the verdict below it"
    assert view.verdict.budgets[0].reason.split("%")[0] in view._repr_html_()
    assert view.as_json()["accuracy"]["losses"] == 1


def test_rows_a_second_are_compared_and_judged_where_they_were_measured():
    found = compared()
    assert "throughput" not in found.as_json()
    blocks = np.random.default_rng(0).lognormal(0, 0.2, (9, 10))
    samples = {"candidate": (2 * blocks).tolist(), "baseline": blocks.tolist()}
    found.measurements.throughput["cpu"] = Throughput(
        samples=samples, cpu=samples, batch={"candidate": 8, "baseline": 32},
        workers=2, threads=1, provider="cpu", rows=400,
    )  # fmt: skip
    view = ComparisonView(found, judge(found, 0.05, Target()))
    row = next(row for row in view.rows() if row[0].startswith("throughput"))
    assert row[0] == "throughput (2 workers × 1 thread)"
    assert row[1].endswith("in batches of 8")
    assert row[3] == "0.500× the baseline's: slower by more than 5%"
    rates = view.as_json()["throughput"]
    assert rates["change"] == "regression"
    assert rates["candidate"]["value"] == pytest.approx(rates["baseline"]["value"] / 2)
    outcomes = {budget.metric: budget.outcome for budget in view.verdict.budgets}
    assert outcomes["throughput"] == "fail"


def test_a_margin_is_shown_as_it_was_asked_for():
    found = replace(compared(), margin=0.0025)
    (row,) = (row for row in ComparisonView(found).rows() if row[0].startswith("latency"))
    assert row[3].endswith("faster by more than 0.25%")


def test_rankings_are_compared_by_query_and_without_mcnemar_s_test():
    """Three queries of two passages: the candidate turns one of them round."""
    right, wrong = [[1.0], [0.0]], [[0.0], [1.0]]
    sides = {
        "candidate": ModelMeasurement(digest="c", size=1, answers=[*right, *right, *wrong]),
        "baseline": ModelMeasurement(digest="b", size=1, answers=right * 3),
    }
    truth = [[grade, query] for query in range(3) for grade in (1.0, 0.0)]
    found = compared()
    measured = found.measurements.model_copy(
        update={"task": "regression", "labels": [], "truth": truth, "models": sides}
    )
    view = ComparisonView(replace(found, measurements=measured))
    rows = {row[0].split()[0]: row for row in view.rows()}
    assert "points [" in rows["ndcg"][3]
    assert rows["ndcg"][3].endswith("], a bootstrap of 3 queries")
    assert rows["agreement"][3] == "2 of 6 answers differ; of 3 queries, 0 better, 1 worse"
    scores = view.as_json()["accuracy"]
    assert (scores["block"], scores["blocks"], scores["p"]) == ("query", 3, None)


def test_rows_in_groups_are_compared_by_them():
    found = compared()
    groups = [row // 2 for row in range(len(found.measurements.truth))]
    measured = found.measurements.model_copy(update={"groups": groups})
    view = ComparisonView(replace(found, measurements=measured))
    assert "], Fisher p = " in view.rows()[0][3]
    assert view.as_json()["accuracy"]["groups"] == len(set(groups))


def test_a_correlation_is_a_plain_number():
    sides = {
        name: ModelMeasurement(digest=name, size=1, answers=[[float(row)] for row in range(9)])
        for name in ("candidate", "baseline")
    }
    found = compared()
    measured = found.measurements.model_copy(
        update={"task": "regression", "labels": [], "truth": list(range(9)), "models": sides}
    )
    row = ComparisonView(replace(found, measurements=measured)).rows()[0]
    assert row[1].startswith("1 [")
    assert row[3].startswith("+0 [−")
    assert row[3].endswith("a bootstrap of 9 rows")


def test_without_a_verdict_there_is_the_table_alone():
    view = ComparisonView(compared())
    assert "max_regression" not in repr(view)


def test_a_comparison_breaks_between_words_alone_at_80_columns():
    table = ComparisonView(compared()).table()
    drawn = {}
    for width in (80, 400):
        file = io.StringIO()
        show_table(table, Console(file=file, width=width, force_terminal=True, color_system=None))
        drawn[width] = file.getvalue()
    assert max(map(len, drawn[80].splitlines())) <= 80
    assert sorted(drawn[80].split()) == sorted(drawn[400].split())


def test_scores_that_the_recipe_s_budgets_name_stand_below_the_main_one():
    def misses(predictions, labels):
        return (predictions.argmax(axis=1) != labels).astype(float)

    own = Budget(metric="costs:misses", max=1).with_own(OwnMetric("costs:misses", misses, "c0de"))
    budgets = [
        Budget(metric="accuracy", min=0.5),
        Budget(metric="size", max="1 MB"),
        Budget(metric="macro_f1", min=0.5),
        Budget(metric="macro_f1", max_drop="1 point", against="teacher"),
        own,
    ]
    view = ComparisonView(replace(compared(), budgets=budgets))
    names = [row[0] for row in view.rows()]
    assert names[:4] == ["accuracy", "macro_f1", "costs:misses", "agreement"]
    misses_row = view.rows()[2]
    assert misses_row[1].startswith("0.0025 [")
    assert misses_row[3].startswith("+0.0025 [")
    scores = {each["metric"]: each for each in view.as_json()["scores"]}
    assert scores["costs:misses"]["difference"]["value"] == 1 / 400
    assert scores["macro_f1"]["candidate"]["value"] < scores["macro_f1"]["baseline"]["value"]
