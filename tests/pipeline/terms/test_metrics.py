"""The table of metrics is consistent."""

from __future__ import annotations

import pytest

from rarefy.pipeline.terms.budget import Budget
from rarefy.pipeline.terms.metrics import FORMS, METRICS, known, of_kind, title


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_title_and_forms_that_there_are(name: str) -> None:
    metric = METRICS[name]
    assert metric.forms
    assert metric.forms <= set(FORMS)
    assert metric.title == title(name)
    assert any(letter.isupper() for letter in metric.title[:2])  # or nDCG
    assert not (metric.exact and metric.timed), "what a clock says is never exact"


@pytest.mark.parametrize("name", METRICS)
def test_every_form_of_a_metric_makes_a_budget(name: str) -> None:
    for form in METRICS[name].forms:
        against = {} if form in ("max", "min") else {"against": "teacher"}
        limit = "5 %" if form == "max_regression" else 0.5
        assert Budget(metric=name, **{form: limit}, **against).form == form


def test_the_direction_is_that_of_the_kind() -> None:
    assert known("accuracy").higher_is_better
    assert not any(METRICS[name].higher_is_better for name in of_kind("latency", "count", "error"))


def test_a_metric_of_a_plug_in_is_a_score_with_a_readable_name() -> None:
    metric = known("exact_match")
    assert (metric.kind, metric.unit, metric.title) == ("score", "", "Exact match")
