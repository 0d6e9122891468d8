"""The share of calls that were answered within a time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from pipeline.measure.measurements import CANDIDATE
from pipeline.report.figures.distribution import STEPS, distribution
from tests.pipeline.report.figures.shapes import shapes

SERIES = {
    CANDIDATE: [[1 + n / 1000 for n in range(1000)]],
    "teacher": [[5 + n / 200 for n in range(1000)]],
}


def test_a_curve_only_rises_and_has_a_bounded_number_of_points() -> None:
    figure = distribution(SERIES, 500, "d")
    curves = [node.get("d", "") for node in shapes(figure, "path", fill="none")]
    assert len(curves) == 2
    for curve in curves:
        points = [tuple(map(float, pair.split())) for pair in re.split("[ML]", curve)[1:]]
        assert len(points) == STEPS + 1
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_the_marks_say_the_percentiles() -> None:
    words = [node.text for node in ElementTree.fromstring(distribution(SERIES, 500, "d")).iter()]
    assert "p50 1.50" in words
    assert "p95 1.95" in words
    assert "p50 7.50" in words


def test_a_percentile_that_the_sample_cannot_carry_is_not_marked() -> None:
    few = {CANDIDATE: [[1.0, 1.1, 1.2]]}
    assert "p95 " not in distribution(few, 500, "d")
