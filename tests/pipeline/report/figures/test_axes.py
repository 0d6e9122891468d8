"""Axes that figures share: numbers are placed at their rules and marks."""

from __future__ import annotations

from pipeline.report.figures import svg
from pipeline.report.figures.axes import HEIGHT, Rule, axes, frame
from tests.pipeline.report.figures.shapes import shapes


def test_numbers_stand_at_their_rules_and_marks():
    inside = frame(500)
    drawn = axes(inside, ("up", "across"), [Rule(50, "0.5", "1 3"), Rule(90, "0.1")], [(200, "2")])
    figure = svg.document("x", 500, HEIGHT, "", "", drawn)
    words = {node.text: node for node in shapes(figure, "text")}
    assert list(words) == ["up", "0.5", "0.1", "2", "across"]
    assert float(words["2"].get("x", 0)) == 200
    rules = [node for node in shapes(figure, "line") if node.get("y1") == node.get("y2")]
    assert [float(rule.get("y1", 0)) for rule in rules] == [50, 90, inside.bottom]
    assert [rule.get("stroke-dasharray") for rule in rules] == ["1 3", None, None]
    assert {float(rule.get("x2", 0)) for rule in rules} == {inside.right}
