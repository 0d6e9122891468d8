"""Disagreements by class, true to their counts."""

from __future__ import annotations

import pytest

from pipeline.measure.classes import ClassResult, Scores
from pipeline.report.facts import Flips
from pipeline.report.figures.flips import MAX_CLASSES, flips
from tests.pipeline.report.figures.shapes import shapes, tooltips


def disagreements(classes: list[tuple[str, int, int]]) -> Flips:
    none = Scores(None, None, None)
    rows = tuple(ClassResult(label, 100, none, none, lost, won) for label, lost, won in classes)
    lost, won = (sum(row[at] for row in classes) for at in (1, 2))
    return Flips("teacher", 100 * len(rows), lost, won, 0, 0.5, rows)


def test_bars_are_as_long_as_the_counts_on_either_side() -> None:
    figure = flips(disagreements([("a", 20, 5), ("b", 10, 0)]), 400, "f")
    lost = [float(bar.get("width", "0")) for bar in shapes(figure, "rect", fill="var(--limit)")]
    won = [float(bar.get("width", "0")) for bar in shapes(figure, "rect", fill="var(--accent)")]
    assert len(won) == 1, "no bar where nothing was won"
    assert lost[1] / lost[0] == pytest.approx(10 / 20, abs=0.01)
    assert won[0] / lost[0] == pytest.approx(5 / 20, abs=0.01)


def test_the_classes_with_most_flips_come_first_and_are_not_too_many() -> None:
    classes = [(f"class {n}", n, 1) for n in range(MAX_CLASSES + 5)]
    told = tooltips(flips(disagreements(classes), 400, "f"))
    assert len(told) == MAX_CLASSES
    assert told[0].startswith(f"class {MAX_CLASSES + 4}: {MAX_CLASSES + 4} lost, 1 won")
