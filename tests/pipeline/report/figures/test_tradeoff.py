"""Accuracy against latency: points where their numbers are."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from rarefy.pipeline.report import facts
from rarefy.pipeline.report.figures.tradeoff import tradeoff
from rarefy.pipeline.terms.interval import Interval
from tests.pipeline.report.figures.shapes import shapes, tooltips


def point(name: str, ms: float, accuracy: float, candidate: bool = False) -> facts.Point:
    return facts.Point(
        name,
        Interval(ms, ms * 0.98, ms * 1.02),
        Interval(accuracy, accuracy - 0.01, accuracy + 0.01),
        candidate,
    )


MODELS = [point("slow", 8, 0.9), point("middle", 4, 0.85), point("fast", 2, 0.8)]


def test_equal_factors_of_latency_are_equal_steps_and_accuracy_is_linear() -> None:
    figure = tradeoff(MODELS, 500, "t")
    places = [
        (float(dot.get("cx", "0")), float(dot.get("cy", "0"))) for dot in shapes(figure, "circle")
    ]
    assert len(places) == 3
    across, down = ([b[at] - a[at] for a, b in pairwise(places)] for at in (0, 1))
    assert across[0] == pytest.approx(across[1], abs=0.2)
    assert across[0] < 0, "faster is to the left"
    assert down[0] == pytest.approx(down[1], abs=0.2)
    assert down[0] > 0, "better is up"


def test_every_model_is_named_and_the_candidate_is_a_diamond() -> None:
    ours = point("candidate", 1, 0.84, candidate=True)
    figure = tradeoff([*MODELS, ours], 500, "t")
    assert len(shapes(figure, "circle")) == 3
    words = {node.text for node in ElementTree.fromstring(figure).iter()}
    assert words >= {"slow", "middle", "fast", "candidate"}
    assert any(said.startswith("candidate: 84.0") for said in tooltips(figure))


def test_one_model_alone_is_drawn() -> None:
    ElementTree.fromstring(tradeoff(MODELS[:1], 300, "t"))


def test_a_correlation_is_no_percentage() -> None:
    figure = tradeoff(MODELS, 500, "t", "spearman")
    assert tooltips(figure)[1].startswith("slow: 0.900 (0.890 to 0.910)")
    assert "%" not in figure
    shares = tooltips(tradeoff(MODELS, 500, "t", "ndcg_10"))
    assert shares[1].startswith("slow: 90.0% (89.0 to ")
