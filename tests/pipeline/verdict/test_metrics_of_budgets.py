"""Budgets on metrics that only budgets ask for: ranks, calibration, and those of one's own."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from rarefy.pipeline.measure.measurements import Measurements, ModelMeasurement
from rarefy.pipeline.tasks.shared import formulas
from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.errors import RecipeError
from rarefy.pipeline.terms.metrics import OwnMetric
from rarefy.pipeline.verdict import power
from rarefy.pipeline.verdict.judge import judge
from tests.pipeline.verdict.measured import CPU, one

ROWS = 1500


def positives(seed=0, rows=ROWS):
    return np.random.default_rng(seed).integers(0, 2, rows)


def shares(truth, apart, seed=1, sharpness=1.0):
    """Probabilities of two labels whose logits are ``apart`` on average, and right if sharp 1."""
    noise = np.random.default_rng(seed).normal(size=len(truth))
    logits = sharpness * apart * (apart * (truth - 0.5) + noise)
    yes = 1 / (1 + np.exp(-logits))
    return np.stack([1 - yes, yes], axis=1)


def measured(ours, theirs, truth, groups=()):
    answers = {"candidate": ours, "finetune": theirs}
    models = {
        name: ModelMeasurement(digest=name, size=1, answers=table.tolist())
        for name, table in answers.items()
    }
    return Measurements(
        machine={},
        task="text-classification",
        labels=["no", "yes"],
        truth=truth.tolist(),
        groups=list(groups),
        models=models,
        latency={},
    )


@pytest.fixture
def pair():
    truth = positives()
    return measured(shares(truth, 2.0), shares(truth, 2.1), truth)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("auroc", roc_auc_score), ("average_precision", average_precision_score)],
)
def test_a_rank_metric_is_judged_alone_and_beside_a_reference(pair, metric, expected):
    truth = np.asarray(pair.truth)
    value = expected(truth, pair.table("candidate")[:, 1])
    alone = one(pair, metric=metric, min=0.7)
    assert alone.value == pytest.approx(value)
    assert alone.low < value < alone.high
    assert alone.outcome == "pass"
    assert f"{metric} is {100 * value:.1f}%" in alone.reason
    drop = one(pair, metric=metric, max_drop="3 points", against="finetune")
    assert drop.value == pytest.approx(expected(truth, pair.table("finetune")[:, 1]) - value)
    assert drop.outcome == "pass"
    retained = one(pair, metric=metric, min_retained="99.9 %", against="finetune")
    assert retained.outcome in ("inconclusive", "fail")


def test_a_paired_interval_is_narrower_than_two_apart(pair):
    drop = one(pair, metric="auroc", max_drop="3 points", against="finetune")
    alone = one(pair, metric="auroc", min=0.7)
    assert drop.high - drop.low < 0.5 * (alone.high - alone.low)


def test_groups_are_drawn_together():
    truth = np.repeat(positives(rows=150), 10)
    noise = np.repeat(np.random.default_rng(2).normal(size=150), 10)
    yes = 1 / (1 + np.exp(-(2 * truth - 1 + noise)))
    ours = np.stack([1 - yes, yes], axis=1)
    rows = one(measured(ours, ours, truth), metric="auroc", min=0.5)
    groups = one(
        measured(ours, ours, truth, np.repeat(np.arange(150), 10)), metric="auroc", min=0.5
    )
    assert groups.high - groups.low > 2.5 * (rows.high - rows.low)


def test_equal_models_keep_the_width_of_a_row_that_nobody_has_seen(pair):
    same = measured(pair.table("candidate"), pair.table("candidate"), np.asarray(pair.truth))
    drop = one(same, metric="auroc", max_drop="0.1 points", against="finetune")
    assert drop.value == 0
    assert drop.high > 2 / ROWS
    assert drop.outcome == "inconclusive"
    assert "eval rows are needed" in drop.reason


def test_recall_at_any_precision_has_its_name(pair):
    found = one(pair, metric="recall_99.5_precision", min=0.9)
    assert found.outcome == "fail"
    assert found.metric == "recall_99.5_precision"
    unknown = one(pair, metric="recall_x_precision", min=0.9)
    assert "unknown metric 'recall_x_precision', did you mean" in unknown.reason


# Calibration


def test_a_calibration_error_has_a_ceiling_and_a_largest_increase():
    truth = positives(rows=8000)
    fine, sure = shares(truth, 1.5), shares(truth, 1.5, sharpness=3.0)
    pair = measured(sure, fine, truth)
    assert one(pair, metric="ece", max="2 %").outcome == "fail"
    worse = one(pair, metric="ece", max_increase="2 points", against="finetune")
    assert worse.outcome == "fail"
    assert worse.value > 0.05
    assert "the non-inferiority margin is 2 points" in worse.reason
    better = one(measured(fine, sure, truth), metric="ece", max_increase=0.01, against="finetune")
    assert better.outcome == "pass"
    assert better.value < -0.05


def test_the_noise_of_few_rows_may_hide_an_increase():
    """The measured error of the better model is noise, which the bounds allow for."""
    truth = positives(rows=400)
    fine = shares(truth, 1.5)
    same = one(measured(fine, fine, truth), metric="ece", max_increase=0.01, against="finetune")
    assert same.value == 0
    assert same.high >= formulas.ece_of_noise(fine, truth)
    assert same.outcome == "inconclusive"


def test_an_increase_as_large_as_the_margin_seldom_passes():
    """The reference is calibrated, so all of its measured error is noise."""

    def drawn(seed, rows):
        generator = np.random.default_rng(seed)
        yes = generator.beta(0.5, 0.5, rows).clip(1e-4, 1 - 1e-4)
        truth = (generator.random(rows) < yes).astype(int)
        sure = 1 / (1 + ((1 - yes) / yes) ** 1.6)
        return truth, *(np.stack([1 - each, each], axis=1) for each in (sure, yes))

    truth, sure, _ = drawn(0, 200_000)
    margin = formulas.ece(sure, truth)(np.ones((1, len(truth))))[0]
    outcomes = []
    for seed in range(1, 41):
        truth, sure, calibrated = drawn(seed, 300)
        both = measured(sure, calibrated, truth)
        result = one(both, metric="ece", max_increase=margin, against="finetune")
        outcomes.append(result.outcome)
    assert outcomes.count("pass") <= 2
    assert "fail" not in outcomes


def test_the_error_of_noise_is_about_that_of_a_calibrated_model():
    errors, expected = [], []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        yes = generator.uniform(0.01, 0.99, 600)
        truth = (generator.random(600) < yes).astype(int)
        table = np.stack([1 - yes, yes], axis=1)
        errors.append(formulas.ece(table, truth)(np.ones((1, 600)))[0])
        expected.append(formulas.ece_of_noise(table, truth))
    assert np.mean(expected) == pytest.approx(np.mean(errors), rel=0.1)


# One's own


def cost(predictions, labels):
    """A missed yes costs five times as much as a wrong one."""
    found = predictions.argmax(axis=1)
    return np.where(found == labels, 0.0, np.where(labels == 1, 5.0, 1.0))


def mean_cost(predictions, labels):
    return cost(predictions, labels).mean()


def own(function, **fields):
    name = "my_metrics:own"
    return Budget(metric=name, **fields).with_own(OwnMetric(name, function, "c0de"))


@pytest.mark.parametrize("function", [cost, mean_cost])
def test_a_metric_of_one_s_own_is_judged_in_all_its_forms(function):
    truth = positives(rows=500)
    pair = measured(shares(truth, 2.0), shares(truth, 2.1), truth)
    ours = cost(pair.table("candidate"), truth).mean()
    theirs = cost(pair.table("finetune"), truth).mean()
    budgets = [
        own(function, max=2 * ours),
        own(function, max_increase=0.5, against="finetune"),
        own(function, min=2 * ours),
        own(function, max_drop=0.5, against="finetune"),
    ]
    ceiling, increase, floor, drop = judge(budgets, CPU, pair).budgets
    assert [ceiling.outcome, increase.outcome, floor.outcome, drop.outcome] == [
        *("pass", "pass", "fail", "pass")
    ]
    assert ceiling.value == floor.value == pytest.approx(ours)
    assert ceiling.low < ours < ceiling.high
    assert increase.value == pytest.approx(ours - theirs) == pytest.approx(-drop.value)
    assert increase.low < increase.value < increase.high
    assert "points" not in increase.reason
    assert {result.code for result in (ceiling, increase, floor, drop)} == {"c0de"}
    assert {result.metric for result in (ceiling, increase)} == {"my_metrics:own"}


def test_its_number_is_that_of_its_code(pair):
    """The same name with other code is another metric; nothing is remembered of the first."""
    first, second = (
        Budget(metric="m:f", max=1).with_own(OwnMetric("m:f", function, code))
        for function, code in ((cost, "one"), (lambda p, y: np.ones(len(y)), "two"))
    )
    values = [judge([budget], CPU, pair).budgets[0].value for budget in (first, second)]
    assert values[0] != values[1] == 1.0


def test_an_error_in_it_is_no_verdict(pair):
    with pytest.raises(RecipeError, match="the metric my_metrics:own raised ZeroDivisionError"):
        judge([own(lambda p, y: 1 / 0, max=1)], CPU, pair)


def test_it_is_not_called_before_a_run(pair):
    """On the rows of the last one it may raise an error, or take minutes."""
    pair.columns = {"kind": ["card"] * ROWS}
    fields = {"max_increase": 0.01, "against": "finetune"}
    assert power.needs([own(lambda p, y: 1 / 0, **fields)], ROWS, pair) == []
    sliced = own(lambda p, y: 1 / 0, slice="kind=*", **fields)
    assert power.cell_needs([sliced], {}, {"kind": {"card": ROWS}}, pair) == []


def test_a_precision_that_is_written_as_a_share_is_unknown(pair):
    found = one(pair, metric="recall_0.95_precision", min=0.9)
    assert found.outcome == "fail"
    assert "unknown metric 'recall_0.95_precision', did you mean 'recall_95_p" in found.reason


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "recall_95_precision"])
@pytest.mark.parametrize(
    "limit", [{"min": 0.5}, {"max_drop": 0.05, "against": "finetune"}], ids=["min", "max_drop"]
)
def test_a_score_that_does_not_exist_neither_passes_nor_fails(metric, limit):
    """All German rows have one label: nothing ranks."""
    truth = np.concatenate([np.zeros(200, int), positives(rows=400)])
    shown = shares(truth, 2.0)
    sliced = measured(shown, shares(truth, 2.1), truth)
    sliced.columns = {"lang": ["de"] * 200 + ["en"] * 400}
    cells = {cell.name: cell for cell in one(sliced, metric=metric, slice="lang=*", **limit).cells}
    assert cells["de"].outcome == "inconclusive"
    assert cells["de"].value is None
    assert cells["en"].value is not None
    whole = one(measured(shown[:200], shown[:200], truth[:200]), metric=metric, **limit)
    assert (whole.outcome, whole.value) == ("inconclusive", None)
    assert f"{metric} says nothing: no row counts for it" in whole.reason


def test_one_s_own_metric_without_a_failure_does_not_pass():
    """Twelve rows, one fraud, all right: nobody knows what a missed one would cost."""
    truth = (np.arange(12) == 3).astype(int)
    certain = np.eye(2)[truth]
    pair = measured(certain, certain, truth)
    pair.columns = {"kind": ["card"] * 12}
    for fields in (
        {"max": 0.1},
        {"max_increase": 0.1, "against": "finetune"},
        {"max": 0.1, "slice": "kind=card"},
    ):
        [found] = judge([own(cost, **fields)], CPU, pair).budgets
        assert found.outcome == "inconclusive"
        assert "no row shows what a failure costs" in found.reason
    [missed] = judge([own(cost, min=0.1)], CPU, pair).budgets
    assert missed.outcome == "fail"
