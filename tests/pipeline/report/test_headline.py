"""The verdict in one sentence and three numbers."""

from __future__ import annotations

import pytest

from pipeline.report import headline
from pipeline.verdict.verdict import Verdict
from tests.pipeline.report.ci.budgets import budgets
from tests.pipeline.report.factory import report_data


def test_the_three_numbers_are_ratios_of_what_was_measured() -> None:
    data = report_data()
    speed, size, kept = headline.build(data).numbers
    models = data.measurements.models
    assert size.figure == f"{models['teacher'].size / models['candidate'].size:.2f}×"
    assert (speed.meaning, size.meaning) == ("faster", "smaller")
    assert size.interval is None, "a size is exact"
    assert float(speed.figure.rstrip("×")) == pytest.approx(6.4 / 1.05, rel=0.05)
    assert kept.figure.startswith(f"{100 * 0.824 / 0.832:.1f}")


def test_the_sentence_counts_the_budgets() -> None:
    found = budgets()
    data = report_data(verdict=Verdict(outcome="fail", budgets=found))
    said = headline.build(data)
    kept = sum(budget.outcome == "pass" for budget in found)
    missed = sum(budget.outcome == "fail" for budget in found)
    assert said.outcome == "fail"
    assert said.sentence.startswith(f"{kept} of {len(found)} budgets met; {missed} missed")
    assert said.sentence.endswith(f"{len(found) - kept - missed} inconclusive.")


def test_without_a_verdict_it_says_what_is_lacking() -> None:
    bare = headline.build(report_data(verdict=None, measurements=None))
    assert (bare.outcome, bare.numbers) == (None, ())
    assert "Add the stage validate" in bare.sentence
    measured = headline.build(report_data(verdict=None))
    assert "no budgets" in measured.sentence
