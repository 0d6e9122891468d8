"""A comparison as a table, as HTML and as plain values."""

from __future__ import annotations

import numpy as np

from flows.compared import ComparisonView
from pipeline.measure.measurements import Latency, Measurements, ModelMeasurement
from pipeline.release import recorded
from pipeline.release.compare import judge
from pipeline.release.comparison import Compared
from pipeline.terms.vocabulary import Target


def compared() -> Compared:
    """A candidate that takes half the time and loses one of four hundred rows."""
    rows = np.random.default_rng(0).lognormal(0, 0.2, (9, 60))
    then = Latency(samples={"baseline": rows.tolist()})
    now = Latency(samples={"candidate": (rows / 2).tolist()})
    sure, wrong = [1.0, 0.0], [0.0, 1.0]
    sides = {
        "candidate": ModelMeasurement(
            digest="c", size=5_000_000, parameters=10, answers=[wrong] + [sure] * 399
        ),
        "baseline": ModelMeasurement(
            digest="b", size=10_000_000, parameters=20, answers=[sure] * 400
        ),
    }
    measured = Measurements(
        machine={}, task="text-classification", labels=["a", "b"], truth=[0] * 400,
        models=sides, latency={},
    )  # fmt: skip
    return Compared(
        names={"candidate": "mine", "baseline": "production"}, measurements=measured,
        latency={"candidate": now, "baseline": then},
        times=recorded.change(now, then, 0.05), margin=0.05, recorded="run.json",
    )  # fmt: skip


def test_both_sides_stand_beside_each_other_with_their_change():
    found = compared()
    view = ComparisonView(found, judge(found, 0.05, Target()))
    rows = {row[0].split()[0]: row for row in view.rows()}
    assert "1 of 400 rows differ: 0 better, 1 worse" in rows["agreement"][3]
    assert "faster by more than" in rows["latency"][3]
    assert "0.500×" in rows["size"][3]
    assert "0.500×" in rows["parameters"][3]
    assert "mine" in repr(view)
    assert "accuracy max_regression" in repr(view), "the verdict below it"
    assert view._repr_html_().count("<tr>") == 1 + len(view.rows())
    assert view.as_json()["accuracy"]["losses"] == 1


def test_without_a_verdict_there_is_the_table_alone():
    view = ComparisonView(compared())
    assert "max_regression" not in repr(view)
