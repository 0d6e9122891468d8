"""A budget's form and limit."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.terms.budget import Budget


def test_a_budget_s_form_and_limit():
    budget = Budget(metric="size", min_shrink="5x", against="finetune")
    assert (budget.form, budget.limit) == ("min_shrink", 5.0)


@pytest.mark.parametrize("limit", [5, "5", 1.0])
def test_a_regression_without_its_sign_is_no_share(limit):
    with pytest.raises(ValidationError, match=r"did you mean '[15] %'"):
        Budget(metric="latency_p50", max_regression=limit, against="production")
    assert Budget(metric="size", max_regression="500 %", against="production").limit == 5


def test_only_latencies_have_cold_caches():
    assert Budget(metric="end_to_end_p50", max=2, caches="cold").caches == "cold"
    with pytest.raises(ValidationError, match="'caches' is of latencies; accuracy has none"):
        Budget(metric="accuracy", min="90 %", caches="cold")
