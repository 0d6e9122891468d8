"""A strip of verdicts."""

from __future__ import annotations

from rarefy.pipeline.report.figures.outcomes import outcomes
from tests.pipeline.report.figures.readings import past
from tests.pipeline.report.figures.shapes import shapes, tooltips


def test_each_verdict_is_told_in_order_and_stands_out_by_its_height() -> None:
    words = ["pass", "fail", "inconclusive"]
    figure = outcomes([past(outcome=word) for word in words], "o")
    assert [said.rpartition(" · ")[2] for said in tooltips(figure)] == words
    heights = [float(bar.get("height", "0")) for bar in shapes(figure, "rect")]
    assert heights[0] < heights[2] < heights[1]
    assert "1 pass, 1 inconclusive, 1 fail" in figure


def test_a_pass_without_evidence_does_not_stand_as_one() -> None:
    figure = outcomes([past(outcome="pass", evidence=["throttled half way"])], "o")
    assert tooltips(figure)[0].endswith("inconclusive")
