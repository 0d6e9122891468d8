"""The rows that a margin needs: predicted before the run and confirmed by the verdict."""

import re

import numpy as np
import pytest

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.interval import HALF_A_ROW
from rarefy.pipeline.terms.recipe_parts import Target
from rarefy.pipeline.verdict import power
from rarefy.pipeline.verdict.judge import judge


def _answers(right):
    return np.where(np.asarray(right)[:, None], [0.9, 0.1], [0.1, 0.9])


def _measurements(ours, theirs):
    models = {
        name: ModelMeasurement(digest=name, size=1, answers=_answers(right).tolist())
        for name, right in (("candidate", ours), ("finetune", theirs))
    }
    return Measurements(
        machine={},
        task="text-classification",
        labels=["a", "b"],
        truth=[0] * len(ours),
        models=models,
        latency={},
    )


@pytest.mark.parametrize(("margin", "disagreement"), [(0.02, 0.06), (0.03, 0.1), (0.01, 0.012)])
def test_the_rows_asked_for_give_the_power_they_promise(margin, disagreement):
    n = power.rows_needed(margin, disagreement)
    shares = [disagreement / 2, disagreement / 2, 1 - disagreement]
    tables = np.random.default_rng(1).multinomial(n, shares, 800).tolist()
    passed = [
        intervals.non_inferiority(intervals.paired_difference(g, s, n, 0.90, HALF_A_ROW), margin)
        == "pass"
        for g, s, _ in tables
    ]
    assert 0.75 < np.mean(passed) < 0.87


def test_models_that_never_differ_pass_with_just_these_rows():
    for margin in (0.01, 0.03):
        n = power.rows_needed(margin, 0)
        low = intervals.paired_difference(0, 0, n, 0.90, HALF_A_ROW).low
        assert low == pytest.approx(-margin, rel=0.1)


def test_every_budget_that_compares_a_score_is_told_of():
    budgets = [
        Budget(metric="accuracy", max_drop="2 points", against="finetune"),
        Budget(metric="macro_f1", min_retained="97 %", against="finetune"),
        Budget(metric="accuracy", max_regression="5 %", against="production"),
        Budget(metric="accuracy", min="80 %"),
        Budget(metric="latency_p50", max_regression="5 %", against="production"),
        Budget(metric="agreement", max_drop="2 points", against="production"),
    ]
    found = power.needs(budgets, 1000)
    # Macro F1 counts no rows, so only a run tells what it needs.
    assert [need.margin for need in found] == pytest.approx([0.02, 0.05 * 0.9, 0.02])
    assert [need.enough for need in found] == [False, True, False]
    assert found[0].needed == pytest.approx(0.08 * 6.18 / 0.02**2, rel=0.1)
    assert "expect 'inconclusive'" in found[0].text
    assert "against production" in found[1].text
    theirs = np.arange(500) % 10 > 0
    told = power.needs(
        budgets[1:2], 1000, _measurements(theirs ^ (np.arange(500) % 50 == 1), theirs)
    )
    assert [(need.budget.metric, need.error is not None) for need in told] == [("macro_f1", True)]


def test_the_disagreement_of_the_last_run_counts_where_there_is_one():
    ours, theirs = np.arange(500) % 10 > 0, np.arange(500) % 10 != 1
    budgets = [Budget(metric="accuracy", max_drop="2 points", against="finetune")]
    earlier = power.needs(budgets, 1000, _measurements(ours, theirs))[0]
    assert (earlier.disagreement, earlier.measured) == (0.2, True)
    assert "20% of the predictions differed in the last run" in earlier.text
    share = [Budget(metric="accuracy", min_retained="98 %", against="finetune")]
    after = power.needs(share, 1000, _measurements(ours, theirs))[0]
    assert after.margin == pytest.approx(0.02 * 0.9)
    other = [Budget(metric="accuracy", max_drop="2 points", against="production")]
    assert not power.needs(other, 1000, _measurements(ours, theirs))[0].measured


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize(
    "form", [{"max_drop": 0.01}, {"min_retained": 0.99}, {"max_regression": 0.01}]
)
@pytest.mark.parametrize("differ", [0, 4])
def test_too_few_rows_are_inconclusive_and_the_reason_says_how_many_it_takes(metric, form, differ):
    theirs = np.arange(100) >= 10
    ours = theirs ^ (np.arange(100) % 24 == 9) if differ else theirs
    budget = Budget(metric=metric, against="finetune", **form)
    verdict = judge([budget], (Target(),), _measurements(ours, theirs))
    assert verdict.outcome == "inconclusive"
    assert (verdict.exit_code(strict=True), verdict.exit_code(strict=False)) == (4, 0)
    margin = 0.01 if "max_drop" in form else 0.01 * theirs.mean()
    needed = power.rows_needed(margin, float(np.mean(ours != theirs)))
    reason = verdict.budgets[0].reason
    if metric == "macro_f1":  # a flip of the rarer label weighs more
        said = re.search(r"about ([\d,]+) eval rows are needed, but the split has only 100", reason)
        assert said is not None
        assert int(said[1].replace(",", "")) > needed
        return
    assert needed > 300
    assert f"about {needed:,} eval rows are needed, but the split has only 100" in reason


def test_rows_enough_and_still_undecided_is_not_blamed_on_the_rows():
    theirs = np.arange(20_000) >= 2000
    ours = np.roll(theirs, 200)
    ours[4000:4195] = False  # a true drop near the margin of one point
    found = judge(
        [Budget(metric="accuracy", max_drop=0.01, against="finetune")],
        (Target(),),
        _measurements(ours, theirs),
    ).budgets[0]
    assert found.outcome == "inconclusive"
    assert "rows are needed" not in found.reason


def test_without_any_margin_there_is_nothing_to_count():
    budget = Budget(metric="accuracy", max_drop=0, against="finetune")
    assert power.needs([budget], 100) == []
    assert power.margin_of(budget, 0.9) == 0


def test_a_score_that_counts_no_rows_needs_what_the_last_run_s_error_says(monkeypatch):
    from rarefy.pipeline.tasks.classification.text import ClassScorer

    monkeypatch.setattr(ClassScorer, "counted", False)
    ours, theirs = np.arange(500) % 10 > 0, np.arange(500) % 10 != 1
    budgets = [Budget(metric="macro_f1", max_drop="0.5 points", against="finetune")]
    assert power.needs(budgets, 1000, counted=False) == [], "nothing is known before the first run"
    earlier = _measurements(ours, theirs)
    (need,) = power.needs(budgets, 1000, earlier, counted=False)
    assert need.error is not None
    assert 0.001 < need.error < 0.05
    assert need.needed == pytest.approx(1000 * (2.487 * need.error / 0.005) ** 2, rel=0.01)
    assert "had a standard error of" in need.text
    result = judge(budgets, [Target(name="cpu")], earlier).budgets[0]
    assert result.outcome == "inconclusive"
    assert "eval rows are needed, but the split has only 500" in result.reason


def test_rows_in_groups_need_more_groups_and_are_judged_by_them():
    """Ten rows of a document that flip together are one observation, which is no proof."""
    theirs = np.ones(1000, dtype=bool)
    ours = theirs.copy()
    ours[:20] = False  # two documents of ten rows
    budgets = [Budget(metric="accuracy", max_drop="4 points", against="finetune")]
    rows = _measurements(ours, theirs)
    assert judge(budgets, [Target(name="cpu")], rows).outcome == "pass"
    documents = rows.model_copy(update={"groups": (np.arange(1000) // 10).tolist()})
    result = judge(budgets, [Target(name="cpu")], documents).budgets[0]
    assert result.outcome == "inconclusive"
    assert "eval groups are needed, but the split has only 100" in result.reason
    assert power.needs(budgets, 1000, counted=False) == [], "nothing is known before a run"
    (need,) = power.needs(budgets, 1000, documents, counted=False)
    assert need.error is not None
    assert need.needed > 1000 > power.needs(budgets, 1000, rows)[0].needed
