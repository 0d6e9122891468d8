"""Format numbers for people."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.pipeline.report import wording
from rarefy.pipeline.terms import metrics
from rarefy.pipeline.terms.wording import quantity, required
from tests.pipeline.report.ci.budgets import budgets


@given(st.floats(0.01, 1e6))
def test_three_significant_digits_and_no_exponent(value: float) -> None:
    text = wording.significant(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.051 if value < 0.1 else 0.006)


@given(st.floats(0, 1e14))
def test_a_size_is_read_back_from_its_unit(value: float) -> None:
    number, unit = wording.size(value).split(wording.NBSP)
    step = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number.replace(",", "")) * step == pytest.approx(value, rel=0.006, abs=0.51)


@given(st.integers(0, 10**6))
def test_a_duration_adds_up(seconds: int) -> None:
    parts = re.findall(r"([\d.]+)\s(s|min|h|d)", wording.duration(seconds))
    told = sum(float(n) * {"s": 1, "min": 60, "h": 3600, "d": 86_400}[unit] for n, unit in parts)
    assert told == pytest.approx(
        seconds, abs=0.05 if seconds < 3600 else 60 if seconds < 86_400 else 3600
    )


def test_what_each_budget_asks_is_said_with_its_unit_and_its_reference() -> None:
    for budget in budgets():
        said = wording.requirement(budget)
        assert said.startswith("at least" if budget.form.startswith("min") else "at most")
        assert budget.against is None or budget.against in said
    assert wording.requirement(budgets()[2]) == "at least 5× faster than teacher"
    assert wording.requirement(budgets()[6]) == f"at most 1{wording.NBSP}MB"


def test_no_rounding_hides_on_which_side_of_its_limit_a_value_is() -> None:
    numbers = {"limit": 0.9865, "value": 0.991, "low": 0.98646, "high": 0.995}
    budget = budgets()[0].model_copy(update={"form": "min_retained", **numbers})
    assert wording.requirement(budget) == "at least 98.65% of production"
    assert wording.interval(budget) == "98.6 to 99.5%"
    near = budget.model_copy(update={"limit": 0.986})
    assert wording.requirement(near).startswith("at least 98.6%")
    assert str(wording.interval(near)).startswith("98.65 to ")
    size = budgets()[6].model_copy(update={"limit": 20e6, "value": 20_040_000})
    assert wording.budget_value(size, 20_040_000) == f"20.04{wording.NBSP}MB"
    assert wording.limit("accuracy", "max_regression", 0.0025) == "0.25%"
    assert wording.amount("accuracy", "max_regression", 0.0325) == "3.2%"


@pytest.mark.parametrize(
    ("metric", "form", "value"),
    [
        ("accuracy", "min", 0.5),
        ("ece", "max", 0.0063),
        ("accuracy", "max_drop", 0.4),
        ("accuracy", "max_drop", -0.1598),
        ("accuracy", "max_regression", -0.0025),
        ("latency_p50", "min_speedup", 5.0),
        ("latency_p50", "max", 10_000.0),
        ("size", "max", 82_512_345.0),
        ("pearson", "min", -0.25),
    ],
)
def test_a_cell_says_a_number_as_the_reason_beside_it_does(
    metric: str, form: str, value: float
) -> None:
    unit = metrics.unit(metric, form)
    assert wording.amount(metric, form, value) == wording.unbroken(quantity(value, unit))
    assert wording.limit(metric, form, value) == wording.unbroken(required(value, unit))


def test_a_drop_has_the_sign_of_the_difference_everywhere() -> None:
    """A gain of 0.05 points is a drop of −0.05; the reason beside it says +0.05."""
    numbers = {"limit": 0.03, "value": -0.0005, "low": -0.0095, "high": 0.0105}
    drop = budgets()[0].model_copy(update=numbers)
    assert wording.budget_value(drop, drop.value) == f"+0.05{wording.NBSP}points"
    assert wording.interval(drop) == f"−1.05 to +0.95{wording.NBSP}points"
    increase = drop.model_copy(update={"metric": "ece", "form": "max_increase"})
    assert wording.budget_value(increase, increase.value) == f"−0.05{wording.NBSP}points"
    own = drop.model_copy(update={"metric": "costs:dollars", "value": 0.012})
    assert wording.budget_value(own, own.value) == "−0.012"


def test_a_regression_is_better_or_worse() -> None:
    numbers = {"form": "max_regression", "limit": 0.05, "value": -0.02, "low": -0.03, "high": 0.01}
    budget = budgets()[0].model_copy(update=numbers)
    assert wording.budget_value(budget, budget.value) == f"2.0%{wording.NBSP}better"
    shown = str(wording.interval(budget)).replace(wording.NBSP, " ")
    assert shown == "3.0% better to 1.0% worse"


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        ("5.94×", "6.21×", "5.94 to 6.21×"),
        ("0.900", "1.1", "0.900 to 1.1"),
        ("999 kB", "1 MB", "999 kB to 1 MB"),
    ],
)
def test_an_interval_says_its_unit_once(first: str, last: str, shown: str) -> None:
    assert wording.span(first, last) == shown


@given(st.text(), st.integers(1, 40))
def test_a_shortened_text_fits(text: str, limit: int) -> None:
    short = wording.shorten(text, limit)
    assert len(short) <= limit
    assert short == text or short.endswith("…")


def test_a_correlation_is_no_percentage_and_a_share_is_one() -> None:
    assert wording.score(0.876, "spearman") == wording.amount("spearman", "min", 0.876) == "0.876"
    assert wording.score(0.281, "mse") == wording.amount("mse", "max", 0.281) == "0.281"
    for metric in ("ndcg_10", "accuracy", None, "of_a_plugin"):
        assert wording.score(0.876, metric) == "87.6%"
    assert wording.score(3.5, "of_a_plugin") == "3.50"
    assert wording.amount("spearman", "min_retained", 0.97) == "97.0%"
