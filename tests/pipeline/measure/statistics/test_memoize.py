"""Intervals are drawn once, and again where anything changed that they depend on."""

from __future__ import annotations

import numpy as np
import pytest

from rarefy.pipeline.measure.statistics import intervals
from rarefy.pipeline.measure.statistics import memoize as memo
from rarefy.pipeline.measure.statistics.memoize import once
from rarefy.pipeline.report import html, markdown, pictures
from rarefy.pipeline.tasks.classification.text import TEXT_CLASSIFICATION
from rarefy.pipeline.tasks.regression.task import REGRESSION
from tests.pipeline.report.factory import loses_a_slice, report_data


@pytest.fixture
def counted():
    calls = []

    @once
    def total(task, numbers, weight=1.0):
        calls.append(task)
        return float(np.sum(numbers)) * weight

    return total, calls


def test_equal_arguments_are_computed_once_wherever_they_are_held(counted):
    total, calls = counted
    for numbers in ([1, 2], [1, 2]):
        assert total(TEXT_CLASSIFICATION, np.array(numbers)) == 3
    assert len(calls) == 1


def test_anything_that_differs_is_computed(counted):
    total, calls = counted
    numbers = np.array([1, 2])
    total(TEXT_CLASSIFICATION, numbers)
    total(REGRESSION, numbers)
    total(TEXT_CLASSIFICATION, numbers.astype(float))
    assert total(TEXT_CLASSIFICATION, numbers, 2.0) == 6
    assert total(TEXT_CLASSIFICATION, numbers, weight=3.0) == 9
    numbers[0] = 5  # in place
    assert total(TEXT_CLASSIFICATION, numbers) == 7
    assert len(calls) == 6


def test_only_the_newest_are_kept(counted, monkeypatch):
    monkeypatch.setattr(memo, "MOST", 2)
    total, calls = counted
    for number in (1, 2, 3, 3, 2, 1):
        assert total(TEXT_CLASSIFICATION, [number]) == number
    assert len(calls) == 4


def test_page_summary_and_pictures_draw_each_interval_once(monkeypatch):
    data = report_data(measurements=loses_a_slice())
    html.render(data)

    def again(*_arguments, **_named):
        raise AssertionError("drawn again")

    monkeypatch.setattr(intervals.np.random, "default_rng", again)
    assert "Worst slice" in markdown.render(data)
    assert pictures.pictures(data)


def test_answers_that_were_changed_in_place_are_scored_again():
    measured = loses_a_slice()
    before = [measured.score(name, "candidate") for name in ("accuracy", "ece")]
    for answer in measured.models["candidate"].answers[:40]:
        answer.reverse()
    after = [measured.score(name, "candidate") for name in ("accuracy", "ece")]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_the_summary_draws_no_calibration_that_it_does_not_show(monkeypatch):
    monkeypatch.setattr(
        "rarefy.pipeline.measure.predictions.per_class.calibration",
        lambda *_: pytest.fail("not shown"),
    )
    assert "Worst slice" in markdown.render(report_data(measurements=loses_a_slice()))
