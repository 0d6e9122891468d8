"""A budget's form and limit; budgets that nothing or everything meets are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rarefy.pipeline.terms.budget import Budget, assumed_units, find_problems


def test_a_budget_s_form_and_limit():
    budget = Budget(metric="size", min_shrink="5x", against="finetune")
    assert (budget.form, budget.limit) == ("min_shrink", 5.0)


@pytest.mark.parametrize("limit", [5, "5", 1.0])
def test_a_regression_without_its_sign_is_no_share(limit):
    with pytest.raises(ValidationError, match=r"did you mean '[15]%'"):
        Budget(metric="latency_p50", max_regression=limit, against="production")
    assert Budget(metric="size", max_regression="500 %", against="production").limit == 5


def test_a_drop_is_in_percentage_points():
    for limit in ("3 points", 0.03):
        assert Budget(metric="accuracy", max_drop=limit, against="a").limit == 0.03


@pytest.mark.parametrize(("share", "says"), [("3 %", "write 3 points"), ("1%", "write 1 point")])
def test_a_drop_in_percent_is_told_its_unit(share, says):
    with pytest.raises(ValidationError, match=says):
        Budget(metric="accuracy", max_drop=share, against="a")


def test_only_latencies_have_cold_caches():
    assert Budget(metric="end_to_end_p50", max=2, caches="cold").caches == "cold"
    with pytest.raises(ValidationError, match="'caches' applies to latencies, not to accuracy"):
        Budget(metric="accuracy", min="90 %", caches="cold")


def test_check_finds_what_no_measurement_could_answer():
    problems = find_problems(
        [
            Budget(metric="accurracy", min=0.9),
            Budget(metric="size", min_speedup=2, against="finetune"),
            Budget(metric="accuracy", max_drop=1, against="finetune"),
            Budget(metric="latency_p50", min="6 ms"),
            Budget(metric="latency_p50", max="5 ms", target="cpu"),
        ]
    )
    assert len(problems) == 4
    assert "did you mean 'accuracy'" in problems[0]
    assert "'min_speedup' does not apply" in problems[1]
    assert "did you mean '1 point'" in problems[2]
    assert "at least 6 and at most 5" in problems[3]


def test_check_lets_targets_differ():
    assert not find_problems(
        [
            Budget(metric="latency_p50", min="6 ms", target="small"),
            Budget(metric="latency_p50", max="5 ms", target="large"),
        ]
    )


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"metric": "latency_p50", "max": "20 MB"}, "'20 MB' is a size; latency_p50 takes a time"),
        ({"metric": "size", "max": "5 s"}, "'5 s' is a time; size takes a size"),
        ({"metric": "parameters", "max": "5 MB"}, "'5 MB' is a size; parameters takes a number"),
        ({"metric": "accuracy", "min": "0.9 ms"}, "takes a percentage"),
        ({"metric": "accuracy", "max_drop": "0.1 x", "against": "a"}, "write it like '3 points'"),
        ({"metric": "accuracy", "min_retained": "96 points", "against": "a"}, "not a quantity"),
        ({"metric": "size", "min_shrink": "5 %", "against": "a"}, "size takes a factor"),
    ],
)
def test_a_limit_in_another_unit_is_refused(budget, words):
    with pytest.raises(ValueError, match=words):
        Budget(**budget)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"metric": "latency_p05", "max": 5}, "did you mean 'latency_p50'"),
        ({"metric": "latency", "max": 5}, "unknown metric 'latency', did you mean 'latency_p"),
        ({"metric": "accuracy", "max_drop": 3, "against": "a"}, "did you mean '3 points'"),
        ({"metric": "accuracy", "max_regression": "500 %", "against": "a"}, "every model meets"),
        ({"metric": "accuracy", "min": 0}, "is met by every model"),
        ({"metric": "accuracy", "min_retained": 0, "against": "a"}, "is met by every model"),
        ({"metric": "accuracy", "min_retained": 97, "against": "a"}, "did you mean '97%'"),
        ({"metric": "accuracy", "min": 85}, "8500%, which no model can meet; did you mean '85%'"),
        ({"metric": "ece", "max": 5}, "which every model meets; did you mean '5%'"),
        ({"metric": "ece", "max": "100 %"}, "which every model meets; did you mean '1%'"),
        ({"metric": "size", "max": "0 B"}, "can never be met: size is never 0"),
        ({"metric": "latency_p50", "max": 0}, "can never be met"),
        ({"metric": "speedup", "min_speedup": 0, "against": "a"}, "is met by every model"),
        ({"metric": "size", "max": "-20 MB"}, "can never be met"),
        ({"metric": "accuracy", "min": 0.8, "target": "gpu"}, "remove 'target: gpu'"),
        ({"metric": "spearman", "min": 80}, "can never be met: spearman is never above 1"),
        ({"metric": "pearson", "max": 1}, "is met by every model: pearson is never above 1"),
        ({"metric": "pearson", "min": -1}, "is met by every model; set a minimum above -1"),
        ({"metric": "pearson", "max": -1.1}, "can never be met: pearson is never below -1"),
    ],
)
def test_check_finds_a_limit_that_says_nothing(budget, words):
    (problem,) = find_problems([Budget(**budget)])
    assert words in problem


def test_a_share_above_all_is_taken_for_no_other_percentage():
    (problem,) = find_problems([Budget(metric="accuracy", min_retained="150%", against="a")])
    assert problem.endswith("requires more than the reference's own value")


@pytest.mark.parametrize(
    "budgets",
    [
        [("accuracy", "min", 0.9, None), ("accuracy", "max", 0.8, None)],
        [("size", "min", 9, None), ("size", "max", 8, None)],
        [("latency_p50", "min", 9, None), ("latency_p99", "max", 8, None)],
        [("latency_p50", "min", 9, "cpu"), ("end_to_end_p50", "max", 8, None)],
        [("speedup", "min", 4, None), ("speedup", "max", 2, None)],
    ],
)
def test_check_finds_bounds_that_contradict_each_other(budgets):
    """The order of the two does not matter."""
    given = [Budget(metric=m, target=t, **{form: limit}) for m, form, limit, t in budgets]
    for ordered in (given, given[::-1]):
        (problem,) = find_problems(ordered)
        assert "contradict each other" in problem


@pytest.mark.parametrize(
    "budgets",
    [
        [("accuracy", "min", 0.8, None), ("accuracy", "max", 0.8, None)],
        [("latency_p99", "min", 9, None), ("latency_p50", "max", 8, None)],
        [("end_to_end_p50", "min", 9, None), ("latency_p50", "max", 8, None)],
        [("accuracy", "min", 0.9, None), ("agreement", "max", 0.8, None)],
        [("accuracy", "min", 1, None), ("kl", "max", 0, None)],
        [("latency_p50", "min", 9, "a"), ("latency_p50", "max", 8, "b")],
    ],
)
def test_check_lets_pass_what_a_model_could_keep(budgets):
    assert not find_problems(
        [Budget(metric=m, target=t, **{form: limit}) for m, form, limit, t in budgets]
    )


def test_bounds_with_warm_and_with_cold_caches_are_no_contradiction():
    warm = Budget(metric="latency_p50", max=2)
    assert not find_problems([warm, Budget(metric="latency_p50", min=3, caches="cold")])
    assert find_problems([warm, Budget(metric="latency_p50", min=3)])


def test_two_margins_on_one_metric_are_no_contradiction():
    budgets = [
        Budget(metric="latency_p50", max_regression="5 %", against="production"),
        Budget(metric="latency_p50", max_regression="2 %", against="production", level="warn"),
    ]
    assert not find_problems(budgets)


@pytest.mark.parametrize("bound", [{"min": -0.1}, {"max": -0.1}])
def test_a_correlation_may_be_below_0(bound):
    assert not find_problems([Budget(metric="spearman", **bound)])


def test_a_time_without_a_unit_is_said_to_be_in_ms():
    entries = [
        {"metric": "latency_p50", "max": 5},
        {"metric": "cold_start", "max": "5 ms"},
        {"metric": "latency_p50", "min_speedup": 3, "against": "finetune"},
        {"metric": "size", "max": 1000},
        {"metric": "accuracy", "min": 0.9},
        "max: 5",
    ]
    (note,) = assumed_units(entries)
    assert note == "budget latency_p50: max 5 has no unit; it is read as '5 ms'"


def test_a_budget_is_on_a_label_or_on_a_slice():
    label = Budget(metric="recall", label=7, min="90 %")
    assert (label.label, label.cell, label.slice) == ("7", "label=7", None)
    part = Budget(metric="accuracy", slice="language=de=at", max_drop="1 point", against="a")
    assert (part.cell, part.column_and_value) == ("language=de=at", ("language", "de=at"))
    assert Budget(metric="accuracy", min=0.9).cell is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"metric": "accuracy", "label": "a"}, "'label' applies to precision, recall, f1, not to"),
        ({"metric": "recall", "label": "a", "slice": "b=c"}, "give a label or a slice, not both"),
        ({"metric": "size", "slice": "b=c"}, "'slice' applies to scores of rows, not to size"),
        ({"metric": "accuracy", "slice": "german"}, "write COLUMN=VALUE, or COLUMN=\\*"),
        ({"metric": "accuracy", "slice": "language="}, "write COLUMN=VALUE, or COLUMN=\\*"),
    ],
)
def test_what_is_no_label_or_slice_is_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        Budget(min=0.9, **fields)


def test_bounds_of_different_labels_do_not_contradict_each_other():
    low = Budget(metric="recall", label="a", max="50 %")
    high = Budget(metric="recall", label="b", min="90 %")
    assert not find_problems([low, high])
    assert "contradict" in find_problems([low, high.model_copy(update={"label": "a"})])[0]
